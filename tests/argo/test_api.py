"""The HTTP side, as a client sees it: Argo Server's paths and JSON, on a real port."""

import asyncio
import json
from typing import Any

import aiohttp
from aiohttp import web

from mlops.engines.embedded import api
from mlops.engines.embedded.argo import routes
from tests.argo.conftest import BUCKET, Engine, sh, template


async def serve(here: Engine) -> tuple[web.AppRunner, str]:
    """The application mounted as the supervisor mounts it."""
    app = web.Application(middlewares=[api.errors])
    app.add_subapp("/api/v1/", routes(here.workflows))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/api/v1"


def test_a_client_registers_submits_follows_and_stops(on_engine) -> None:
    async def work(here: Engine) -> None:
        runner, url = await serve(here)

        async def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
            async with client.request(method, url + path, json=body) as answer:
                text = await answer.text()
                return answer.status, json.loads(text) if answer.content_type == "application/json" else text

        def wanted(name: str, template_name: str, **labels: str) -> dict[str, Any]:
            metadata = {"name": name, "labels": labels}
            return {"workflow": {"metadata": metadata, "spec": {"workflowTemplateRef": {"name": template_name}}}}

        talks = json.loads(
            template("talks", sh("main", "for i in 1 2 3; do echo line $i; sleep 0.1; done; echo bad >&2"))
        )
        slow = json.loads(template("slow", sh("main", "sleep 60"), onExit="bye"))
        slow["spec"]["templates"].append(sh("bye", "true"))
        async with aiohttp.ClientSession() as client:
            assert await call("PUT", "/artifact-repository", {"bucket": BUCKET}) == (200, {"bucket": BUCKET})
            for definition in (talks, slow):
                assert await call("POST", "/workflow-templates/ns", {"template": definition}) == (200, definition)
            assert (await call("GET", "/workflow-templates/ns"))[1] == {"items": [talks, slow]}
            status, said = await call(
                "POST", "/workflow-templates/ns", {"template": {**talks, "spec": {"suspended": True}}}
            )
            assert status == 400
            assert said.startswith("WorkflowTemplate talks: spec.suspended is not executed by the embedded engine;")
            assert (await call("GET", "/workflow-templates/ns/none"))[0] == 404

            status, workflow = await call("POST", "/workflows/ns", wanted("one", "talks", color="red"))
            assert status == 200
            assert (await call("POST", "/workflows/ns", wanted("one", "talks", color="red")))[1]["metadata"][
                "uid"
            ] == workflow["metadata"]["uid"]
            assert (await call("POST", "/workflows/ns", wanted("one", "slow")))[0] == 409
            assert (await call("POST", "/workflows/ns", wanted("Bad Name", "talks")))[0] == 400
            while not (await call("GET", "/workflows/ns/one"))[1]["status"]["nodes"]:  # noqa: ASYNC110 - a client can only ask again
                await asyncio.sleep(0.01)
            status, lines = await call("GET", "/workflows/ns/one/log?podName=one&logOptions.follow=true")
            contents = [json.loads(line)["result"]["content"] for line in lines.splitlines()]
            assert sorted(contents) == ["bad", "line 1", "line 2", "line 3"]
            assert await call("GET", "/workflows/ns/one/log?podName=one&plain=true&stream=stderr") == (200, "bad\n")
            assert (await call("GET", "/workflows/ns/one/log?podName=../..&plain=true"))[0] == 404

            await call("POST", "/workflows/ns", wanted("two", "slow", color="blue"))
            assert (await call("DELETE", "/workflows/ns/two"))[0] == 400
            assert (await call("PUT", "/workflows/ns/two/stop", {}))[0] == 200
            await here.workflows.wait("two")
            assert (await call("GET", "/workflows/ns/two"))[1]["status"]["phase"] == "Failed"
            items = (await call("GET", "/workflows/ns?listOptions.labelSelector=color=blue"))[1]["items"]
            assert [item["metadata"]["name"] for item in items] == ["two"]
            assert (await call("DELETE", "/workflows/ns/two"))[0] == 200
            assert (await call("GET", "/workflows/ns/two"))[0] == 404
            async with client.post(url + "/workflows/ns", data="{}") as answer:
                assert answer.status == 415  # what a web page's form could send
        await runner.cleanup()

    on_engine(work)
