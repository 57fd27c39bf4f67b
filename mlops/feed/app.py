"""The feed's web application: tokens, queries in pages, plain files.

Owns: the endpoints, who may read and for how long, and the shape of answers and errors. Deliberately not: TLS and
ports. Credentials are compared in constant time and never logged; none is taken from a URL, so no access log has one.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from mlops.feed import data, soql
from mlops.feed.soql import SalesforceError

ORGANIZATION = "00D000000000001EAA"
USER = data.record_id("005", 1)

_CURSORS = 1000  # open queries; the oldest gives way, as at Salesforce
_PAGES = 16  # rendered pages kept: many trainings ask for the same ones at the same time
_CONTENT_TYPES = {".csv": "text/csv", ".json": "application/json"}


def make_app(
    data_file: Path,
    client_id: str,
    client_secret: str,
    *,
    token_ttl: float = 7200,
    batch_size: int = 2000,
) -> web.Application:
    """Make the application that serves `data_file`.

    Args:
      data_file: ISLP's `Caravan.csv`.
      client_id: The connected app's consumer key.
      client_secret: The connected app's consumer secret.
      token_ttl: Seconds after which a token is refused.
      batch_size: Records in one page of a query's answer.

    Raises:
      FeedError: The data file cannot be served.
    """
    feed = _Feed(data.load(data_file), client_id, client_secret, token_ttl, batch_size)
    app = web.Application(middlewares=[_errors])
    app.router.add_post("/services/oauth2/token", feed.token)
    app.router.add_get(r"/services/data/{version:v\d+\.\d}/query", feed.query)
    app.router.add_get(r"/services/data/{version:v\d+\.\d}/query/", feed.query)
    app.router.add_get(r"/services/data/{version:v\d+\.\d}/query/{locator}", feed.more)
    app.router.add_get("/data/{name}", feed.file)
    return app


@web.middleware
async def _errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except SalesforceError as error:
        return web.json_response([{"message": str(error), "errorCode": error.code}], status=error.status)


class _Feed:
    def __init__(self, org: data.Org, client_id: str, client_secret: str, token_ttl: float, batch_size: int) -> None:
        self.org = org
        self.client_id = client_id.encode()
        self.client_secret = client_secret.encode()
        self.token_ttl = token_ttl
        self.batch_size = batch_size
        self.tokens: dict[bytes, float] = {}  # digest -> when it expires
        self.cursors: dict[str, str] = {}  # id -> query
        # A page is a function of its query, and one thread makes them in turn, beside the loop (which may be the
        # supervisor's own): of a hundred trainings that ask together, the first pays.
        self.page = lru_cache(_PAGES)(self._page)
        self.worker = ThreadPoolExecutor(1, "feed")

    async def token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != "client_credentials":
            return _refuse("unsupported_grant_type", "grant type not supported")
        if not hmac.compare_digest(str(form.get("client_id", "")).encode(), self.client_id):
            return _refuse("invalid_client_id", "client identifier invalid")
        if not hmac.compare_digest(str(form.get("client_secret", "")).encode(), self.client_secret):
            return _refuse("invalid_client", "invalid client credentials")
        now = time.monotonic()
        self.tokens = {digest: expiry for digest, expiry in self.tokens.items() if expiry > now}
        token = f"{ORGANIZATION[:15]}!{secrets.token_urlsafe(48)}"
        self.tokens[_digest(token)] = now + self.token_ttl
        origin = f"{request.scheme}://{request.host}"
        identity, issued_at = f"{origin}/id/{ORGANIZATION}/{USER}", str(time.time_ns() // 1_000_000)
        signature = hmac.digest(self.client_secret, (identity + issued_at).encode(), "sha256")
        answer = {
            "access_token": token,
            "signature": base64.b64encode(signature).decode(),
            "scope": "api",
            "instance_url": origin,
            "id": identity,
            "token_type": "Bearer",
            "issued_at": issued_at,
        }
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    def authorize(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme not in ("Bearer", "OAuth") or self.tokens.get(_digest(token), 0) <= time.monotonic():
            raise SalesforceError("INVALID_SESSION_ID", "Session expired or invalid", status=401)

    async def query(self, request: web.Request) -> web.Response:
        self.authorize(request)
        text = request.query.get("q", "")
        cursor = "01g" + hashlib.sha256(text.encode()).hexdigest()[:12]
        self.cursors[cursor] = text
        if len(self.cursors) > _CURSORS:
            del self.cursors[next(iter(self.cursors))]
        return await self.answer(request, cursor, 0)

    async def more(self, request: web.Request) -> web.Response:
        self.authorize(request)
        cursor, _, offset = request.match_info["locator"].rpartition("-")
        if cursor not in self.cursors or not offset.isdecimal():
            raise SalesforceError("INVALID_QUERY_LOCATOR", "invalid query locator")
        return await self.answer(request, cursor, int(offset))

    async def answer(self, request: web.Request, cursor: str, offset: int) -> web.Response:
        base = f"/services/data/{request.match_info['version']}"
        loop = asyncio.get_running_loop()
        body = await loop.run_in_executor(self.worker, self.page, self.cursors[cursor], cursor, offset, base)
        return web.Response(body=body, content_type="application/json", charset="utf-8")

    def _page(self, text: str, cursor: str, offset: int, base: str) -> bytes:
        query = soql.parse(text, self.org.objects)
        records = query.run()
        end = offset + self.batch_size
        answer: dict[str, object] = {"totalSize": len(records), "done": end >= len(records)}
        if not answer["done"]:
            answer["nextRecordsUrl"] = f"{base}/query/{cursor}-{end}"
        answer["records"] = [query.render(record, base) for record in records[offset:end]]
        return json.dumps(answer, separators=(",", ":")).encode()

    async def file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.org.files:
            raise web.HTTPNotFound
        return web.Response(body=self.org.files[name], content_type=_CONTENT_TYPES[Path(name).suffix], charset="utf-8")


def _digest(token: str) -> bytes:
    """Digest a token, so that looking it up takes no time that depends on the token."""
    return hashlib.sha256(token.encode()).digest()


def _refuse(error: str, description: str) -> web.Response:
    return web.json_response({"error": error, "error_description": description}, status=400)
