"""What a scorer may use: time, memory, output. Owns the limits, their sources, and how one that was hit is told."""

import os
import re
import resource
from dataclasses import dataclass

from mlops_registry.errors import BadInputError, ScorerError

LONGEST_ANSWER = 64 << 10
"""Bytes of one answer; more answers than rows are not taken either."""
_SCRATCH = 256 << 20
_SECONDS, _CPU, _MEMORY = "MLOPS_SCORER_SECONDS", "MLOPS_SCORER_CPU_SECONDS", "MLOPS_SCORER_MEMORY_MB"
# What Node, Java and Python say when the kernel gives them no more.
_SHORT_OF_MEMORY = re.compile(rb"out of memory|OutOfMemory|insufficient memory|Cannot allocate|bad_alloc|MemoryError")


@dataclass(frozen=True)
class Limits:
    """Limits of one scorer.

    Attributes:
        seconds: of wall time, for all of a verification, or for one answer of a prediction.
        cpu_seconds: of all its cores together.
        memory_mb: of its own data. Not its address space: the JVM and V8 reserve far more of that than they use.
    """

    seconds: int
    cpu_seconds: int
    memory_mb: int

    @classmethod
    def from_environment(cls) -> "Limits":
        """The defaults, or what the environment says.

        Raises:
            BadInputError: a variable is no whole number.
        """
        return cls(_number(_SECONDS, 900), _number(_CPU, 3600), _number(_MEMORY, 4096))

    def applied(self, command: list[str]) -> list[str]:
        """The command that runs another one within the limits that the kernel keeps."""
        options = (f"--cpu={self.cpu_seconds}", f"--data={self.memory_mb << 20}", f"--fsize={_SCRATCH}", "--core=0")
        return ["prlimit", *options, *command]

    def timed_out(self) -> ScorerError:
        """The error of a scorer that was stopped for the wall time it took."""
        return _told(f"took longer than {self.seconds} s of wall time", _SECONDS)

    def hit(self, said: bytes, used: resource.struct_rusage) -> ScorerError | None:
        """The error of the limit that ended a scorer, by what it said last and what it used; None if it was none."""
        if used.ru_utime + used.ru_stime > self.cpu_seconds - 1:
            return _told(f"used more than {self.cpu_seconds} s of CPU time", _CPU)
        if _SHORT_OF_MEMORY.search(said):
            return _told(f"needed more than {self.memory_mb} MB of memory", _MEMORY)
        return None


def _told(what: str, variable: str) -> ScorerError:
    return ScorerError(f"the scorer {what} and was stopped, which says nothing of the version: raise {variable}")


def _number(variable: str, default: int) -> int:
    text = os.environ.get(variable) or str(default)
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise BadInputError(f"{variable}={text!r} is not a whole number from 1 to 999999999")
    return int(text)
