"""The bucket's front: fake-gcs-server behind a check of each request; a program of its own, which `bucket` starts.

The emulator keeps an object in a file of the object's name, answers whoever asks, and takes names in a dozen ways. So
it runs where only this program reaches it, and gets only those requests that the clients of this project make (Google's
libraries for Python and Node, Spark's connector, curl), written anew from what was understood of them.

Owns: which requests those are, which names a bucket and an object may have, bodies passed on in both directions as they
come. Deliberately not: who may ask (`loopback`), and what the emulator does. It ends when its standard input does.
"""

import argparse
import asyncio
import contextlib
import json
import os
import re
import resource
import shutil
import socket
import sys
import zlib
from collections.abc import AsyncIterator, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from mlops.engines.embedded import attributes
from mlops.engines.embedded.loopback import Peers, guard, refusal

_START_SECONDS = 30.0
_END_SECONDS = 2.0
_BACKLOG = 512
_TEMPORARY = ".writing"
"""Where the emulator writes a file before it moves it to its place; it must be on the same mount."""
_METADATA_BYTES = 1 << 20  # of an object's metadata in a body; Cloud Storage takes a small part of it
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{0,220}[a-z0-9]")
_NAME_BYTES = 1024
_PART_BYTES = 255 - 24  # of a file's name, less what the emulator adds while it writes it
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_ASKED = {
    *("accept", "accept-encoding", "cache-control", "content-disposition", "content-encoding", "content-language"),
    *("content-length", "content-range", "content-type", "if-match", "if-none-match", "range", "user-agent"),
    *("x-goog-hash", "x-guploader-no-308"),
}
"""Headers that are passed on, beside an object's own metadata (x-goog-meta-...)."""
_UNSAID = re.compile(r"access-control-.*|connection|keep-alive|transfer-encoding|trailer|upgrade", re.IGNORECASE)
"""Headers of an answer that are not: what a web page may read, and what is of one connection alone."""


class RefusedError(Exception):
    """A request that is not passed on; the message is one line."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Passed(NamedTuple):
    """What of a request is passed on."""

    path: str
    query: list[tuple[str, str]]
    body: Any
    headers: Mapping[str, str]


def bucket_name(text: str) -> str:
    """A bucket's name."""
    if not _BUCKET.fullmatch(text):
        raise RefusedError(400, f"invalid bucket name {text[:300]!r}")
    return text


def object_name(text: str) -> str:
    """An object's name, which is a path below its bucket's folder; a closing slash stands for a folder.

    Raises:
      RefusedError: It is none, or would lead elsewhere or to another object's file.
    """
    try:
        parts = [(part, len(part.encode())) for part in text.removesuffix("/").split("/")]
    except UnicodeEncodeError:  # half of a character, which JSON can hold
        raise RefusedError(400, f"invalid object name {text[:300]!r}: it is not Unicode") from None
    if (
        any(part in ("", ".", "..") or size > _PART_BYTES for part, size in parts)
        or _CONTROL.search(text)
        or len(text.encode()) > _NAME_BYTES
    ):
        raise RefusedError(
            400,
            f"invalid object name {text[:300]!r}: it takes a path without empty, . and .. parts and control characters,"
            f" of {_NAME_BYTES} bytes at most, and of {_PART_BYTES} in a part",
        )
    return text


class Front:
    """Passes requests on.

    Args:
        upstream: Base URL of the emulator.
        host: How clients name this server; links in answers lead there.
        session: To ask the emulator by.
    """

    def __init__(self, upstream: str, host: str, session: aiohttp.ClientSession) -> None:
        self._upstream = upstream
        self._host = host
        self._session = session

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        try:
            passed = await _passed(request)
        except RefusedError as error:
            print(f"refused: {error}", file=sys.stderr, flush=True)
            return refusal(error.status, str(error))
        url = URL(self._upstream + passed.path + (f"?{urlencode(passed.query)}" if passed.query else ""), encoded=True)
        try:
            asking = self._session.request(
                request.method, url, headers={**passed.headers, "Host": self._host}, data=passed.body,
                allow_redirects=False,
            )  # fmt: skip
            async with asking as said:
                return await _relayed(request, said)
        except aiohttp.ClientError as error:
            return refusal(503, f"the bucket does not answer: {error}")


