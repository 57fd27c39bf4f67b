"""What the command makes of a Nomad's answers, and of none: a server that answers what a test says."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlops.engines.nomad import NomadEngine
from tests.conftest import CHECKOUT, Mlops


@pytest.fixture
def answers() -> Iterator[tuple[str, dict[str, Any]]]:
    """A server's address, and what it answers by path, without the query; a number is a status."""
    said: dict[str, Any] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = said[self.path.partition("?")[0]]
            body = json.dumps(found).encode()
            self.send_response(found if isinstance(found, int) else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", said
        server.shutdown()


def _stub(status: str, **counts: int) -> dict[str, Any]:
    summary = {"Summary": {"training": counts}}
    return {"ID": "a/dispatch-1", "ParentID": "a", "Status": status, "SubmitTime": 1, "JobSummary": summary}


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
