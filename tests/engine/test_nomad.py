"""The job files on a real Nomad: it accepts them, and what they do there is what they do on the embedded engine.

A test's machine has no container engine, so both engines are compared on the same commands without containers: in the
copy of a job that the real agent gets, the drivers docker and exec are replaced by raw_exec, images by the image's
folder, mounts by the volume's own path, users by the agent's. Everything that orders tasks stays as it is.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests

from infra import settings
from inventory.recorder import record
from mlops.engines.embedded import platform
from tests.conftest import CHECKOUT
from tests.engine.agent import Api, agent

pytestmark = [
    pytest.mark.engine,
    pytest.mark.whole,
    pytest.mark.skipif(
        not shutil.which("nomad"),
        reason="the program `nomad` is not on PATH, so jobs were tried on the embedded engine only; install it",
    ),
]

JOB = "nomad:index/job:Job"
PIPELINE = "sales-close-prediction"
MODELS = "hybrid-mlops-local-models"

# A job of the pipeline's shape whose tasks are told by the dispatch what to do.
SCRIPTED = """
job "scripted" {
  type = "batch"

  parameterized {
    meta_optional = ["before", "main", "after"]
  }

  meta {
    before = "true"
    main   = "true"
    after  = "true"
  }

  group "all" {
    restart {
      attempts = 1
      delay    = "1s"
      interval = "24h"
      mode     = "fail"
    }

    reschedule {
      attempts  = 0
      unlimited = false
    }

    task "before" {
      driver = "exec"
      lifecycle {
        hook = "prestart"
      }
      config {
        command = "/bin/sh"
        args    = ["-c", "eval $SCRIPT"]
      }
      env {
        SCRIPT = "${NOMAD_META_before}"
      }
    }

    task "main" {
      driver       = "exec"
      leader       = true
      kill_timeout = "2s"
      config {
        command = "/bin/sh"
        args    = ["-c", "eval $SCRIPT"]
      }
      env {
        SCRIPT = "${NOMAD_META_main}"
      }
    }

    task "after" {
      driver = "exec"
      lifecycle {
        hook = "poststop"
      }
      config {
        command = "/bin/sh"
        args    = ["-c", "eval $SCRIPT"]
      }
      env {
        SCRIPT = "${NOMAD_META_after}"
      }
    }
  }
}
"""


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[platform.Platform]:
    """The embedded platform, with bucket and feed, which the real agent's tasks use too."""
    state = tmp_path_factory.mktemp("embedded")
    try:
        yield platform.up(state, [MODELS])
    finally:
        platform.down(state)


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the real agent."""
    return tmp_path_factory.mktemp("nomad")


@pytest.fixture(scope="module")
def real(embedded: platform.Platform, volume: Path) -> Iterator[Api]:
    """A real agent whose tasks see what the embedded engine's see: bucket, feed, the platform's programs."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LANG": "C.UTF-8",
        "STORAGE_EMULATOR_HOST": embedded.storage_address,
        "NODE_EXTRA_CA_CERTS": embedded.ca_file,
    }
    with agent(volume, environment) as api:
        yield api


@pytest.mark.parametrize("stack", settings.stacks())
def test_every_job_validates_with_what_the_program_passes(stack: str, real: Api) -> None:
    inventory = record(stack)
    jobs = [job.inputs for job in inventory.of_type(JOB)]
    # Nomad holds a job to the namespaces and pools that there are.
    for kind, path in {
        "nomad:index/namespace:Namespace": "namespace",
        "nomad:index/nodePool:NodePool": "node/pools",
    }.items():
        for made in inventory.of_type(kind):
            body = {key.capitalize(): made.inputs[key] for key in ("name", "description")}
            assert requests.put(f"{real.address}/v1/{path}", json=body, timeout=30).ok
    files = {file.read_text(encoding="utf-8") for file in (CHECKOUT / "jobs").glob("*/job.nomad.hcl")}
    own = {file.read_text(encoding="utf-8") for file in (CHECKOUT / "infra/nomad/files").glob("*.nomad.hcl")}
    registered = {job["jobspec"] for job in jobs}
    assert files <= registered <= files | own, "the program registers every job file as it is"
    for job in jobs:
        done = nomad("validate", job["jobspec"], job["hcl2"]["vars"], real)
        assert "Job validation successful" in done, done
        assert "Warning" not in done, done


