"""What is said to a scorer and what it answers: rows in, predictions out, streaming, in bounded memory."""

import math
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple, Self

from mlops_registry.errors import BadInputError, ScorerError, one_line
from mlops_registry.manifest import loads

from . import Scorer, process
from .limits import LONGEST_ANSWER, Limits

_PART = 8 << 10


class Answer(NamedTuple):
    """What a model says of a row; the label is None where it gives none."""

    prediction: float
    label: str | None = None


def score(scorer: Scorer, version: Path, rows: Iterable[str], *, in_all: bool = False) -> Iterator[Answer]:
    """Score rows in order.

    Args:
        scorer: of the version's format.
        version: its local folder.
        rows: JSON objects as text, of one line each; read only as fast as the program takes them.
        in_all: whether the limit of wall time is for all rows, and not for each answer.

    Yields:
        One answer a row.

    Raises:
        ScorerError: the program failed, reached a limit or answered something else.
        UnconfinedError: it cannot be confined here.
    """
    limits = Limits.from_environment()
    fed = _Feed(rows)
    answers = 0
    with process.started(scorer.command(version), [version / "model", *scorer.visible()], limits) as running:
        threading.Thread(target=fed.run, args=(running.stdin,), daemon=True).start()
        with _Clock(limits.seconds, fed, running, in_all=in_all) as clock:
            while line := clock.line():
                answers += 1
                if len(line) > LONGEST_ANSWER or answers > fed.sent:
                    beyond = (
                        f"an answer of over {LONGEST_ANSWER} bytes" if answers <= fed.sent else "more rows than given"
                    )
                    raise ScorerError(f"the scorer answered {beyond}, beyond its limit of output", definite=True)
                yield answer(line)
            code, used = running.wait()
        if clock.expired:
            raise limits.timed_out()
        if fed.failure:
            raise fed.failure
        if code not in (0, 2) and (limit := limits.hit(running.said, used)):
            raise limit
        if code != 0:
            said = running.said.decode(errors="replace").strip().splitlines()
            message = one_line(said[-1]) if said else "no message"
            raise ScorerError(f"the scorer ended with {code}: {message}", definite=code == 2)
    if answers != fed.sent:
        raise ScorerError(f"the scorer answered {answers} of {fed.sent} rows", definite=True)


def answer(line: bytes) -> Answer:
    """Read one answer, strictly.

    Raises:
        ScorerError: it is none.
    """
    try:
        said = loads(line, "an answer of the scorer")
        value, label = said.pop("prediction"), said.pop("label", None)
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not said and number and isinstance(label, str | None):
            return Answer(float(value), label)
    except (BadInputError, KeyError, TypeError, AttributeError):
        pass
    shown = one_line(line[:200].decode(errors="replace"))
    raise ScorerError(f"the scorer answered {shown!r} instead of a prediction", definite=True)


class _Feed:
    """Writes the rows beside the reading, as either pipe may be full.

    Attributes:
        sent: how many rows the scorer was given.
        at: when the last of them was.
        failure: what the rows' source raised.
    """

    def __init__(self, rows: Iterable[str]):
        self._source = rows
        self.sent = 0
        self.at = time.monotonic()
        self.failure: BaseException | None = None

    def run(self, stdin: IO[bytes]) -> None:
        try:
            with stdin:
                for rows in self._parts():
                    self.sent += len(rows)
                    stdin.write(b"".join(rows))
                    stdin.flush()
                    self.at = time.monotonic()
        except BrokenPipeError:
            pass  # the program ended early; its exit code says why
        except BaseException as error:  # noqa: BLE001 (raised again where the predictions are read)
            self.failure = error

    def _parts(self) -> Iterator[list[bytes]]:
        """The rows in parts of about what a pipe takes."""
        part, size = [], 0
        for row in self._source:
            part.append(row.encode() + b"\n")
            size += len(part[-1])
            if size >= _PART:
                yield part
                part, size = [], 0
        yield part


class _Clock:
    """Ends a scorer that takes too long: in all, or while it owes an answer that is waited for."""

    def __init__(self, seconds: float, fed: _Feed, running: process.Process, *, in_all: bool):
        self.expired = False
        self._seconds = seconds
        self._fed = fed
        self._running = running
        self._answers = 0
        self._began = time.monotonic()
        self._waits: float | None = None
        self._in_all = in_all
        self._over = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def line(self) -> bytes:
        """The next line that the scorer writes; empty at the end."""
        self._waits = time.monotonic()
        try:
            return self._running.stdout.readline(LONGEST_ANSWER + 1)
        finally:
            self._waits = None
            self._answers += 1

    def _watch(self) -> None:
        while not self._over.wait(0.2):
            if time.monotonic() - self._since() > self._seconds:
                self.expired = True
                self._running.kill()
                return

    def _since(self) -> float:
        if self._in_all:
            return self._began
        waits = self._waits
        owes = self._fed.sent > self._answers
        return time.monotonic() if waits is None or not owes else max(waits, self._fed.at)
