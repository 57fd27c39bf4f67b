"""What the command makes of a Nomad's answers, and of none: a server that answers what a test says."""

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mlops.engines import base
from mlops.engines.base import RefusedError
from mlops.engines.nomad import NomadEngine
from tests.conftest import CHECKOUT, Mlops


def _stub(status: str, **counts: int) -> dict[str, Any]:
    summary = {"Summary": {"training": counts}}
    return {
        "ID": "a/dispatch-1767225600-0123abcd",
        "ParentID": "a",
        "Status": status,
        "SubmitTime": 1767225600_123456789,
        "CreateIndex": 7,
        "ModifyIndex": 8,
        "JobSummary": summary,
    }


@pytest.mark.parametrize(
    ("status", "counts", "shown"),
    [
        ("running", {"Unknown": 1}, "lost"),
        ("running", {"Unknown": 1, "Complete": 1}, "lost"),
        ("running", {"Unknown": 1, "Running": 1}, "running"),
        ("running", {"Unknown": 1, "Queued": 1}, "running"),
        ("running", {"Running": 1}, "running"),
        ("running", {"Complete": 1, "Starting": 1}, "running"),
        ("pending", {"Queued": 1}, "pending"),
        ("dead", {"Complete": 1, "Failed": 1}, "failed"),
        ("dead", {"Lost": 1}, "lost"),
        ("dead", {"Complete": 2}, "complete"),
    ],
)
def test_the_list_shows_a_run_on_an_unreachable_node_as_lost_as_the_run_itself_does(
    answers: tuple[str, dict[str, Any]], status: str, counts: dict[str, int], shown: str
) -> None:
    address, said = answers
    said["/v1/jobs"] = [_stub(status, **counts)]
    assert [run.status for run in NomadEngine(address).runs()] == [shown]


# An allocation as Nomad 2.0 gives it, shortened.
RUN = "a/dispatch-1767225600-0123abcd"
DOCKER = "Failed to pull `hybrid-mlops.local/tensornode:abc`: no such host"


def _allocation(status: str, **tasks: dict[str, Any]) -> dict[str, Any]:
    never = "0001-01-01T00:00:00Z"
    empty = {"State": "dead", "Failed": False, "Restarts": 0, "StartedAt": never, "FinishedAt": never, "Events": []}
    states = {name: empty | state for name, state in tasks.items()}
    return {"ID": "0c9a3f52", "Name": "a.training[0]", "ClientStatus": status, "TaskStates": states}


def _event(type_: str, message: str, **more: Any) -> dict[str, Any]:
    return {"Type": type_, "DisplayMessage": message, **more}


def _tell(said: dict[str, Any], job: dict[str, Any], *allocations: dict[str, Any]) -> None:
    """Let the server know one run."""
    said["/v1/jobs"] = [job]
    said[f"/v1/job/{RUN}"] = {**job, "Meta": {}, "TaskGroups": []}
    said[f"/v1/job/{RUN}/allocations"] = list(allocations)
    said["/v1/client/fs/logs/0c9a3f52"] = (200, "what an attempt before wrote\n")


RESTARTED = (
    _event("Restarting", "Task restarting in 16s"),
    _event("Driver Failure", DOCKER),
    _event("Not Restarting", 'Exceeded allowed attempts 2 in interval 24h0m0s and mode is "fail"', FailsTask=True),
)
KILLED = (
    _event("Terminated", 'Exit Code: 137, Exit Message: "OOM Killed"', ExitCode=137),
    _event("Not Restarting", "Policy allows no restarts", FailsTask=True),
)


@pytest.mark.parametrize(
    ("events", "told"),
    [
        ((_event("Driver Failure", DOCKER), *RESTARTED), DOCKER),
        ((_event("Terminated", "Exit Code: 1", ExitCode=1), *RESTARTED), DOCKER),
        (
            (_event("Setup Failure", "no such user"), _event("Not Restarting", "Error was unrecoverable")),
            "no such user",
        ),
        ((_event("Driver Failure", DOCKER), *KILLED), 'Exit Code: 137, Exit Message: "OOM Killed"'),
        (
            (
                _event("Killing", "Template failed: no key", FailsTask=True),
                _event("Terminated", "Exit Code: 143", ExitCode=143),
                _event("Killed", "Task successfully killed"),
            ),
            "Template failed: no key",
        ),
        (
            (_event("Terminated", "Exit Code: 2", ExitCode=2), _event("Not Restarting", "Exceeded")),
            "what an attempt before wrote",
        ),
    ],
    ids=["never started", "did not start again", "no restarts", "out of memory", "template", "said so itself"],
)
def test_a_failed_task_is_told_with_the_event_that_is_its_cause(
    answers: tuple[str, dict[str, Any]], events: tuple[dict[str, Any], ...], told: str
) -> None:
    address, said = answers
    _tell(said, _stub("dead", Failed=1), _allocation("failed", train={"Failed": True, "Events": list(events)}))
    engine = NomadEngine(address)
    found = engine.status(RUN).failed_step
    assert found
    assert base.reason(engine, *found) == told


