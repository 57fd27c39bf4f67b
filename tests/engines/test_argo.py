"""What Argo Server says otherwise than the embedded engine: pods' names, one stream a pod, errors as JSON."""

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


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            found.asked.append((parts.path, parse_qs(parts.query), self.headers["Authorization"]))
            if parts.path.endswith("/log"):
                lines = [{"result": {"content": text, "podName": "p"}} for text in ("one", "two")]
                self._answer(200, "".join(json.dumps(line) + "\n" for line in lines))
            elif parts.path.endswith("/refit-abcde"):
                self._answer(200, json.dumps(WORKFLOW))
            else:
                self._answer(403, json.dumps({"code": 7, "message": "not\nallowed"}))

        def _answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
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
