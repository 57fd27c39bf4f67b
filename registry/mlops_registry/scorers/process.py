"""A scorer's process: confined, with an empty environment, a scratch folder and limits.

Owns that what is loaded from a bucket gets nothing of whoever loads it: no variable, no network, no file but the model
and the program that scores it, which it cannot change. Deliberately not: what is said to it and what it answers
(`lines`), and how a process is confined (`mlops_registry.confinement`).
"""

import logging
import os
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mlops_registry import confinement
from mlops_registry.errors import BadInputError, ScorerError, UnconfinedError, one_line

from .limits import Limits

CONFINEMENT = "MLOPS_CONFINEMENT"
UNCONFINED = "MLOPS_UNCONFINED"
_STARTED = b"started\n"
_KEPT_LINES = 50
_STRAGGLER_SECONDS = 2
_log = logging.getLogger("mlops_registry")


class Process:
    """A running scorer.

    Attributes:
        stdin: takes rows.
        stdout: gives answers.
    """

    def __init__(self, process: subprocess.Popen[bytes]):
        assert process.stdin and process.stdout and process.stderr  # noqa: S101, PT018 (pipes were asked for)
        self.stdin: IO[bytes] = process.stdin
        self.stdout: IO[bytes] = process.stdout
        self._process = process
        self._lines: deque[bytes] = deque(maxlen=_KEPT_LINES)
        self._lock = threading.Lock()
        self._end: tuple[int, resource.struct_rusage] | None = None
        self._reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        self._reader.start()

    @property
    def said(self) -> bytes:
        """The last lines of its stderr."""
        return b"".join(self._lines)

    def kill(self) -> None:
        """End it, and with it all that it started."""
        with self._lock:
            if self._end is None:
                os.kill(self._process.pid, signal.SIGKILL)

    def wait(self) -> tuple[int, resource.struct_rusage]:
        """Its exit code, and what it used."""
        if self._end is None:
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
            with self._lock:
                _, status, used = os.wait4(self._process.pid, 0)
                self._process.returncode = os.waitstatus_to_exitcode(status)
                self._end = self._process.returncode, used
            # Without namespaces a process that it left behind may hold the pipe open.
            self._reader.join(_STRAGGLER_SECONDS)
        return self._end

    def _read(self, stderr: IO[bytes]) -> None:
        while line := stderr.readline(1 << 10):
            self._lines.append(line)


@contextmanager
def started(command: Sequence[str], visible: Sequence[Path], limits: Limits) -> Iterator[Process]:
    """Start a scorer; it ends with the block, and with the thread that started it.

    Args:
        command: the program and its arguments.
        visible: what it sees, read-only, beside the system's programs and Python's.
        limits: of what it may use.

    Raises:
        ScorerError: there is no such program.
        UnconfinedError: it cannot be confined here.
    """
    program = shutil.which(command[0])
    if program is None:
        raise ScorerError(f"{command[0]} is not there, so the model cannot be loaded: install it")
    with tempfile.TemporaryDirectory(prefix="mlops-scorer-") as folder:
        scratch = Path(folder).resolve()
        # What is said first tells a confinement that failed from a program that failed.
        announced = ["sh", "-c", f'echo {_STARTED.decode().strip()} && exec "$@"', "sh", program, *command[1:]]
        whole = _confined(limits.applied(announced), scratch, [*visible, Path(program)])
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(scratch), "TMPDIR": str(scratch)}
        pipe = subprocess.PIPE
        try:
            popen = subprocess.Popen(whole, cwd=scratch, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        except FileNotFoundError:
            raise _refusal(f"{whole[0]} is not installed") from None
        process = Process(popen)
        try:
            if process.stdout.readline(len(_STARTED)) != _STARTED:
                process.kill()
                process.wait()
                raise _refusal(process.said.decode(errors="replace").strip() or "it ended without a word")
            yield process
        finally:
            process.kill()
            process.wait()


def _refusal(why: str) -> UnconfinedError:
    return UnconfinedError(
        f"the program that loads the model cannot be confined here ({one_line(why)}), so nothing was scored: "
        f"{UNCONFINED}=allow loads it unconfined, if you trust whoever can write to the bucket"
    )


def _confined(command: list[str], scratch: Path, visible: Sequence[Path]) -> list[str]:
    """The command, confined as the environment wants it."""
    wanted = os.environ.get(CONFINEMENT) or "namespaces"
    if wanted not in ("namespaces", "container"):
        raise BadInputError(f"{CONFINEMENT}={wanted!r} is neither namespaces nor container")
    if wanted == "namespaces":
        # Asked only where the answer matters: it costs as much as the confinement itself.
        problem = confinement.problem() if os.environ.get(UNCONFINED) == "allow" else None
        if problem is None:
            return confinement.confined(command, scratch, visible)
        _log.warning("the scorer is not confined, as %s allows: %s", UNCONFINED, one_line(problem))
    return ["setpriv", "--pdeathsig", "KILL", "--nnp", *command]
