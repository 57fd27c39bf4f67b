"""What Argo Server says otherwise than the embedded engine: pods' names, one stream a pod, errors as JSON."""

import copy
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mlops.engines.argo import ArgoEngine
from mlops.engines.base import EngineError

# As Argo 3.5 and later give it; shortened.
NODE = {
    "id": "refit-abcde-3348853539",
    "name": "refit-abcde.package.build",
    "displayName": "build",
    "type": "Pod",
    "templateRef": {"name": "package-mojo", "template": "build"},
    "phase": "Failed",
    "message": "Error (exit code 2)",
    "startedAt": "2026-01-01T00:00:00Z",
    "finishedAt": "2026-01-01T00:00:07Z",
    "outputs": {"exitCode": "2"},
}
WORKFLOW = {
    "metadata": {
        "name": "refit-abcde",
        "uid": "47e50feb-e293-4820-816d-f54b6c8632b8",
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"workflows.argoproj.io/pod-name-format": "v2"},
    },
    "spec": {"workflowTemplateRef": {"name": "model-refit"}, "arguments": {}},
    "status": {
        "phase": "Failed",
        "storedWorkflowTemplateSpec": {
            "arguments": {"parameters": [{"name": "model", "value": "m"}, {"name": "model_version", "value": "1"}]}
        },
        "nodes": {"refit-abcde-3348853539": NODE},
    },
}


@dataclass
class Server:
    """What was asked."""

    address: str = ""
    asked: list[tuple[str, dict[str, list[str]], str | None]] = field(default_factory=list)
    workflow: dict[str, Any] = field(default_factory=lambda: copy.deepcopy(WORKFLOW))
    logs: dict[str, str] = field(default_factory=dict)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found.asked.append((parts.path, parse_qs(parts.query), self.headers["Authorization"]))
            if parts.path in found.logs:
                self._answer(200, found.logs[parts.path], "text/plain")
            elif parts.path.startswith("/artifacts/"):
                self._answer(500, json.dumps({"code": 13, "message": "artifact not found"}))
            elif parts.path.endswith("/log"):
                lines = [{"result": {"content": text, "podName": "p"}} for text in ("one", "two")]
                self._answer(200, "".join(json.dumps(line) + "\n" for line in lines))
            elif parts.path.endswith("/refit-abcde"):
                self._answer(200, json.dumps(found.workflow))
            else:
                self._answer(403, json.dumps({"code": 7, "message": "not\nallowed"}))

        def _answer(self, status: int, body: str, kind: str = "application/json") -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any, **__: Any) -> None:
            pass

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    found.address = f"http://127.0.0.1:{httpd.server_port}"
    yield found
    httpd.shutdown()
    httpd.server_close()


def test_a_step_and_its_log_are_found_by_the_pods_name(server: Server) -> None:
    argo = ArgoEngine(server.address, "mlops", "t0ken")
    (execution,) = argo.status("refit-abcde").executions
    assert execution.version_id == f"m_v1_{execution.id}"
    (step,) = execution.steps
    assert (step.name, step.failed, step.exit_code, step.wall_seconds, step.restarts) == ("build", True, 2, 7, 0)
    assert "".join(argo.logs(execution.id, "build", "stdout", follow=False)) == "one\ntwo\n"
    assert "".join(argo.logs(execution.id, "build", "stderr", follow=False)) == ""
    path, query, authorization = server.asked[-1]
    assert path == "/api/v1/workflows/mlops/refit-abcde/log"
    assert query["podName"] == ["refit-abcde-build-3348853539"]
    assert authorization == "Bearer t0ken"


def test_a_refusal_is_its_message_on_one_line(server: Server) -> None:
    with pytest.raises(EngineError, match=r"^not allowed$"):
        ArgoEngine(server.address, "mlops", "Bearer t0ken").status("other")
    assert server.asked[-1][2] == "Bearer t0ken"


MAIN_LOG = {"name": "main-logs", "gcs": {"key": "runs/47e50feb/refit-abcde-build-3348853539/main.log"}}


