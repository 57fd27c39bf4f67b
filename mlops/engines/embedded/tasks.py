"""Processes of tasks: started clean, waited for without polling, ended with everything they started.

Owns: sessions, signals, the end of stragglers, CPU time and peak memory. Deliberately not: what runs, in which order,
or how often.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlops.engines.embedded import launcher, watchdog
from mlops.engines.embedded.errors import EmbeddedError

MARK = "MLOPS_TASK"
_PR_SET_CHILD_SUBREAPER = 36
_CONFINEMENT = {"MLOPS_CONFINEMENT": "namespaces", "MLOPS_UNCONFINED": os.environ.get("MLOPS_UNCONFINED", "")}
"""How what runs here is to confine what it does not trust: as no container does it, whatever a job's own `env` says."""


@dataclass(frozen=True)
class Command:
    """What to run.

    Attributes:
        argv: Program and arguments; the program is looked up on the PATH of `env`.
        env: The whole environment; nothing is inherited.
        stdout: File that output is appended to.
        stderr: File that errors are appended to; may be the same.
        niceness: 0 to 19; each level is a fifth less of the cores where there are too few for all.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path
    stdout: Path
    stderr: Path
    niceness: int = 0


@dataclass(frozen=True)
class Exit:
    """How a process ended and what it used, the children it waited for included."""

    code: int
    signal: int
    cpu_seconds: float
    peak_memory_bytes: int
    wall_seconds: float


class Process:
    """A started process: the leader of a session of its own."""

    def __init__(self, pid: int, mark: bytes, forget: Callable[[int], None]) -> None:
        self.pid = pid
        self._mark = mark
        self._forget = forget
        self._started = time.monotonic()
        self._pidfd = os.pidfd_open(pid)
        self._ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self.weighing: asyncio.Future[None] | None = None  # kept, as the loop itself forgets what runs
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        # Before the leader is reaped its number cannot belong to anyone else.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self.pid, 0)
        os.close(self._pidfd)
        code = os.waitstatus_to_exitcode(status)
        for pid in watchdog.doomed({self.pid}, self._mark):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self._ended.set_result(
            Exit(
                # As containers report it: 128 and the signal's number.
                code=code if code >= 0 else 128 - code,
                signal=max(0, -code),
                cpu_seconds=usage.ru_utime + usage.ru_stime,
                peak_memory_bytes=usage.ru_maxrss * 1024,
                wall_seconds=time.monotonic() - self._started,
            )
        )
        self._forget(self.pid)

    async def wait(self) -> Exit:
        """Wait for the end; cancelling the wait leaves the process alone."""
        return await asyncio.shield(self._ended)

    def send(self, number: int) -> None:
        """Signal the leader, if it still runs."""
        if not self._ended.done():
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    async def weigh(self, niceness: int) -> None:
        """Give its session a niceness: where Linux shares out cores by session, its own counts only within it."""
        with contextlib.suppress(OSError):  # this Linux does not share out so
            while not self._ended.done():
                try:
                    Path(f"/proc/{self.pid}/autogroup").write_text(str(niceness))  # noqa: ASYNC240  it reaches no disk
                except BlockingIOError:  # one session each tenth of a second
                    await asyncio.sleep(0.1)
                else:
                    return

    async def stop(self, number: int, patience: float) -> Exit:
        """Ask it to end by a signal, and kill its whole session when `patience` seconds have passed."""
        self.send(number)
        done, _ = await asyncio.wait({self._ended}, timeout=patience)
        if not done:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        return await self.wait()


class Processes:
    """All processes of one supervisor. They die with it, however it dies."""

    def __init__(self) -> None:
        self._mark = f"{uuid.uuid4()}"
        self._number = 0
        self._starting = 0
        self._alive: dict[int, Process] = {}
        self._launcher = _Launcher()
        self._watchdog: subprocess.Popen[bytes] | None = None
        # Orphans of a task become children of the supervisor, so that their ends are collected here.
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._reap_orphans)
        self._start_watchdog()

    @property
    def mark(self) -> str:
        """What the value of MARK begins with in everything that is to end when the supervisor does."""
        return f"{self._mark}/"

    def _start_watchdog(self) -> None:
        # Isolated and without site-packages: it is small and up in milliseconds.
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, f"{MARK}={self._mark}/"],
            stdin=subprocess.PIPE,
            start_new_session=True,
            env={"PATH": os.defpath},
        )
        descriptor = os.pidfd_open(self._watchdog.pid)
        loop = asyncio.get_running_loop()

        def restart(dead: subprocess.Popen[bytes]) -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            dead.wait()
            if self._watchdog is dead:
                self._start_watchdog()

        loop.add_reader(descriptor, restart, self._watchdog)
        for pid in self._alive:
            self._tell(f"+{pid}\n")

    def _tell(self, line: str) -> None:
        if self._watchdog is not None and self._watchdog.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._watchdog.stdin.write(line.encode())
                self._watchdog.stdin.flush()

    async def start(self, command: Command) -> Process:
        """Start a process in a session of its own.

        Raises:
          EmbeddedError: The program is missing or cannot be started, or its output has nowhere to go.
        """
        program = _which(command.argv[0], command)
        self._number += 1
        mark = f"{self._mark}/{self._number}/"
        self._starting += 1
        try:
            # Not on the loop: many starts at once must not keep anyone waiting for an answer.
            environment = {**command.env, **_CONFINEMENT, MARK: mark}
            launch = asyncio.to_thread(self._launcher.start, program, command, environment)
            pid = await asyncio.shield(launch)
            process = Process(pid, f"{MARK}={mark}".encode(), self._gone)
            self._alive[pid] = process
        finally:
            self._starting -= 1
            self._reap_orphans()
        self._tell(f"+{pid}\n")
        if command.niceness:
            process.weighing = asyncio.ensure_future(process.weigh(command.niceness))
        return process

    async def run(self, command: Command) -> Exit:
        """Start a process and wait for its end; cancelled, it ends the process."""
        starting = asyncio.ensure_future(self.start(command))
        try:
            return await (await asyncio.shield(starting)).wait()
        except asyncio.CancelledError:
            await (await starting).stop(signal.SIGTERM, 5)
            raise

    def _gone(self, pid: int) -> None:
        del self._alive[pid]
        self._tell(f"-{pid}\n")
        self._reap_orphans()

    def _reap_orphans(self) -> None:
        if self._starting:  # one that has just come may end before it is known; asked again when it is
            return
        with contextlib.suppress(ChildProcessError, ProcessLookupError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                # One in the supervisor's own session was started by a library, which waits for it.
                waited_for = ended.si_pid in self._alive or os.getsid(ended.si_pid) == os.getsid(0)
                if waited_for or (self._watchdog is not None and ended.si_pid == self._watchdog.pid):
                    return
                os.waitpid(ended.si_pid, os.WNOHANG)

    async def close(self, patience: float) -> None:
        """End every process: asked first, killed when `patience` seconds have passed."""
        await asyncio.gather(*(process.stop(signal.SIGTERM, patience) for process in list(self._alive.values())))
        watchdog_process, self._watchdog = self._watchdog, None
        if watchdog_process is not None and watchdog_process.stdin is not None:
            watchdog_process.stdin.close()
            watchdog_process.wait()
        self._launcher.close()


class _Launcher:
    """The small process that starts all others; see `launcher`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self._talk = ours.makefile("rw")
            argv = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid())]  # without what would make it large
            self._process = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())

    def start(self, program: str, command: Command, environment: Mapping[str, str]) -> int:
        """Start a program; the id of its process, which is a child of this one."""
        places = {name: str(getattr(command, name)) for name in ("cwd", "stdout", "stderr")}
        how = {"argv": command.argv, "env": environment, "niceness": command.niceness}
        request = json.dumps({"program": program, **how, **places})
        with self._lock:
            if self._process.poll() is not None:
                self._begin()
            print(request, file=self._talk, flush=True)
            said = json.loads(self._talk.readline() or '{"error": "the launcher has ended"}')
        if "error" in said:
            raise EmbeddedError(f"cannot start {command.argv[0]}: {said['error']}")
        return said["pid"]

    def close(self) -> None:
        """End it."""
        self._talk.close()
        self._process.wait()


def _which(name: str, command: Command) -> str:
    if "/" in name:
        return name
    for folder in command.env.get("PATH", os.defpath).split(":"):
        candidate = Path(folder) / name
        if os.access(candidate, os.X_OK) and candidate.is_file():
            return str(candidate)
    raise EmbeddedError(f"cannot start {name}: there is no such program on the task's PATH")
