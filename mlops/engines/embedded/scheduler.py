"""Who may start when: a machine's cores and memory, shared out in order of arrival.

Owns: capacity and the queue. Deliberately not: what the resources are for, nor any limit on what is really used.
"""

import asyncio
import bisect
import itertools
import math
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NamedTuple

from mlops.engines.embedded.errors import EmbeddedError

MHZ_A_CORE = 1000
"""One core counts as this much of Nomad's `cpu`, whatever its clock is."""


@dataclass(frozen=True)
class Resources:
    """CPU in MHz (1,000 a core) and memory in MiB."""

    cpu: int
    memory: int

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.cpu + other.cpu, self.memory + other.memory)

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(self.cpu - other.cpu, self.memory - other.memory)

    @property
    def niceness(self) -> int:
        """What makes Linux weigh processes for cores as Kubernetes does: by what they asked for, up to one core."""
        return min(19, max(0, round(math.log(MHZ_A_CORE / max(1, self.cpu), 1.25))))

    def fits(self, free: "Resources") -> bool:
        """Whether this much is to be had from `free`."""
        return self.cpu <= free.cpu and self.memory <= free.memory

    @staticmethod
    def largest(*each: "Resources") -> "Resources":
        """The most of each kind."""
        return Resources(max(r.cpu for r in each), max(r.memory for r in each))


def machine() -> Resources:
    """This machine: the cores that this process may use, and all memory."""
    return Resources(
        len(os.sched_getaffinity(0)) * MHZ_A_CORE, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    )


_PASSING = 50
"""How far the queue is looked through for what may pass the first: it may be thousands long."""
_TURNS = 50
"""Of the event loop, until all have asked that can: for each DAG inside of another it takes about three."""


class Place(NamedTuple):
    """A place in the queue; the lowest comes first, of equals the first to ask.

    Attributes:
        arrival: Of the run that asks, from `Scheduler.arrive`.
        behind: Among what one run asks for.
    """

    arrival: int
    behind: int = 0


class Scheduler:
    """Grants resources in the order of the queue, so that a large request is never starved by small ones.

    A small request passes a large one only where it cannot delay it: whichever of those that run ends next, there is
    room for the large one then.
    """

    def __init__(self, capacity: Resources) -> None:
        self.capacity = capacity
        self._granted: list[Resources] = []
        self._queue: list[tuple[Place, Resources, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._deciding = False

    def arrive(self) -> int:
        """A number for a run: all that it asks for comes before what later runs ask for."""
        return next(self._numbers)

    def check(self, need: Resources, what: str) -> None:
        """Refuse what could never start."""
        if not need.fits(self.capacity):
            raise EmbeddedError(
                f"{what} asks for {need.cpu} MHz and {need.memory} MiB, and this machine has {self.capacity.cpu} MHz"
                f" ({MHZ_A_CORE} a core) and {self.capacity.memory} MiB, so it would wait for ever; ask for less in the"
                " stack's variables"
            )

    @asynccontextmanager
    async def granted(self, need: Resources, place: Place | None = None) -> AsyncIterator[None]:
        """Wait in the queue for the resources and hold them; without a place, behind all that is there."""
        turn = asyncio.get_running_loop().create_future()
        entry = (place or Place(self.arrive()), need, turn)
        bisect.insort(self._queue, entry, key=lambda each: each[0])
        self._serve_soon()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(need)
            else:
                self._queue = [each for each in self._queue if each is not entry]
                self._serve_soon()
            raise
        try:
            yield
        finally:
            self._give_back(need)

    @property
    def _free(self) -> Resources:
        return self.capacity - sum(self._granted, Resources(0, 0))

    def _give_back(self, need: Resources) -> None:
        self._granted.remove(need)
        self._serve_soon()

    def _serve_soon(self) -> None:
        # Who comes first is decided when all have asked, not by who was the quickest to.
        if not self._deciding:
            self._deciding = True
            self._decide(_TURNS)

    def _decide(self, turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._decide, turns - 1)
            return
        self._deciding = False
        while self._queue and self._queue[0][1].fits(self._free):
            self._grant(self._queue[0])
        for entry in self._queue[1:_PASSING]:
            first, need = self._queue[0][1], entry[1]
            if need.fits(self._free) and all(first.fits(self._free - need + ends) for ends in self._granted):
                self._grant(entry)

    def _grant(self, entry: tuple[Place, Resources, asyncio.Future[None]]) -> None:
        self._queue.remove(entry)
        _, need, turn = entry
        if not turn.cancelled():  # one that does not know it yet
            self._granted.append(need)
            turn.set_result(None)
