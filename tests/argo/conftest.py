"""An embedded engine with a checkout of small images of its own: real processes, a real bucket, no supervisor."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from mlops.engines.embedded.argo import Workflows
from mlops.engines.embedded.bucket import Bucket
from mlops.engines.embedded.images import Images
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.scheduler import Resources, Scheduler
from mlops.engines.embedded.state import Store
from mlops.engines.embedded.tasks import Processes

BUCKET = "artifacts"
IMAGE = "test.local/small:1"
CAPACITY = Resources(2000, 4096)


@dataclass
class Engine:
    """The engine under test."""

    workflows: Workflows
    machine: Machine
    store: Store
    endpoint: str

    async def run(
        self, text: str, name: str = "run", arguments: dict[str, Any] | None = None, **parameters: str
    ) -> dict[str, Any]:
        """Register the templates of a YAML text, run the last of them, and give the workflow."""
        template = ""
        for definition in yaml.safe_load_all(text):
            template = self.workflows.register(definition)["metadata"]["name"]
        given = arguments or {"parameters": [{"name": key, "value": value} for key, value in parameters.items()]}
        self.workflows.submit(
            {"metadata": {"name": name}, "spec": {"workflowTemplateRef": {"name": template}, "arguments": given}}
        )
        return await self.workflows.wait(name)

    def bucket(self) -> Any:
        """The artifact bucket."""
        client = storage.Client(
            "test", credentials=AnonymousCredentials(), client_options={"api_endpoint": self.endpoint}
        )
        return client.bucket(BUCKET)

    def said(self, workflow: dict[str, Any], display: str) -> str:
        """What a step printed."""
        node = node_of(workflow, display)
        return self.workflows.log(workflow["metadata"]["name"], node["id"], "stdout").read_text()


def node_of(workflow: dict[str, Any], display: str) -> dict[str, Any]:
    """A node by its display name; of attempts the last."""
    found = [node for node in workflow["status"]["nodes"].values() if node["displayName"] == display]
    assert found, f"no {display} among {[node['displayName'] for node in workflow['status']['nodes'].values()]}"
    return found[-1]


def phases(workflow: dict[str, Any]) -> dict[str, str]:
    """Phase by display name."""
    return {node["displayName"]: node["phase"] for node in workflow["status"]["nodes"].values()}


@asynccontextmanager
async def engine(folder: Path, capacity: Resources = CAPACITY) -> AsyncIterator[Engine]:
    """An engine that lives as long as the block."""
    checkout, state = folder / "checkout", folder / "state"
    small = checkout / "images" / "small"
    small.mkdir(parents=True, exist_ok=True)
    state.mkdir(exist_ok=True)
    (small / "Dockerfile").write_text(
        'FROM scratch\nWORKDIR /app\nENV FROM_IMAGE=yes\nENTRYPOINT ["sh", "-c"]\nCMD ["echo cmd"]\n'
    )
    processes = Processes()
    bucket = Bucket(processes, state)
    store = Store(state / "state.db")
    await bucket.start()
    machine = Machine(
        state,
        checkout,
        processes,
        Scheduler(capacity),
        Images(checkout, lambda *_: "1"),
        {"STORAGE_EMULATOR_HOST": bucket.address},
    )
    workflows = Workflows(machine, store)
    workflows.artifacts_in(BUCKET)
    here = Engine(workflows, machine, store, bucket.address)
    try:
        await asyncio.to_thread(lambda: here.bucket().create() if not here.bucket().exists() else None)
        yield here
    finally:
        await workflows.close()
        bucket.close()
        await processes.close(1)
        store.close()


@pytest.fixture
def on_engine(tmp_path: Path) -> Callable[[Callable[[Engine], Awaitable[Any]]], Any]:
    """Run a coroutine function with an engine."""

    def run(work: Callable[[Engine], Awaitable[Any]], **options: Any) -> Any:
        async def inside() -> Any:
            async with engine(tmp_path, **options) as here:
                return await work(here)

        return asyncio.run(inside())

    return run


def template(name: str, *templates: dict[str, Any], **spec: Any) -> str:
    """A WorkflowTemplate as YAML."""
    definition = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "WorkflowTemplate",
        "metadata": {"name": name},
        "spec": {"entrypoint": templates[0]["name"], "templates": list(templates), **spec},
    }
    return json.dumps(definition)


def sh(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A container template that runs a line of shell."""
    container = {"image": IMAGE, "args": [script], **more.pop("container", {})}
    return {"name": name, "container": container, **more}


PYTHON = sys.executable
