"""One Nomad region at a port of this machine: each connection to it becomes a tunnel to a live server.

Owns what becomes of a connection when there is no server, or it dies. It deliberately looks at nothing that passes:
TLS is between the client and Nomad.
"""

import asyncio
import os
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress

from mlops.tunnel import gcloud
from mlops.tunnel.gcloud import Server, TunnelError

_CHUNK = 64 * 1024
_FOUND_SECONDS = 20
"""For so long a list of servers is not asked for again, and a server that failed is asked last."""
_LINGER_SECONDS = 5
"""gcloud ends both directions when its input does, so it is kept open while a client that has ended its own direction
may still be owed an answer: until the server was silent for so long."""


class Listener:
    """Leads the connections to 127.0.0.1:`port` to a Nomad region of a project.

    Args:
        project: Id of the project.
        region: Name of the Nomad region.
        port: The local port.
        tell: Is given a line for each kind of failure that is not only the client's.
    """

    def __init__(self, project: str, region: str, port: int, tell: Callable[[str], None]) -> None:
        self.project, self.region, self.port = project, region, port
        self._tell = tell
        self._told: set[str] = set()
        self._asking = asyncio.Lock()
        self._found: list[Server] = []
        self._found_at = -float("inf")
        self._failed: dict[Server, float] = {}
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen, for as long as the event loop runs; what is under way at its end is cut off.

        Raises:
            TunnelError: The port is taken.
        """
        try:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        except OSError as error:
            raise TunnelError(
                f"127.0.0.1:{self.port} cannot be listened on ({os.strerror(error.errno or 0)}), so Nomad region "
                f"{self.region} has no address here; end what uses the port (another `mlops tunnel`?), or change "
                f"hybrid-mlops:nomad.regions.{self.region}.local_port"
            ) from None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        whole = False
        try:
            whole = await self._lead(_Client(reader, writer))
        except TunnelError as error:
            self._once(str(error))
        except (ConnectionError, BrokenPipeError):
            pass  # the client has gone
        finally:
            if whole:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()
            else:
                # Closed with this option it is a reset: what was cut off must not look like an answer's end.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()

    async def _lead(self, client: "_Client") -> bool:
        """Lead a connection to one server after the other until one answers; whether it came to an orderly end."""
        servers = await self._candidates()
        if not servers:
            self._once(
                f"Nomad region {self.region} has no running server, so connections to it are refused; "
                "`mlops tunnel` looks anew at each"
            )
        for server in servers:
            async with gcloud.tunnel(self.project, server) as process:
                answered = await client.converse(process)
            if answered:
                self._told.clear()
                return process.returncode == 0 or client.ended
            if client.ended and not client.owed:
                return True
            self._failed[server] = time.monotonic()
            self._once(f"no tunnel to {server.name} ({server.zone}): {gcloud.reason(client.errors)}")
            if not client.repeatable:
                break
        self._found_at = -float("inf")
        return False

    async def _candidates(self) -> list[Server]:
        async with self._asking:
            if not self._found or time.monotonic() - self._found_at > _FOUND_SECONDS:
                self._found = await gcloud.live_servers(self.project, self.region)
                self._found_at = time.monotonic()
        recently = time.monotonic() - _FOUND_SECONDS
        return sorted(self._found, key=lambda server: self._failed.get(server, -float("inf")) > recently)

    def _once(self, line: str) -> None:
        if line not in self._told:
            self._told.add(line)
            self._tell(line)


class _Client:
    """A client's connection.

    Attributes:
        ended: Whether the client has said everything.
        owed: Whether it has said anything at all.
        repeatable: Whether everything that it said can be said again, to another server.
        errors: What the last tunnel said of itself.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._said = bytearray()
        self._moved_at = time.monotonic()
        self.ended = False
        self.owed = False
        self.repeatable = True
        self.errors = b""

    async def converse(self, process: asyncio.subprocess.Process) -> bool:
        """Pass everything on in both directions until the server's has ended; whether it said anything."""
        assert process.stdout  # noqa: S101  a pipe, by `gcloud.tunnel`
        assert process.stderr  # noqa: S101
        tasks = [
            asyncio.create_task(self._pass_on(process)),
            asyncio.create_task(process.stderr.read()),
        ]
        answered = False
        try:
            while data := await process.stdout.read(_CHUNK):
                answered = True
                # The first thing that a client of TLS says does nothing; after an answer that would not be sure.
                self.repeatable = False
                self._said.clear()
                self._moved_at = time.monotonic()
                self._writer.write(data)
                await self._writer.drain()
            self.errors = await tasks[1]
            await process.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return answered

    async def _pass_on(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin  # noqa: S101
        with suppress(ConnectionError):  # the tunnel has ended, which its output tells too
            process.stdin.write(bytes(self._said))
            while not self.ended:
                await process.stdin.drain()
                data = await self._hear()
                if self.repeatable:
                    self._said += data
                    self.repeatable = len(self._said) <= _CHUNK
                process.stdin.write(data)
        while self.owed and (left := self._moved_at + _LINGER_SECONDS - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)
        process.stdin.close()

    async def _hear(self) -> bytes:
        try:
            data = await self._reader.read(_CHUNK)
        except ConnectionError:  # it has gone, and waits for nothing
            self.ended, self.owed = True, False
            return b""
        self._moved_at = time.monotonic()
        self.ended = not data
        self.owed = self.owed or bool(data)
        return data
