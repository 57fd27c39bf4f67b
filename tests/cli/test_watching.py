"""`mlops run` where the engine or the bucket fails it: nothing is started in vain, and no run is lost sight of."""

import json
import signal
import socket
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlops.engines.base import EngineError, follow
from mlops.engines.nomad import NomadEngine
from tests.cli.conftest import Turns, serving
from tests.conftest import Mlops

PIPELINE = "sales-close-prediction"
DISPATCH = f"/v1/job/{PIPELINE}/dispatch"
RUN = f"{PIPELINE}/dispatch-1767225600-0123abcd"
OBJECTS = "/storage/v1/b/hybrid-mlops-local-models/o"
ARGUMENTS = ("run", PIPELINE, "-p", "model_version=1", "-p", "data_url=https://example.com/a.csv")


def _job(**counts: int) -> dict[str, Any]:
    return {
        "ID": RUN,
        "ParentID": PIPELINE,
        "Status": "dead" if "Complete" in counts else "running",
        "SubmitTime": 1,
        "CreateIndex": 1,
        "ModifyIndex": 1,
        "Meta": {"save_path": "a", "model_version": "1"},
        "TaskGroups": [],
        "JobSummary": {"Summary": {"training": counts}},
    }


def _say(said: dict[str, Any], status: str) -> None:
    said["/v1/jobs"] = []
    said[f"/v1/job/{RUN}"] = _job()
    said[f"/v1/job/{RUN}/allocations"] = [{"ID": "0c9a", "Name": "a", "ClientStatus": status, "TaskStates": {}}]


@pytest.fixture
def mlops(answers: tuple[str, dict[str, Any]], tmp_path: Path) -> Mlops:
    """The command beside a Nomad, and a bucket with nothing in it, that answer what the test says."""
    address, said = answers
    said[DISPATCH] = {"DispatchedJobID": RUN}
    said[OBJECTS] = {}
    _say(said, "complete")
    return Mlops(tmp_path / "state", environment={"NOMAD_ADDR": address, "STORAGE_EMULATOR_HOST": address})


def test_a_run_that_could_not_be_reported_is_not_started(
    answers: tuple[str, dict[str, Any]], mlops: Mlops, tmp_path: Path
) -> None:
    _, said = answers
    said[DISPATCH] = Turns([said[DISPATCH], said[DISPATCH]])
    # As on a machine on which nobody has logged in to Google Cloud.
    home = dict.fromkeys(("HOME", "CLOUDSDK_CONFIG"), str(tmp_path))
    told = {**mlops.environment, **home, "STORAGE_EMULATOR_HOST": "", "NO_GCE_CHECK": "true"}
    nobody = replace(mlops, environment=told)
    done = nobody(*ARGUMENTS)
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing was started" in done.stderr
    assert "credentials" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert len(said[DISPATCH]) == 2, "a run was started"
    assert nobody(*ARGUMENTS, "--detach").returncode == 0  # which reports no versions


def test_runs_are_reported_though_the_bucket_refuses_in_the_end(
    answers: tuple[str, dict[str, Any]], mlops: Mlops
) -> None:
    _, said = answers
    said[OBJECTS] = Turns([{}, (403, "{}")])
    done = mlops(*ARGUMENTS, "--json")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert [(run["id"], run["status"]) for run in told["runs"]] == [(RUN, "complete")]
    assert told["versions"] is None
    assert "access denied" in done.stderr


def test_a_pipeline_that_is_not_registered_is_told_in_one_line(
    answers: tuple[str, dict[str, Any]], mlops: Mlops
) -> None:
    _, said = answers
    said[DISPATCH] = (500, "parameterized job not found")
    said["/v1/jobs"] = [{"ID": "refit", "ParameterizedJob": True, "Stop": False}]
    done = mlops(*ARGUMENTS)
    assert (done.returncode, done.stdout) == (2, "")
    assert "refit" in done.stderr
    assert "pulumi up --stack" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_runs_that_were_started_before_one_was_refused_are_named(
    answers: tuple[str, dict[str, Any]], mlops: Mlops
) -> None:
    _, said = answers
    said[DISPATCH] = Turns([said[DISPATCH], (500, "no cluster leader")])
    done = mlops(*ARGUMENTS, "--runs", "2", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"runs": [RUN]}
    assert "no cluster leader" in done.stderr
    assert RUN in done.stderr


@pytest.mark.parametrize(("more", "shown"), [((), ""), (("--json",), {"runs": [RUN]})], ids=["people", "json"])
def test_runs_that_go_on_are_named_when_the_engine_refuses_to_be_watched(
    answers: tuple[str, dict[str, Any]], mlops: Mlops, more: tuple[str, ...], shown: Any
) -> None:
    _, said = answers
    said["/v1/jobs"] = (403, "Permission denied")
    done = mlops(*ARGUMENTS, *more)
    assert done.returncode == 2
    assert (json.loads(done.stdout) if more else done.stdout) == shown
    assert RUN in done.stderr
    assert "mlops runs list" in done.stderr
    assert "Permission denied" in done.stderr


def _watching(said: dict[str, Any], mlops: Mlops) -> "subprocess.Popen[str]":
    """The command when it has begun to watch a run that does not end."""
    begun, job = threading.Event(), said[f"/v1/job/{RUN}"]

    def told() -> dict[str, Any]:
        begun.set()
        return job

    said[f"/v1/job/{RUN}"] = told
    watching = subprocess.Popen(
        mlops.argv(*ARGUMENTS), env=mlops.env(), cwd=mlops.checkout, stderr=subprocess.PIPE, text=True
    )
    assert begun.wait(60)
    return watching


def test_a_watched_run_survives_a_restart_of_the_engine(tmp_path: Path) -> None:
    said: dict[str, Any] = {DISPATCH: {"DispatchedJobID": RUN}, OBJECTS: {}}
    _say(said, "running")
    with serving(said) as server:
        port, address = server.server_port, f"http://127.0.0.1:{server.server_port}"
        environment = {"NOMAD_ADDR": address, "STORAGE_EMULATOR_HOST": address}
        watching = _watching(said, Mlops(tmp_path / "state", environment=environment))
    # It is gone: each request is refused now.
    assert watching.stderr
    line = watching.stderr.readline()
    assert "does not answer" in line
    _say(said, "complete")
    with serving(said, port):
        _, rest = watching.communicate(timeout=60)
    assert watching.returncode == 0, rest
    assert f"{RUN}: complete" in rest
    assert "does not answer" not in rest, "an outage is told once"


def test_an_interrupted_command_names_the_runs_that_go_on(answers: tuple[str, dict[str, Any]], mlops: Mlops) -> None:
    _, said = answers
    _say(said, "running")
    watching = _watching(said, mlops)
    watching.send_signal(signal.SIGINT)
    _, told = watching.communicate(timeout=60)
    assert watching.returncode == 130
    assert RUN in told
    assert "mlops runs list" in told


def test_an_engine_that_stays_away_is_not_waited_for_for_ever() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        engine = NomadEngine(f"http://127.0.0.1:{closed.getsockname()[1]}")
        told: list[EngineError] = []
        with pytest.raises(EngineError, match="does not answer"):
            list(follow(engine, [RUN], told.append, patience=0.1, first_pause=0.05))
    assert len(told) == 1