@pytest.mark.parametrize(
    ("meta", "status"),
    [
        pytest.param({}, "complete", id="all succeed"),
        pytest.param({"before": "exit 2"}, "failed", id="prestart fails and is restarted"),
        pytest.param({"main": "exit 3"}, "failed", id="main fails and is restarted"),
        pytest.param({"after": "exit 1"}, "failed", id="poststop fails and is restarted"),
        pytest.param(
            {"before": "mkdir $NOMAD_ALLOC_DIR/data/x && exit 1; true"},
            "complete",
            id="prestart succeeds the second time",
        ),
        pytest.param({"main": "kill -KILL $$"}, "failed", id="main is killed"),
    ],
)
def test_tasks_go_through_the_same_states(
    meta: dict[str, str], status: str, real: Api, embedded: platform.Platform
) -> None:
    ours = Api(embedded.nomad_address)
    platform.register(embedded, SCRIPTED, {})
    real("PUT", "jobs", json={"Job": without_containers(parsed(SCRIPTED, {}, real), Path())})
    theirs_end, ours_end = (api.allocation(api.dispatch("scripted", meta)) for api in (real, ours))
    assert theirs_end["ClientStatus"] == status
    assert trace(ours_end) == trace(theirs_end)
    assert not misnamed(answers(ours, ours_end), answers(real, theirs_end))


def test_a_stopped_run_goes_through_the_same_states(real: Api, embedded: platform.Platform) -> None:
    ours = Api(embedded.nomad_address)
    platform.register(embedded, SCRIPTED, {})
    real("PUT", "jobs", json={"Job": without_containers(parsed(SCRIPTED, {}, real), Path())})
    ends = []
    for api in (ours, real):
        run = api.dispatch("scripted", {"main": "exec sleep 600"})
        api.allocation(run, "main", "running")
        api.stop(run)
        ends.append(api.allocation(run))
    assert trace(ends[0]) == trace(ends[1])


@pytest.mark.parametrize(
    ("data", "status"), [("/data/caravan.csv", "complete"), ("/data/nothing.csv", "failed")], ids=["stored", "refused"]
)
def test_the_pipeline_goes_through_the_same_states(
    data: str, status: str, real: Api, volume: Path, embedded: platform.Platform
) -> None:
    (job,) = [job.inputs for job in record("local").of_type(JOB) if job.name == PIPELINE]
    variables = job["hcl2"]["vars"]
    ours = Api(embedded.nomad_address)
    platform.register(embedded, job["jobspec"], variables)
    real("PUT", "jobs", json={"Job": without_containers(parsed(job["jobspec"], variables, real), volume / "models")})
    meta = {
        **settings.load("local").jobs[PIPELINE].parameters,
        "data_url": f"{embedded.feed_url}{data}",
        "model_version": "1",
        "epochs": "1",
        "min_auc": "0",
    }
    theirs_end, ours_end = (api.allocation(api.dispatch(PIPELINE, meta)) for api in (real, ours))
    said = {task: real.log(theirs_end["ID"], task) for task in theirs_end["TaskStates"]}
    assert theirs_end["ClientStatus"] == status, said
    assert trace(ours_end) == trace(theirs_end)
    assert list((volume / "models").iterdir()) == [], "nothing of a run stays on the volume"
    # Nomad waits a minute for an identity that a poststop task asks for and that a failed run gets no more.
    assert waited(theirs_end, "clear") < 45


def waited(allocation: Mapping[str, Any], last: str) -> float:
    """Seconds between the end of all other tasks and the start of a poststop task."""
    states = allocation["TaskStates"]
    (started,) = [event["Time"] for event in states[last]["Events"] if event["Type"] == "Started"]
    ended = [e["Time"] for name, state in states.items() if name != last for e in state["Events"]]
    return (started - max(ended)) / 1e9


