"""The part of Nomad's HTTP API that the embedded engine answers, with Nomad's paths and field names.

Owns: paths, parameters, blocking queries. Deliberately not: what the answers mean (`jobs`), who may ask
(`mlops.engines.embedded.api`).
"""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from definitions import durations
from mlops.engines.embedded.api import body_of, flag, stream
from mlops.engines.embedded.errors import EmbeddedError, NotFoundError
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.nomad.allocation import log_file
from mlops.engines.embedded.nomad.jobs import Jobs

_DEFAULT_WAIT = 300.0
_MAX_WAIT = 600.0
_ALIVE = 'Status != "dead"'


class NomadApi:
    """Routes over one `Jobs`."""

    def __init__(self, machine: Machine, jobs: Jobs) -> None:
        self._machine = machine
        self._jobs = jobs

    def add_to(self, app: web.Application) -> None:
        """Add every route."""
        routes = app.router
        routes.add_get("/v1/status/leader", self._leader)
        routes.add_get("/v1/agent/health", self._health)
        routes.add_get("/v1/jobs", self._list_jobs)
        for method in ("PUT", "POST"):
            routes.add_route(method, "/v1/jobs", self._register)
            routes.add_route(method, "/v1/job/{rest:.+}/dispatch", self._dispatch)
        # Ids of dispatched jobs hold a slash, escaped or not.
        routes.add_get("/v1/job/{rest:.+}/allocations", self._job_allocations)
        routes.add_get("/v1/job/{rest:.+}", self._job)
        routes.add_delete("/v1/job/{rest:.+}", self._stop)
        routes.add_get("/v1/allocations", self._list_allocations)
        routes.add_get("/v1/allocation/{id}", self._allocation)
        routes.add_get("/v1/client/fs/logs/{id}", self._logs)

    async def _answer(self, request: web.Request, make: Callable[[], Any]) -> web.Response:
        if index := request.query.get("index"):
            if not index.isdigit():
                raise EmbeddedError("index is not a number")
            await self._jobs.wait(int(index), _wait_seconds(request.query.get("wait")))
        headers = {"X-Nomad-Index": str(self._jobs.index), "X-Nomad-KnownLeader": "true"}
        return web.json_response(make(), headers=headers)

    async def _leader(self, request: web.Request) -> web.Response:
        return web.json_response(request.host)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"server": {"ok": True, "message": "ok"}, "client": {"ok": True, "message": "ok"}})

    async def _list_jobs(self, request: web.Request) -> web.Response:
        expression = request.query.get("filter")
        if expression not in (None, _ALIVE):
            raise EmbeddedError(f"the embedded engine knows one filter of jobs: {_ALIVE}")
        return await self._answer(
            request, lambda: self._jobs.list(request.query.get("prefix", ""), dead=expression is None)
        )

    async def _register(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        submission = body.get("Submission")
        if not isinstance(submission, dict) or not isinstance(submission.get("Source"), str):
            raise EmbeddedError("the embedded engine registers a job from its text: Submission.Source is wanted")
        if submission.get("Format", "hcl2") != "hcl2":
            raise EmbeddedError("Submission.Format must be hcl2")
        values = submission.get("VariableFlags") or {}
        if not isinstance(values, dict) or not all(isinstance(value, str) for value in values.values()):
            raise EmbeddedError("Submission.VariableFlags must be an object of strings")
        return web.json_response(await self._jobs.register(submission["Source"], values))

    async def _dispatch(self, request: web.Request) -> web.Response:
        body = await body_of(request)
        meta = body.get("Meta") or {}
        if not isinstance(meta, dict) or not all(isinstance(value, str) for value in meta.values()):
            raise EmbeddedError("Meta must be an object of strings")
        # python-nomad sends the token in the body by this name.
        token = request.query.get("idempotency_token") or body.get("IdempotencyToken") or body.get("idempotency_token")
        answer = await self._jobs.dispatch(
            request.match_info["rest"],
            meta,
            str(token) if token else None,
            str(body["Payload"]) if body.get("Payload") else None,
        )
        return web.json_response(answer)

    async def _job(self, request: web.Request) -> web.Response:
        return await self._answer(request, lambda: self._jobs.job(request.match_info["rest"]))

    async def _stop(self, request: web.Request) -> web.Response:
        return web.json_response(self._jobs.stop(request.match_info["rest"], purge=flag(request, "purge")))

    async def _job_allocations(self, request: web.Request) -> web.Response:
        return await self._answer(request, lambda: list(self._jobs.allocations(request.match_info["rest"])))

    async def _list_allocations(self, request: web.Request) -> web.Response:
        return await self._answer(request, lambda: list(self._jobs.allocations(prefix=request.query.get("prefix", ""))))

    async def _allocation(self, request: web.Request) -> web.Response:
        return await self._answer(request, lambda: self._jobs.allocation(request.match_info["id"]))

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        query = request.query
        task, kind = query.get("task", ""), query.get("type", "")
        if not task:
            raise EmbeddedError("must provide task name")
        if kind not in ("stdout", "stderr"):
            raise EmbeddedError("log type must be stdout or stderr")
        origin = query.get("origin", "start")
        if origin not in ("start", "end") or not query.get("offset", "0").isdigit():
            raise EmbeddedError("origin must be start or end, and offset a number")
        allocation = self._jobs.allocation(request.match_info["id"])
        state = allocation["TaskStates"].get(task)
        if state is None:
            raise NotFoundError(f'task "{task}" does not exist in this allocation')
        path = log_file(self._machine.state, allocation["ID"], task, kind)
        follow = flag(request, "follow")
        if not path.exists() and not (follow and state["State"] != "dead"):
            raise NotFoundError(f'task "{task}" not started yet. No logs available')
        offset = int(query.get("offset", "0"))
        if origin == "end":
            offset = max(0, path.stat().st_size - offset) if path.exists() else 0
        alive = (lambda: self._jobs.alive(allocation["ID"], task)) if follow else None
        return await stream(request, path, offset=offset, plain=flag(request, "plain"), alive=alive)


def _wait_seconds(text: str | None) -> float:
    if not text:
        return _DEFAULT_WAIT
    try:
        return min(_MAX_WAIT, durations.seconds(text))
    except ValueError:
        raise EmbeddedError("wait must be a duration such as 30s") from None