def test_a_task_that_waits_for_its_restart_tells_why(answers: tuple[str, dict[str, Any]]) -> None:
    address, said = answers
    events = [_event("Driver Failure", DOCKER), RESTARTED[0]]
    _tell(
        said,
        _stub("running", Starting=1),
        _allocation("pending", train={"State": "pending", "Restarts": 1, "Events": events}),
    )
    (step,) = NomadEngine(address).status(RUN).executions[0].steps
    assert step.message == DOCKER


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        (("2026-11-30T20:02:48.123456789Z", "2026-11-30T20:02:50.623456789Z"), 2.5),
        (("2026-11-30T20:02:48Z", "0001-01-01T00:00:00Z"), None),
        (("0001-01-01T00:00:00Z", "2026-11-30T20:02:48Z"), None),
        ((None, None), None),
    ],
    ids=["ended", "runs", "never started", "pending"],
)
def test_how_long_a_task_took_is_taken_from_nomad_s_times(
    answers: tuple[str, dict[str, Any]], times: tuple[str | None, str | None], seconds: float | None
) -> None:
    address, said = answers
    task: dict[str, Any] = {"StartedAt": times[0], "FinishedAt": times[1]}
    _tell(said, _stub("running", Running=1), _allocation("running", train=task))
    (step,) = NomadEngine(address).status(RUN).executions[0].steps
    assert step.wall_seconds == seconds


WAITING = {"State": "pending"}


@pytest.mark.parametrize(
    ("counts", "allocations", "shown"),
    [
        ({}, [], "stopped"),
        ({"Queued": 1}, [], "stopped"),
        ({"Starting": 1}, [_allocation("pending", train={}, clear=WAITING)], "running"),
        ({"Starting": 1}, [_allocation("pending")], "running"),
        ({"Running": 1}, [_allocation("running", train={"State": "running"})], "running"),
        ({"Complete": 1}, [_allocation("complete", train={}, clear={})], "stopped"),
        ({"Failed": 1}, [_allocation("failed", train={"Failed": True})], "stopped"),
        ({"Unknown": 1}, [_allocation("unknown", train={"State": "running"})], "lost"),
        ({"Lost": 1}, [_allocation("lost", train={})], "lost"),
    ],
    ids=["never placed", "queued", "clears up", "placed", "ends", "ended", "failed", "node lost", "lost"],
)
def test_the_list_and_the_run_itself_agree_on_a_stopped_one(
    answers: tuple[str, dict[str, Any]], counts: dict[str, int], allocations: list[dict[str, Any]], shown: str
) -> None:
    address, said = answers
    # Nomad calls it dead as soon as it is stopped, and SubmitTime is then the time of the stop.
    _tell(said, _stub("dead", **counts) | {"Stop": True, "SubmitTime": 1767229200_000000000}, *allocations)
    engine = NomadEngine(address)
    (listed,), run = engine.runs(), engine.status(RUN)
    assert (listed.status, run.status) == (shown, shown)
    assert listed.created == run.created == 1767225600


@pytest.mark.parametrize(
    "refusal",
    [(500, "parameterized job not found"), (404, "parameterized job not found"), (500, 'Specified job "b" is stopped')],
)
def test_a_pipeline_that_is_not_registered_is_refused_with_those_that_are(
    answers: tuple[str, dict[str, Any]], refusal: tuple[int, str]
) -> None:
    address, said = answers
    said["/v1/job/b/dispatch"] = refusal
    said["/v1/jobs"] = [
        {"ID": "refit", "ParameterizedJob": True, "Stop": False},
        {"ID": "old", "ParameterizedJob": True, "Stop": True},
        {"ID": "web", "ParameterizedJob": False, "Stop": False},
    ]
    with pytest.raises(RefusedError, match=r"\bb is not registered .*there: refit\. .*`mlops up`.*`pulumi up --stack"):
        NomadEngine(address).submit("b", {}, None)


def _platform(state: Path, nomad_address: str) -> Mlops:
    """The command beside a platform of which only the engine's address is real."""
    born = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    state.mkdir()
    (state / "platform.json").write_text(
        json.dumps(
            {
                "pid": os.getpid(),
                "nomad_address": nomad_address,
                "storage_address": "http://127.0.0.1:9",
                "feed_url": "",
                "ca_file": "",
                "checkout": str(CHECKOUT),
                "born": born,
            }
        )
    )
    return Mlops(state)


def test_an_engine_that_does_not_answer_is_a_failure_and_no_bad_input(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        done = _platform(tmp_path / "state", f"http://127.0.0.1:{closed.getsockname()[1]}")("runs", "list")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mlops: Nomad at http://127.0.0.1:")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("status", "code"), [(400, 2), (404, 2), (500, 1), (507, 1)])
def test_a_refusal_is_bad_input_and_an_engine_s_own_trouble_is_not(
    answers: tuple[str, dict[str, Any]], tmp_path: Path, status: int, code: int
) -> None:
    address, said = answers
    said["/v1/jobs"] = status
    assert _platform(tmp_path / "state", address)("runs", "list").returncode == code


def test_a_proxy_of_the_machine_is_not_asked_for_the_platform(
    answers: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    address, said = answers
    said["/v1/jobs"], said["/api/v1/workflows/mlops"] = [], {"items": []}
    proxy = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")
    done = _platform(tmp_path / "state", address)("runs", "list", "--json", no_proxy="example.com", **proxy)
    assert (done.returncode, json.loads(done.stdout or "null")) == (0, []), done.stderr
