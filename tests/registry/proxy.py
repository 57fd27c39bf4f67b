"""A proxy before the bucket that fails in the ways networks and servers do."""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Self

import aiohttp
from aiohttp import web

# pass: forward. 503: answer that. reset: drop the connection. lost: forward, then drop the connection instead of the
# answer. hold: wait for `release`, then forward. after: forward, then hold back the answer. endless: answer with bytes
# for as long as anybody reads them.
Action = Literal["pass", "503", "reset", "lost", "hold", "after", "endless"]


@dataclass(frozen=True)
class Seen:
    """A request: its number from 0, method and target."""

    number: int
    method: str
    target: str

    @property
    def writes(self) -> bool:
        """Whether it is an upload."""
        return self.method == "POST" and "/upload/" in self.target


@dataclass
class Proxy:
    """Forwards to `upstream`, except where `rule` says otherwise."""

    upstream: str
    rule: Callable[[Seen], Action] = lambda _: "pass"
    seen: list[Seen] = field(default_factory=list)
    uploads: int = 0
    held: int = 0
    address: str = ""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._changed = threading.Condition()
        started = threading.Event()
        self._thread = threading.Thread(target=self._serve, args=(started,), daemon=True)
        self._thread.start()
        started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def wait_held(self, count: int = 1) -> None:
        """Wait until so many requests are held."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.held >= count, timeout=120):
                raise TimeoutError(f"{self.held} of {count} requests came")

    def release(self) -> None:
        """Let the held requests go on, and hold no more."""
        self._loop.call_soon_threadsafe(self._released.set)

    def _serve(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._run(started))
        self._loop.close()

    async def _run(self, started: threading.Event) -> None:
        self._released, self._stop = asyncio.Event(), asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(auto_decompress=False) as self._session:
            started.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        seen = Seen(len(self.seen), request.method, request.raw_path)
        self.seen.append(seen)
        body = await request.read()
        # Resumable and multipart uploads have the object's name in the body.
        if seen.writes:
            seen = Seen(self.uploads, seen.method, f"{seen.target} {body[:2000].decode(errors='replace')}")
            self.uploads += 1
        action = self.rule(seen)
        if action == "503":
            return web.Response(status=503, text="busy")
        if action == "reset":
            return self._drop(request)
        if action == "endless":
            return await self._endless(request)
        if action == "hold":
            await self._hold()
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in {"host", "content-length"}
        }
        async with self._session.request(
            request.method,
            self.upstream + request.raw_path,
            data=body,
            headers=headers,
            skip_auto_headers=["User-Agent"],
        ) as answer:
            content = await answer.read()
            kept = {n: v for n, v in answer.headers.items() if n.lower() not in {"transfer-encoding", "content-length"}}
        if action == "after":
            await self._hold()
        if action == "lost":
            return self._drop(request)
        return web.Response(status=answer.status, body=content, headers=kept)

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(b"x" * (64 << 10))
        return response

    async def _hold(self) -> None:
        with self._changed:
            self.held += 1
            self._changed.notify_all()
        await self._released.wait()

    def _drop(self, request: web.Request) -> web.Response:
        if request.transport:
            request.transport.abort()
        return web.Response()
