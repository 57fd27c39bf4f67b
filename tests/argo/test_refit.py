"""The refit lane on the embedded engine, with its real images on the real data: runs shared by the tests below.

The engine's own rules are in `test_run`; here is what the lane promises of a version.
"""

import asyncio
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.images import name as image_name
from jobs.model_refit.context import IMAGES, SERVICE_ACCOUNTS, Context, Resources
from jobs.model_refit.templates import render
from mlops.cli.models import quality
from mlops.engines.embedded.argo import Workflows
from mlops.engines.embedded.bucket import Bucket
from mlops.engines.embedded.images import Images
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.scheduler import Scheduler, machine
from mlops.engines.embedded.state import Store
from mlops.engines.embedded.tasks import Processes
from mlops.feed.data import load
from mlops.registry import Registry, VersionSummary
from mlops.registry.scorers import SCORERS
from tests.argo.conftest import Engine, phases

CHECKOUT = Path(__file__).parents[2]
DATA = CHECKOUT / ".cache" / "data" / "Caravan.csv"
MISSING = [name for name in IMAGES if not (CHECKOUT / "images" / name / "Dockerfile").is_file()]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(bool(MISSING), reason=f"images without a Dockerfile: {', '.join(MISSING)}"),
    pytest.mark.skipif("h2o-mojo" not in SCORERS, reason="the registry has no scorer for h2o-mojo"),
]


@dataclass
class Refits:
    """What the runs left: workflows by name, the models bucket's objects by name, and the registry's list."""

    workflows: dict[str, dict[str, Any]]
    objects: dict[str, bytes]
    listed: list[VersionSummary]

    def version(self, run: str) -> str:
        """The folder of a run's version."""
        return f"models/model-refit/model-refit_v1_{self.workflows[run]['metadata']['uid']}/"

    def read(self, run: str, name: str) -> Any:
        """A JSON file of a run's version."""
        return json.loads(self.objects[self.version(run) + name])

    def jar(self, run: str) -> bytes:
        """The library of a run's version."""
        (name,) = [
            each
            for each in self.objects
            if each.startswith(f"{self.version(run)}model/") and each.endswith(".jar") and "-sources" not in each
        ]
        return self.objects[name]


RUNS: list[tuple[str, dict[str, str]]] = [
    ("first", {"trials": "2"}),
    ("again", {"trials": "2"}),
    ("afresh", {"trials": "2", "memoise": "false"}),
    ("other-seed", {"trials": "2", "seed": "2"}),
]


@pytest.fixture(scope="module")
def refits(tmp_path_factory: pytest.TempPathFactory) -> Refits:
    """Four refits with few trees, one after the other."""
    state = tmp_path_factory.mktemp("refit")
    return asyncio.run(_run(state))


async def _run(state: Path) -> Refits:
    context = Context(
        namespace="mlops-local",
        images={name: image_name(CHECKOUT, name, "hybrid-mlops.local") for name in IMAGES},
        gcp_bucket_path="gs://models/models",
        data_bucket="data",
        artifact_bucket="artifacts",
        service_accounts={name: name for name in SERVICE_ACCOUNTS},
        resources={"train": Resources("1", "1536Mi")},
        data_uri="gs://data/raw/caravan",
    )
    processes = Processes()
    bucket, store = Bucket(processes, state), Store(state / "state.db")
    await bucket.start()
    given = {"STORAGE_EMULATOR_HOST": bucket.address}
    here = Machine(state, CHECKOUT, processes, Scheduler(machine()), Images(CHECKOUT), given)
    workflows = Workflows(here, store)
    workflows.artifacts_in("artifacts")
    client = Engine(workflows, here, store, bucket.address).bucket().client
    try:

        def prepare() -> None:
            for name in ("models", "artifacts", "data"):
                client.create_bucket(name)
            for name, content in load(DATA).files.items():
                if name in ("areas.csv", "customers.csv"):
                    client.bucket("data").blob(f"raw/caravan/{name}").upload_from_string(content)

        await asyncio.to_thread(prepare)
        for definition in render(context):
            workflows.register(definition)
        done = {}
        for name, given_parameters in RUNS:
            parameters = [{"name": key, "value": value} for key, value in {"ntrees": "20", **given_parameters}.items()]
            reference = {"workflowTemplateRef": {"name": "model-refit"}, "arguments": {"parameters": parameters}}
            workflows.submit({"metadata": {"name": name}, "spec": reference})
            done[name] = await workflows.wait(name)
            if done[name]["status"]["phase"] != "Succeeded":
                break
        blobs = await asyncio.to_thread(lambda: list(client.list_blobs("models")))
        objects = {blob.name: await asyncio.to_thread(blob.download_as_bytes) for blob in blobs}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("STORAGE_EMULATOR_HOST", bucket.address)
            listed = await asyncio.to_thread(Registry("gs://models/models").list)
        return Refits(done, objects, listed)
    finally:
        await workflows.close()
        bucket.close()
        await processes.close(2)
        store.close()


