"""The real bucket that the registry's tests use, and a server that answers what a test says."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest

from tests.registry.conftest import bucket, emulator

__all__ = ["bucket", "emulator"]


class Turns(list[Any]):
    """Answers in turn."""


@pytest.fixture
def answers() -> Iterator[tuple[str, dict[str, Any]]]:
    """A server's address, and what it answers by path, without the query.

    A number is a status, a tuple a status with a text, `Turns` what is answered in turn, its last for good, a function
    what it gives.
    """
    said: dict[str, Any] = {}
    with serving(said) as server:
        yield f"http://127.0.0.1:{server.server_port}", said


@contextmanager
def serving(said: Mapping[str, Any], port: int = 0) -> Iterator[ThreadingHTTPServer]:
    """A server of these answers, on a port if it is given; see `answers`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = said[unquote(self.path.partition("?")[0])]
            if isinstance(found, Turns):
                found = found.pop(0) if len(found) > 1 else found[0]
            found = found() if callable(found) else found
            status, found = found if isinstance(found, tuple) else (found if isinstance(found, int) else 200, found)
            body = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()
