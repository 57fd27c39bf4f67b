"""What every HTTP answer of the engine shares: how a body is read, how errors are said, how a log is followed.

Owns: one-line errors, bounds on a body, streaming of output files. Deliberately not: who may ask (`loopback`), and any
engine's paths.
"""

import asyncio
import base64
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from mlops.engines.embedded.errors import EmbeddedError
from mlops.engines.embedded.loopback import refusal

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_FOLLOW_SECONDS = 0.1


@web.middleware
async def errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Say every error in one line, and refuse a body that a form in a web page could have sent."""
    if request.method in ("POST", "PUT") and request.content_type != "application/json":
        return refusal(415, "the content type must be application/json")
    try:
        return await handler(request)
    except EmbeddedError as error:
        return refusal(error.status, str(error))
    except RecursionError:
        return refusal(400, "the definition is nested too deeply")
    except (web.HTTPException, ConnectionError):
        raise
    except Exception as error:  # noqa: BLE001 - whoever asks gets a line, the log gets the rest
        _log.exception("%s %s", request.method, request.path)
        return refusal(
            500,
            f"the embedded engine failed at {request.method} {request.path} ({type(error).__name__}); what happened is"
            " in its log, supervisor.log in the state folder",
        )


async def body_of(request: web.Request) -> dict[str, object]:
    """The JSON object that a request carries."""
    try:
        found = json.loads(await request.read() or b"{}")
    except ValueError as error:
        raise EmbeddedError("the body is not JSON") from error
    if not isinstance(found, dict):
        raise EmbeddedError("the body is not a JSON object")
    return found


def flag(request: web.Request, name: str) -> bool:
    """A query parameter that is true or false, in any spelling that Go accepts."""
    value = request.query.get(name, "").lower()
    if value not in ("", "1", "t", "true", "0", "f", "false"):
        raise EmbeddedError(f"failed to parse {name} field to boolean")
    return value in ("1", "t", "true")


async def stream(
    request: web.Request, path: Path, *, offset: int, plain: bool, alive: Callable[[], bool] | None
) -> web.StreamResponse:
    """Send a file, and what is added to it for as long as `alive` says; framed as Nomad frames it unless `plain`."""
    response = web.StreamResponse(headers={"Content-Type": "text/plain" if plain else "application/json"})
    await response.prepare(request)
    while True:
        # Asked before reading: what was written before the end is then read for certain.
        more = alive is not None and alive()
        while data := _read(path, offset):
            if plain:
                await response.write(data)
            else:
                frame = {"File": path.name, "Offset": offset, "Data": base64.b64encode(data).decode()}
                await response.write(json.dumps(frame).encode())
            offset += len(data)
        if not more:
            break
        # Only while somebody watches; nothing here wakes up otherwise.
        await asyncio.sleep(_FOLLOW_SECONDS)
    await response.write_eof()
    return response


def _read(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(_CHUNK)
    except FileNotFoundError:  # the task has not started yet
        return b""