async def _relayed(request: web.BaseRequest, said: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = CIMultiDict((name, value) for name, value in said.headers.items() if not _UNSAID.fullmatch(name))
    answer = web.StreamResponse(status=said.status, reason=said.reason, headers=headers)
    await answer.prepare(request)
    try:
        async for chunk in said.content.iter_any():
            await answer.write(chunk)
    except (aiohttp.ClientError, ConnectionError):
        # Half of an answer must not look like one.
        if request.transport is not None:
            request.transport.abort()
        return answer
    await answer.write_eof()
    return answer


async def _passed(request: web.BaseRequest) -> Passed:
    """What of a request is passed on."""
    path, _, text = request.raw_path.partition("?")
    try:
        segments = [unquote(part, errors="strict") for part in path.split("/")[1:]]
        query = parse_qsl(text, keep_blank_values=True, errors="strict")
    except UnicodeDecodeError:
        raise RefusedError(400, "the path or the query is not UTF-8") from None
    headers = {
        name: value
        for name, value in request.headers.items()
        if name.lower() in _ASKED or name.lower().startswith("x-goog-meta-")
    }
    body: Any = request.content if request.body_exists else None
    match request.method, segments:
        case "POST", ["storage", "v1", "b"]:
            pass  # the emulator itself knows which names a new bucket may have, and they are narrow
        case "GET", ["storage", "v1", "b", bucket]:
            bucket_name(bucket)
        case "GET", ["storage", "v1", "b", bucket, "o"]:
            bucket_name(bucket)
        case "GET" | "HEAD" | "PATCH" | "PUT" | "DELETE", ["storage", "v1", "b", bucket, "o", name]:
            _places((bucket, name))
        case "GET" | "HEAD", ["download", "storage", "v1", "b", bucket, "o", name]:
            _places((bucket, name))
        case "POST", ["storage", "v1", "b", bucket, "o", name, "rewriteTo" | "copyTo", "b", to_bucket, "o", to_name]:
            _places((bucket, name), (to_bucket, to_name))
        case "POST", ["storage", "v1", "b", bucket, "o", name, "compose"]:
            _places((bucket, name))
            body = _composed(await _plain(request, headers))
        case "PUT", ["upload", "storage", "v1", "b", bucket, "o"] if _one(query, "upload_id"):
            bucket_name(bucket)  # a part of an upload, whose name was checked when it began
            query = [pair for pair in query if pair[0] != "name"]
        case "POST", ["upload", "storage", "v1", "b", bucket, "o"]:
            bucket_name(bucket)
            name, body = await _upload(request, query, headers)
            query = [*(pair for pair in query if pair[0] != "name"), ("name", object_name(name))]
        case _:
            raise RefusedError(404, f"{request.method} {path[:300]} is nothing that this bucket answers")
    return Passed("/" + "/".join(quote(part, safe="") for part in segments), query, body, headers)


def _places(*places: tuple[str, str]) -> None:
    for bucket, name in places:
        bucket_name(bucket)
        object_name(name)


def _one(query: Iterable[tuple[str, str]], name: str) -> str:
    """The value of a parameter; empty where it is not given."""
    values = [value for key, value in query if key == name]
    if len(values) > 1:
        raise RefusedError(400, f"the parameter {name} is given more than once")
    return "".join(values)


async def _upload(request: web.BaseRequest, query: list[tuple[str, str]], headers: dict[str, str]) -> tuple[str, Any]:
    """The name of the object that an upload makes, and the body to send.

    A name in the query is the one that counts, so what a body says of it is of no effect once it stands there.
    """
    name, kind = _one(query, "name"), _one(query, "uploadType")
    if _one(query, "upload_id") or kind not in ("media", "multipart", "resumable"):
        raise RefusedError(400, "an upload is begun by uploadType=media, multipart or resumable, without an upload_id")
    if kind == "resumable":
        # The body may name another bucket too, so it is made anew.
        said = _object(await _plain(request, headers))
        return name or _named(said), json.dumps(_metadata(said)).encode()
    if kind == "media" or name:
        return name, request.content
    part, body = await _first_part(request)
    return _named(_object(part)), body


_METADATA = {
    *("cacheControl", "contentDisposition", "contentEncoding", "contentLanguage", "contentType", "crc32c"),
    *("customTime", "md5Hash", "metadata", "storageClass"),
}
"""What of an object's metadata the emulator reads, without its name and its bucket."""


def _composed(text: bytes) -> bytes:
    """What joins objects of a bucket to one, made anew of what was understood of it."""
    said = _object(text)
    sources, destination = said.get("sourceObjects"), said.get("destination", {})
    if not isinstance(sources, list) or not isinstance(destination, dict):
        raise RefusedError(400, "the body names no objects to join")
    names = [object_name(_named(source if isinstance(source, dict) else {})) for source in sources]
    joined = {"sourceObjects": [{"name": name} for name in names], "destination": _metadata(destination)}
    return json.dumps(joined).encode()


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise RefusedError(400, "the body is not a JSON object")
    return found


def _metadata(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if key in _METADATA}


def _named(said: Mapping[str, Any]) -> str:
    name = said.get("name")
    if not isinstance(name, str):
        raise RefusedError(400, "the body names no object")
    return name


async def _plain(request: web.BaseRequest, headers: dict[str, str]) -> bytes:
    """A small body, unpacked; it is sent on in another form, so what the headers say of it is taken out."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > _METADATA_BYTES:
            raise RefusedError(413, f"the body has more than {_METADATA_BYTES} bytes")
    encoding = request.headers.get("Content-Encoding", "").lower()
    for name in [name for name in headers if name.lower() in ("content-encoding", "content-length")]:
        del headers[name]
    if encoding != "gzip":
        return bytes(body)
    unpacking = zlib.decompressobj(wbits=31)
    try:
        found = unpacking.decompress(bytes(body), _METADATA_BYTES)
    except zlib.error:
        raise RefusedError(400, "the body is not gzip") from None
    if not unpacking.eof:
        raise RefusedError(413, f"the body has more than {_METADATA_BYTES} bytes")
    return found


async def _first_part(request: web.BaseRequest) -> tuple[bytes, AsyncIterator[bytes]]:
    """The first part of a multipart body, and the whole body from its beginning."""
    if "Content-Encoding" in request.headers:
        raise RefusedError(415, "a packed body of several parts is read only with the object's name in the query")
    found = re.search(r"""boundary=(?:"([^"]+)"|'([^']+)'|([^\s;]+))""", request.headers.get("Content-Type", ""))
    if not found:
        raise RefusedError(400, "the body's Content-Type has no boundary")
    boundary = next(filter(None, found.groups())).encode()
    begun = re.compile(
        rb"\A\s*--%b[ \t]*\r?\n(?:[^\r\n]+\r?\n)*\r?\n(.*?)\r?\n--%b" % ((re.escape(boundary),) * 2), re.DOTALL
    )
    read = bytearray()
    while not (match := begun.match(read)):
        if request.content.at_eof() or len(read) > _METADATA_BYTES:
            raise RefusedError(400, f"the body does not begin with a part of at most {_METADATA_BYTES} bytes")
        read += await request.content.readany()

    async def whole() -> AsyncIterator[bytes]:
        yield bytes(read)
        async for chunk in request.content.iter_any():
            yield chunk

    return match[1], whole()


