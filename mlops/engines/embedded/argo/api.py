"""The HTTP side of the Argo part: a subset of Argo Server's own paths and JSON, mounted under /api/v1/.

    PUT    /artifact-repository                      {"bucket": NAME}: ours; Argo is told so in its configuration
    GET    /workflow-templates/NS                    {"items": [...]}; the same for cron-workflows
    POST   /workflow-templates/NS                    {"template": {...}} ({"cronWorkflow": {...}}): register or replace
    GET    /workflow-templates/NS/NAME               DELETE forgets it
    GET    /workflows/NS                             {"items": [...]}; ?listOptions.labelSelector=a=b,c=d
    POST   /workflows/NS                             {"workflow": {"metadata": {"name", "labels"}, "spec": {...}}}
    GET    /workflows/NS/NAME                        DELETE forgets one that has ended
    PUT    /workflows/NS/NAME/stop                   and /terminate, without the exit handler
    GET    /workflows/NS/NAME/log                    ?podName=NODE&logOptions.follow=true: {"result": {"content", ...}}
                                                     ours: ?plain=true&stream=stdout|stderr, the output as it is

There is one namespace on one machine; whatever a path says is taken. Deliberately not: who may ask
(`embedded.loopback`).
"""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from aiohttp import web

from mlops.engines.embedded import api
from mlops.engines.embedded.argo.workflows import Workflows
from mlops.engines.embedded.errors import EmbeddedError

_FOLLOW_SECONDS = 0.1


def routes(workflows: Workflows) -> web.Application:
    """Make the application to mount: `app.add_subapp("/api/v1/", ...)`."""
    app = web.Application()
    app.router.add_put("/artifact-repository", _Handlers(workflows).repository)
    for path, kind, member in (
        ("workflow-templates", "WorkflowTemplate", "template"),
        ("cron-workflows", "CronWorkflow", "cronWorkflow"),
    ):
        handlers = _Definitions(workflows, kind, member)
        app.router.add_get(f"/{path}/{{ns}}", handlers.all)
        app.router.add_post(f"/{path}/{{ns}}", handlers.register)
        app.router.add_get(f"/{path}/{{ns}}/{{name}}", handlers.one)
        app.router.add_delete(f"/{path}/{{ns}}/{{name}}", handlers.forget)
    handlers = _Handlers(workflows)
    app.router.add_get("/workflows/{ns}", handlers.all)
    app.router.add_post("/workflows/{ns}", handlers.submit)
    app.router.add_get("/workflows/{ns}/{name}", handlers.one)
    app.router.add_delete("/workflows/{ns}/{name}", handlers.delete)
    app.router.add_put("/workflows/{ns}/{name}/stop", handlers.stop)
    app.router.add_put("/workflows/{ns}/{name}/terminate", handlers.terminate)
    app.router.add_get("/workflows/{ns}/{name}/log", handlers.log)
    return app


def _object(body: dict[str, Any], name: str) -> dict[str, Any]:
    value = body.get(name)
    if not isinstance(value, dict):
        raise EmbeddedError(f'the body must be {{"{name}": {{...}}}}')
    return value


class _Definitions:
    def __init__(self, workflows: Workflows, kind: str, member: str) -> None:
        self._workflows, self._kind, self._member = workflows, kind, member

    async def all(self, _: web.Request) -> web.Response:
        return web.json_response({"items": self._workflows.definitions(self._kind)})

    async def register(self, request: web.Request) -> web.Response:
        definition = _object(await api.body_of(request), self._member)
        if definition.get("kind") != self._kind:
            raise EmbeddedError(f"kind is {definition.get('kind')}, and a {self._kind} is registered here")
        return web.json_response(self._workflows.register(definition))

    async def one(self, request: web.Request) -> web.Response:
        return web.json_response(self._workflows.definition(self._kind, request.match_info["name"]))

    async def forget(self, request: web.Request) -> web.Response:
        self._workflows.forget(self._kind, request.match_info["name"])
        return web.json_response({})


class _Handlers:
    def __init__(self, workflows: Workflows) -> None:
        self._workflows = workflows

    async def repository(self, request: web.Request) -> web.Response:
        body = await api.body_of(request)
        bucket = body.get("bucket")
        if not isinstance(bucket, str) or not bucket:
            raise EmbeddedError('the body must be {"bucket": "..."}')
        self._workflows.artifacts_in(bucket)
        return web.json_response({"bucket": bucket})

    async def all(self, request: web.Request) -> web.Response:
        selector = request.query.get("listOptions.labelSelector", "")
        pairs = [pair.partition("=") for pair in selector.split(",") if pair]
        return web.json_response({"items": self._workflows.all({key: value.lstrip("=") for key, _, value in pairs})})

    async def submit(self, request: web.Request) -> web.Response:
        return web.json_response(self._workflows.submit(_object(await api.body_of(request), "workflow")))

    async def one(self, request: web.Request) -> web.Response:
        return web.json_response(self._workflows.get(request.match_info["name"]))

    async def delete(self, request: web.Request) -> web.Response:
        self._workflows.delete(request.match_info["name"])
        return web.json_response({})

    async def stop(self, request: web.Request) -> web.Response:
        return web.json_response(self._workflows.stop(request.match_info["name"]))

    async def terminate(self, request: web.Request) -> web.Response:
        return web.json_response(self._workflows.stop(request.match_info["name"], terminate=True))

    async def log(self, request: web.Request) -> web.StreamResponse:
        name, node = request.match_info["name"], request.query.get("podName", "")
        follow = api.flag(request, "logOptions.follow")

        def alive() -> bool:
            return self._workflows.alive(name, node)

        path = self._workflows.log(name, node, request.query.get("stream", "stdout"))
        if api.flag(request, "plain"):
            return await api.stream(request, path, offset=0, plain=True, alive=alive if follow else None)
        return await self._lines(
            request, node, [self._workflows.log(name, node, s) for s in ("stdout", "stderr")], alive if follow else None
        )

    async def _lines(
        self, request: web.Request, node: str, paths: list[Any], alive: Callable[[], bool] | None
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/jsonl"})
        await response.prepare(request)
        offsets = dict.fromkeys(paths, 0)
        while True:
            more = alive is not None and alive()
            for path in paths:
                if not path.exists():
                    continue
                with path.open("rb") as file:
                    file.seek(offsets[path])
                    while (line := file.readline()) and (line.endswith(b"\n") or not more):
                        offsets[path] += len(line)
                        said = {"content": line.decode(errors="replace").rstrip("\n"), "podName": node}
                        await response.write(json.dumps({"result": said}).encode() + b"\n")
            if not more:
                break
            await asyncio.sleep(_FOLLOW_SECONDS)
        await response.write_eof()
        return response