def test_every_run_ends_with_a_stored_and_verified_version(refits: Refits) -> None:
    for name, workflow in refits.workflows.items():
        assert workflow["status"]["phase"] == "Succeeded", (name, workflow["status"]["message"], phases(workflow))
    assert set(refits.workflows) == {name for name, _ in RUNS}
    for name in refits.workflows:
        verifications = [each for each in refits.objects if each.startswith(f"{refits.version(name)}verifications/")]
        (verification,) = [json.loads(refits.objects[each]) for each in verifications]
        assert verification["passed"] is True
        assert verification["examples"] == 200


def test_a_version_shows_the_winning_trial_and_the_baseline_beside_it(refits: Refits) -> None:
    manifest = refits.read("first", "manifest.json")
    assert manifest["lane"] == "argo"
    assert manifest["data"]["rows"] == 5822
    assert manifest["parameters"]["trial"] in (0, 1)
    metrics = manifest["metrics"]
    assert metrics["replay"]["differing"] == 0
    assert metrics["baseline"]["name"] == "spark-gbt"
    assert 0.6 < metrics["baseline"]["auc"] < 0.9
    assert 0.6 < metrics["test"]["auc"] < 0.9
    assert len(refits.read("first", "selection.json")["candidates"]) == 2
    assert len(manifest["images"]) == 4
    for file in manifest["files"]:
        content = refits.objects[refits.version("first") + file["path"]]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["size"], file["sha256"])


def test_the_list_shows_the_winning_trial_the_baseline_beside_it_and_what_verification_said(refits: Refits) -> None:
    for name in refits.workflows:
        metrics = refits.read(name, "manifest.json")["metrics"]
        (listed,) = [one for one in refits.listed if f"/{one.version_id}/" in refits.version(name)]
        assert quality(listed) == (
            f"#{metrics['training']['trial']} of 2",
            f"{metrics['test']['auc']:.3f}",
            f"spark-gbt {metrics['baseline']['auc']:.3f}",
            "0 of 200 examples differ",
        )


def test_the_same_inputs_give_the_same_model_and_the_same_library_and_another_seed_does_not(refits: Refits) -> None:
    digests = {name: refits.read(name, "manifest.json")["model_digest"] for name in refits.workflows}
    assert digests["afresh"] == digests["first"]
    assert digests["other-seed"] != digests["first"]
    assert refits.jar("afresh") == refits.jar("first")
    assert refits.jar("other-seed") != refits.jar("first")


def test_what_did_not_change_is_not_repeated_and_a_version_names_where_it_came_from(refits: Refits) -> None:
    source = refits.workflows["first"]["metadata"]["uid"]
    assert refits.read("again", "manifest.json")["parents"] == [
        f"{step} of workflow {source}" for step in ("baseline", "package", "transform", "trials")
    ]
    assert refits.read("other-seed", "manifest.json")["parents"] == [f"transform of workflow {source}"]
    for fresh in ("first", "afresh"):
        assert refits.read(fresh, "manifest.json")["parents"] == []
    ran = {node["templateName"] for node in refits.workflows["again"]["status"]["nodes"].values() if "usage" in node}
    assert ran & {"train", "build"} == set()


def test_lineage_stands_beside_every_version(refits: Refits) -> None:
    for name in refits.workflows:
        events = refits.objects[f"{refits.version(name)}lineage/events.jsonl"].splitlines()
        assert [json.loads(event)["eventType"] for event in events] == ["START", "COMPLETE"]
        assert refits.read(name, "lineage/outcome.json")["status"] == "Succeeded"