async def _serve(arguments: argparse.Namespace) -> int:
    # A connection of a client takes two files here.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    listening = socket.socket(fileno=arguments.listen)
    peers = Peers(socket.socket(fileno=arguments.peers))
    if repaired := attributes.repair(arguments.folder):
        print(f"{repaired} objects without attributes got new ones, without metadata of their own", file=sys.stderr)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    host = "{}:{}".format(*listening.getsockname())
    temporary = arguments.folder / _TEMPORARY
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    emulator = await asyncio.create_subprocess_exec(
        *("setpriv", "--pdeathsig", "KILL", arguments.emulator),
        *("-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "filesystem"),
        *("-filesystem-root", str(arguments.folder), "-public-host", host, "-external-url", f"http://{host}"),
        *("-log-level", "warn"),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=sys.stderr,
        cwd=arguments.folder,
        env={"PATH": os.defpath, "TMPDIR": str(temporary)},
    )
    ended = asyncio.ensure_future(emulator.wait())
    try:
        async with asyncio.timeout(_START_SECONDS):
            while not await _listens(port):
                if ended.done():
                    return 1
                await asyncio.sleep(0.01)
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), over.set)  # nobody writes there: it has ended
        connector = aiohttp.TCPConnector(limit=0, use_dns_cache=False)
        async with aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_START_SECONDS),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        ) as session:
            front = Front(f"http://127.0.0.1:{port}", host, session)
            checked = guard(peers, arguments.uid)
            server = web.Server(lambda request: checked(request, front.handle), auto_decompress=False, access_log=None)
            listener = await loop.create_server(server, sock=listening, backlog=_BACKLOG)
            print("ready", flush=True)
            finished = asyncio.ensure_future(over.wait())
            await asyncio.wait({finished, ended}, return_when=asyncio.FIRST_COMPLETED)
            finished.cancel()
            listener.close()
            await server.shutdown(_END_SECONDS)
        return 1 if ended.done() else 0
    finally:
        if not ended.done():
            emulator.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(ended), _END_SECONDS)


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


def main() -> None:
    """Run as the bucket's program; `bucket` gives the arguments."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--emulator", required=True)
    parser.add_argument("--listen", type=int, required=True)
    parser.add_argument("--peers", type=int, required=True)
    parser.add_argument("--uid", type=int, required=True)
    sys.exit(asyncio.run(_serve(parser.parse_args())))


if __name__ == "__main__":
    main()