def nomad(verb: str, jobspec: str, variables: Mapping[str, str], api: Api) -> str:
    """Run `nomad job` on a jobspec; it must succeed."""
    flags = [flag for name, value in variables.items() for flag in ("-var", f"{name}={value}")]
    more = ["-output"] if verb == "run" else []
    done = subprocess.run(
        ["nomad", "job", verb, *more, *flags, "-"],
        input=jobspec,
        env={"PATH": os.environ["PATH"], "NOMAD_ADDR": api.address},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def parsed(jobspec: str, variables: Mapping[str, str], api: Api) -> dict[str, Any]:
    """A job as Nomad's own parser understands it."""
    return json.loads(nomad("run", jobspec, variables, api))["Job"]


def without_containers(job: dict[str, Any], volume: Path) -> dict[str, Any]:
    """The job with raw_exec in place of docker and exec; see the module's docstring."""
    for task in (task for group in job["TaskGroups"] for task in group["Tasks"]):
        config = task["Config"]
        argv = [*([config["command"]] if "command" in config else []), *config.get("args", [])]
        replaced: dict[str, Any] = {}
        if "image" in config:
            folder = CHECKOUT / "images" / config["image"].rpartition("/")[2].partition(":")[0]
            entrypoint = re.search(r"^ENTRYPOINT (\[.*\])$", (folder / "Dockerfile").read_text(), re.MULTILINE)
            assert entrypoint
            argv = [*config.get("entrypoint", json.loads(entrypoint[1])), *argv]
            replaced["work_dir"] = str(folder)
        for mount in task["VolumeMounts"] or []:
            for name, value in task["Env"].items():
                task["Env"][name] = re.sub(rf"^{re.escape(mount['Destination'])}(?=/|$)", str(volume), value)
        task |= {
            "Driver": "raw_exec",
            "Config": {"command": argv[0], "args": argv[1:], **replaced},
            "User": "",
            "VolumeMounts": None,
        }
    return job


def trace(allocation: Mapping[str, Any]) -> list[str]:
    """How an allocation went: its end, the order in which tasks started and ended, each task's events."""
    states = allocation["TaskStates"]
    turns = sorted(
        (event["Time"], task, event["Type"])
        for task, state in states.items()
        for event in state["Events"]
        if event["Type"] in ("Started", "Terminated")
    )
    lines = [f"{allocation['ClientStatus']}: {allocation['ClientDescription']}"]
    # Tasks side by side start, and end, in any order.
    for type_, together in groupby(turns, key=itemgetter(2)):
        lines += sorted(f"{task} {type_}" for _, task, _ in together)
    for task, state in sorted(states.items()):
        never = state["StartedAt"] is None or state["StartedAt"].startswith("0001-")
        lines.append(
            f"{task} is {state['State']}, {'failed' if state['Failed'] else 'well'}, "
            f"{'never started' if never else 'started'}, restarted {state['Restarts']} times"
        )
        for event in state["Events"]:
            code, signal = event.get("ExitCode", 0), event.get("Signal", 0)
            lines.append(
                f"{task}: {event['Type']}" + (f" with {code}, signal {signal}" if event["Type"] == "Terminated" else "")
            )
    return lines


def answers(api: Api, allocation: Mapping[str, Any]) -> dict[str, Any]:
    """What an API says of a run, each thing with the fields that it has alone and those that it has in lists."""
    run = allocation["JobID"]
    (listed,) = api("GET", "jobs", params={"prefix": run})
    (stub,) = api("GET", f"job/{quote(run, safe='')}/allocations")
    return {
        "job": {**listed, **api("GET", f"job/{quote(run, safe='')}")},
        "allocation": {**stub, **allocation, "Job": None},
    }


def misnamed(ours: Any, theirs: Any, path: str = "") -> list[str]:
    """Fields that the embedded engine answers and Nomad does not, or with another JSON type."""
    if ours is None or theirs is None:
        return []
    if type(ours) is not type(theirs):
        return [f"{path}: {type(ours).__name__}, in Nomad {type(theirs).__name__}"]
    if isinstance(ours, dict):
        # Details hold what an event is about; TaskUsage is the embedded engine's one addition.
        extra = [] if path.endswith(".Details") else sorted(ours.keys() - theirs.keys() - {"TaskUsage"})
        shared = sorted(ours.keys() & theirs.keys())
        return [f"{path}.{key}: not in Nomad" for key in extra] + [
            text for key in shared for text in misnamed(ours[key], theirs[key], f"{path}.{key}")
        ]
    if isinstance(ours, list):
        return [text for one, other in zip(ours, theirs, strict=False) for text in misnamed(one, other, f"{path}[]")]
    return []
