"""Who may start when: a machine's cores and memory, shared out in order of arrival.

Owns: capacity and the queue. Deliberately not: what the resources are for, nor any limit on what is really used.
"""

import asyncio
import os
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

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


class Scheduler:
    """Grants resources strictly in the order of asking, so that a large request is never starved by small ones."""

    def __init__(self, capacity: Resources) -> None:
        self.capacity = capacity
        self._free = capacity
        self._queue: deque[tuple[Resources, asyncio.Future[None]]] = deque()

    def check(self, need: Resources, what: str) -> None:
        """Refuse what could never start.

        Raises:
          EmbeddedError: The machine is too small.
        """
        if not need.fits(self.capacity):
            raise EmbeddedError(
                f"{what} asks for {need.cpu} MHz and {need.memory} MiB, and this machine has {self.capacity.cpu} MHz"
                f" ({MHZ_A_CORE} a core) and {self.capacity.memory} MiB, so it would wait for ever; ask for less in the"
                " stack's variables"
            )

    @asynccontextmanager
    async def granted(self, need: Resources) -> AsyncIterator[None]:
        """Wait in the queue for the resources and hold them."""
        turn = asyncio.get_running_loop().create_future()
        self._queue.append((need, turn))
        self._serve()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._give_back(need)
            else:
                self._queue.remove((need, turn))
                self._serve()
            raise
        try:
            yield
        finally:
            self._give_back(need)

    def _give_back(self, need: Resources) -> None:
        self._free += need
        self._serve()

    def _serve(self) -> None:
        while self._queue and self._queue[0][0].fits(self._free):
            need, turn = self._queue.popleft()
            self._free -= need
            turn.set_result(None)
