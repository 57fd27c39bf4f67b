"""A feed on loopback, as the supervisor runs it, and a way to speak to it."""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from mlops.feed import make_app, make_tls

CARAVAN = Path(__file__).resolve().parents[2] / ".cache/data/Caravan.csv"
CLIENT_ID, CLIENT_SECRET = "consumer-key", "consumer-secret"


@dataclass(frozen=True)
class Answer:
    """One answer over HTTPS."""

    status: int
    body: bytes
    json: Any


@dataclass(frozen=True)
class RunningFeed:
    """A feed that listens: where, and the authority that its clients trust."""

    url: str
    ca: bytes

    def ask(self, method: str, path: str, *, token: str | None = None, **keywords: Any) -> Answer:
        """Ask it once, checking its certificate against its own authority alone."""

        async def once() -> Answer:
            context = ssl.create_default_context(cadata=self.ca.decode())
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with (
                ClientSession() as session,
                session.request(method, self.url + path, ssl=context, headers=headers, **keywords) as answer,
            ):
                body = await answer.read()
                is_json = answer.content_type == "application/json"
                return Answer(answer.status, body, await answer.json() if is_json else None)

        return asyncio.run(once())

    def login(self, client_id: str = CLIENT_ID, client_secret: str = CLIENT_SECRET) -> Answer:
        """Ask for a token."""
        form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": client_secret}
        return self.ask("POST", "/services/oauth2/token", data=form)

    def query(self, soql: str, token: str | None = None) -> Answer:
        """Ask a query, with a token of its own unless one is given."""
        token = token or self.login().json["access_token"]
        return self.ask("GET", "/services/data/v60.0/query", token=token, params={"q": soql})


@contextlib.contextmanager
def _serve(**options: Any) -> Iterator[RunningFeed]:
    context, ca = make_tls(["localhost"])
    loop = asyncio.new_event_loop()
    runner = web.AppRunner(make_app(CARAVAN, CLIENT_ID, CLIENT_SECRET, **options))

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        return runner.addresses[0][1]

    port = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield RunningFeed(f"https://localhost:{port}", ca)
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture
def serve() -> Callable[..., contextlib.AbstractContextManager[RunningFeed]]:
    """Start a feed with options of `make_app`."""
    return _serve


@pytest.fixture(scope="session")
def feed() -> Iterator[RunningFeed]:
    """One feed with a page size that makes paging happen."""
    with _serve(batch_size=700) as running:
        yield running