def _retry(phase: str, attempts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """Nodes of a step that is retried, as Argo has them."""
    whole = {
        "id": "r",
        "name": "refit-abcde.transform.transform",
        "displayName": "transform",
        "type": "Retry",
        "templateName": "transform-spark",
        "phase": phase,
        "startedAt": "2026-01-01T00:00:00Z",
        "children": [f"r{number}" for number in range(len(attempts))],
        **more,
    }
    found: dict[str, Any] = {"r": whole}
    for number, attempt in enumerate(attempts):
        name = f"{whole['name']}({number})"
        found[f"r{number}"] = {
            **whole,
            "id": f"r{number}",
            "name": name,
            "displayName": f"transform({number})",
            "type": "Pod",
            "children": [],
            **attempt,
        }
    return found


def test_the_log_of_a_step_that_has_ended_comes_from_where_argo_archived_it(server: Server) -> None:
    """Its pod is gone, and Argo Server's answer for a pod that is gone is an empty one."""
    node = server.workflow["status"]["nodes"]["refit-abcde-3348853539"]
    node |= {"phase": "Succeeded", "outputs": {"exitCode": "0", "artifacts": [MAIN_LOG]}}
    place = "/artifacts/mlops/refit-abcde/refit-abcde-3348853539/main-logs"
    server.logs[place] = "built\n"
    argo = ArgoEngine(server.address, "mlops", "t0ken")
    (execution,) = argo.status("refit-abcde").executions
    assert "".join(argo.logs(execution.id, "build", "stdout", follow=False)) == "built\n"
    assert (server.asked[-1][0], server.asked[-1][2]) == (place, "Bearer t0ken")
    assert "".join(argo.logs(execution.id, "build", "stderr", follow=False)) == ""
    server.logs.clear()
    with pytest.raises(EngineError, match=r"build in the artifact bucket \(artifact not found\).*argo-server"):
        list(argo.logs(execution.id, "build", "stdout", follow=False))


@pytest.mark.parametrize(
    ("whole", "nodes", "state", "failed", "message"),
    [
        ("Running", _retry("Pending", [{"phase": "Running"}]), "running", False, ""),
        ("Running", _retry("Running", [{"phase": "Pending", "message": "no cpu"}]), "pending", False, "no cpu"),
        (
            "Running",
            _retry("Running", [{"phase": "Failed", "message": "no"}], message="Backoff for 15 seconds"),
            "pending",
            False,
            "Backoff for 15 seconds",
        ),
        ("Running", _retry("Running", [{"phase": "Failed"}, {"phase": "Running"}]), "running", False, ""),
        ("Failed", _retry("Pending", [{"phase": "Failed", "message": "stopped"}]), "dead", True, "stopped"),
        ("Failed", _retry("Pending", []), "dead", True, "it was ended with its workflow"),
        (
            "Failed",
            _retry("Failed", [{"phase": "Failed", "message": "cause"}], message="No more retries left"),
            "dead",
            True,
            "cause",
        ),
        ("Succeeded", _retry("Succeeded", [{"phase": "Failed"}, {"phase": "Succeeded"}]), "dead", False, ""),
    ],
    ids=["runs", "waits for a node", "backs off", "again", "stopped", "stopped early", "failed", "succeeded at last"],
)
def test_the_state_of_a_step_is_its_last_attempts(
    server: Server, whole: str, nodes: dict[str, Any], state: str, failed: bool, message: str
) -> None:
    server.workflow["status"] |= {"phase": whole, "nodes": nodes}
    (execution,) = ArgoEngine(server.address, "mlops").status("refit-abcde").executions
    (step,) = execution.steps
    assert (step.name, step.state, step.failed, step.message) == ("transform", state, failed, message)


def test_the_cause_that_another_step_found_is_the_failed_steps_message(server: Server) -> None:
    said = "main: Error (exit code 64): failure condition '{status.applicationState.state == [FAILED]}' evaluated true"
    nodes = _retry("Failed", [{"phase": "Failed", "message": said, "outputs": {"exitCode": "64"}}])
    cause = {"message": "exit code 2: transform: gs://d/areas.csv: no such file", "exit_code": 2}
    told = {"transform": cause, "refit": {"message": "of a step that did not fail"}}
    logs = {
        **NODE,
        "id": "l",
        "name": "refit-abcde.onExit[0].driver-logs",
        "displayName": "driver-logs",
        "phase": "Succeeded",
        "startedAt": "2026-01-01T00:01:00Z",
        "message": "",
        "outputs": {"exitCode": "0", "parameters": [{"name": "causes", "value": json.dumps(told)}]},
    }
    server.workflow["status"]["nodes"] = {**nodes, "l": logs}
    (execution,) = ArgoEngine(server.address, "mlops").status("refit-abcde").executions
    transform, other = execution.steps
    assert (transform.name, transform.message, transform.exit_code) == ("transform", cause["message"], 2)
    assert (other.name, other.failed) == ("driver-logs", False)
    logs["outputs"]["parameters"][0]["value"] = "no JSON"
    (execution,) = ArgoEngine(server.address, "mlops").status("refit-abcde").executions
    assert execution.steps[0].message == said
