"""The refit lane on the embedded engine, with its real images on the real data: runs shared by the tests below.

The engine's own rules are in `test_run`; here is what the lane promises of a version.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.images import name as image_name
from jobs.model_refit.context import IMAGES, SERVICE_ACCOUNTS, Context, Resources
from jobs.model_refit.parameters import DEFAULTS
from jobs.model_refit.templates import render
from mlops.cli.quality import quality
from mlops.engines.embedded.argo import Workflows
from mlops.engines.embedded.bucket import Bucket
from mlops.engines.embedded.images import Images
from mlops.engines.embedded.machine import Machine
from mlops.engines.embedded.scheduler import Scheduler, machine
from mlops.engines.embedded.state import Store
from mlops.engines.embedded.tasks import Processes
from mlops.feed.data import load
from mlops_registry import Manifest, Registry, VersionSummary, reproduction
from mlops_registry.manifest import parse, validated
from mlops_registry.scorers import SCORERS
from tests.argo.conftest import Engine, node_of, phases

CHECKOUT = Path(__file__).parents[2]
DATA = CHECKOUT / ".cache" / "data" / "Caravan.csv"
FOLDER = f"raw/sha256/{'0' * 64}"
"""Of the data; only what lies under a digest is memoised."""
MISSING = [name for name in IMAGES if not (CHECKOUT / "images" / name / "Dockerfile").is_file()]

pytestmark = [
    pytest.mark.whole,
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


STORED: dict[str, dict[str, str]] = {
    "first": {},
    "again": {},
    "afresh": {"memoise": "false"},
    "other-seed": {"seed": "2"},
}
"""Runs that store a version, by name, with what is given beside `COMMON`."""
FAILING: dict[str, dict[str, str]] = {
    "no-trees": {"ntrees": "0"},
    "no-data": {"data_uri": "gs://data/raw/broken"},
}
"""Runs that cannot."""
AGAIN = "made-again"
"""The run that `models reproduce` would start for the version of `first`."""
WAIT = "onFailureRetryInterval: 10"
"""What the operator waits before it tries again; here a second is enough."""
COMMON = {"trials": "2", "ntrees": "20"}
KILLED = {"first": ("transform.py", "transform"), "afresh": ("train.py", "train(1:1)")}
"""Program and step of which the first attempt in a run is killed."""


@pytest.fixture(scope="module")
def refits(tmp_path_factory: pytest.TempPathFactory) -> Refits:
    """Seven refits with few trees: one, then the others side by side; in two of them a step is killed once."""
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
        data_uri=f"gs://data/{FOLDER}",
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
                    client.bucket("data").blob(f"{FOLDER}/{name}").upload_from_string(content)
                    broken = content if name == "areas.csv" else b"no,table\n1\n"
                    client.bucket("data").blob(f"raw/broken/{name}").upload_from_string(broken)

        await asyncio.to_thread(prepare)
        for definition in json.loads(json.dumps(render(context)).replace(WAIT, f"{WAIT[:-2]}1")):
            workflows.register(definition)
        done: dict[str, dict[str, Any]] = {}

        async def refit(name: str, given: dict[str, str]) -> None:
            parameters = [{"name": key, "value": value} for key, value in (COMMON | given).items()]
            reference = {"workflowTemplateRef": {"name": "model-refit"}, "arguments": {"parameters": parameters}}
            workflows.submit({"metadata": {"name": name}, "spec": reference})
            if name in KILLED:
                await _kill(workflows, name, *KILLED[name])
            done[name] = await workflows.wait(name)

        async def made_again() -> dict[str, str]:
            uid = done["first"]["metadata"]["uid"]
            stored = client.bucket("models").blob(f"models/model-refit/model-refit_v1_{uid}/manifest.json")
            manifest = parse(Manifest, await asyncio.to_thread(stored.download_as_bytes), "it")
            return reproduction.request(manifest, DEFAULTS)

        await refit("first", STORED["first"])
        if done["first"]["status"]["phase"] == "Succeeded":
            others = STORED | FAILING | {AGAIN: await made_again()}
            await asyncio.gather(*(refit(name, given) for name, given in others.items() if name != "first"))
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


async def _kill(workflows: Workflows, run: str, program: str, step: str) -> None:
    """SIGKILL the process of a step, once, when it is there."""
    uid = workflows.get(run)["metadata"]["uid"]

    def found() -> list[int]:
        nodes = [n["id"] for n in workflows.get(run)["status"]["nodes"].values() if n["displayName"] == f"{step}(0)"]
        marks = [uid, *(f"/{run}/{node}/" for node in nodes)]
        each = ((path.parent.name, _words(path)) for path in Path("/proc").glob("[0-9]*/cmdline"))
        # What starts the process has the same words, and is none of the step's.
        steps = ((pid, words) for pid, words in each if program in words and "launcher.py" not in words)
        return [int(pid) for pid, words in steps if any(mark in words for mark in marks)]

    async with asyncio.timeout(600):
        while not (pids := found()):  # noqa: ASYNC110 - nothing tells of a process
            await asyncio.sleep(0.05)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _words(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace").replace("\0", " ")
    except OSError:
        return ""


def test_every_run_ends_with_a_stored_and_verified_version(refits: Refits) -> None:
    for name in STORED:
        status = refits.workflows[name]["status"]
        assert status["phase"] == "Succeeded", (name, status["message"], phases(refits.workflows[name]))
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
    for name in STORED:
        metrics = refits.read(name, "manifest.json")["metrics"]
        (listed,) = [one for one in refits.listed if f"/{one.version_id}/" in refits.version(name)]
        assert quality(listed) == (
            f"#{metrics['training']['trial']} of 2",
            f"{metrics['test']['auc']:.3f}",
            f"spark-gbt {metrics['baseline']['auc']:.3f}",
            "0 of 200 examples differ",
        )


def test_the_same_inputs_give_the_same_model_and_the_same_library_and_another_seed_does_not(refits: Refits) -> None:
    digests = {name: refits.read(name, "manifest.json")["model_digest"] for name in STORED}
    assert digests["afresh"] == digests["first"]
    assert digests["other-seed"] != digests["first"]
    assert refits.jar("afresh") == refits.jar("first")
    assert refits.jar("other-seed") != refits.jar("first")


def test_a_version_is_made_again_by_one_trial_with_the_parameters_of_the_one_that_won(refits: Refits) -> None:
    was, now = (validated(Manifest, refits.read(name, "manifest.json"), name) for name in ("first", AGAIN))
    assert now.model_digest == was.model_digest
    assert refits.jar(AGAIN) == refits.jar("first")
    assert now.parameters["trials"] == 1
    assert [one.what for one in reproduction.differences(was, now)] == (["code"] if was.code.dirty else [])


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
    for name in STORED:
        events = refits.objects[f"{refits.version(name)}lineage/events.jsonl"].splitlines()
        assert [json.loads(event)["eventType"] for event in events] == ["START", "COMPLETE"]
        assert refits.read(name, "lineage/outcome.json")["status"] == "Succeeded"


def test_spark_or_a_trial_that_dies_once_is_tried_again_and_the_version_is_the_same(refits: Refits) -> None:
    """Both runs stored a version of one digest, above."""
    spark = [node_of(refits.workflows[name], "transform(0)") for name in ("first", "afresh")]
    assert [node["sparkAttempts"] for node in spark] == [2, 1]
    for run, attempts in (("first", 1), ("afresh", 2)):
        found = phases(refits.workflows[run])
        assert [found.get(f"train(1:1)({attempt})") for attempt in range(attempts)] == ["Failed", "Succeeded"][
            -attempts:
        ]


def test_spark_that_always_dies_fails_the_run_with_what_its_driver_said_last(refits: Refits) -> None:
    workflow = refits.workflows["no-data"]
    assert workflow["status"]["phase"] == "Failed"
    assert node_of(workflow, "transform(0)")["sparkAttempts"] == 3
    assert re.search(
        r"transform-\d+ is FAILED \(failure condition\): exit code 2 in attempt 3: .*broken/customers.csv",
        workflow["status"]["message"],
    )
    _nothing_is_stored(refits, "no-data", "transform", "broken/customers.csv")


def test_trials_that_say_no_are_not_repeated_and_what_they_said_is_told(refits: Refits) -> None:
    workflow = refits.workflows["no-trees"]
    assert workflow["status"]["phase"] == "Failed"
    assert "--ntrees='0': must be" in workflow["status"]["message"]
    found = phases(workflow)
    assert [found.get(f"train({trial}:{trial})({attempt})") for trial in (0, 1) for attempt in (0, 1)] == [
        *("Failed", None),
        *("Failed", None),
    ]
    _nothing_is_stored(refits, "no-trees", "train(0:0)", "--ntrees='0'")


def _nothing_is_stored(refits: Refits, run: str, step: str, said: str) -> None:
    """There is no version; what became of the run lies in the model's lineage."""
    found = phases(refits.workflows[run])
    assert {found[name] for name in ("package", "store", "verify")} == {"Omitted"}
    assert [name for name in refits.objects if name.startswith(refits.version(run))] == []
    uid = refits.workflows[run]["metadata"]["uid"]
    folder = f"models/model-refit/lineage/model-refit_v1_{uid}/"
    outcome = json.loads(refits.objects[f"{folder}outcome.json"])
    assert (outcome["status"], outcome["version_id"]) == ("Failed", None)
    assert any(each["step"].startswith(step) and said in each["message"] for each in outcome["failures"])
    events = [json.loads(line) for line in refits.objects[f"{folder}events.jsonl"].splitlines()]
    assert [event["eventType"] for event in events] == ["START", "FAIL"]
