"""A server that does not come up is named, with what it last said: Compute Engine's API is on loopback."""

import json
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pulumi
import pytest

from infra import settings
from infra.foundation import ci, compute_api
from infra.nomad import api, console, gate
from tests.stack_inventories import inventory

SERVER = console.Server("example", "europe-west1-b", "mlops-eu-server-0")
_ZONE = "/projects/example/zones/europe-west1-b"
LIST = f"{_ZONE}/instanceGroupManagers/mlops-eu-server-0/listManagedInstances"
CONSOLE = f"{_ZONE}/instances/mlops-eu-server-0-x1y2/serialPort"
RUNNING: dict[str, Any] = {
    "managedInstances": [
        {
            "instance": f"https://www.googleapis.com/compute/v1{_ZONE}/instances/mlops-eu-server-0-x1y2",
            "instanceStatus": "RUNNING",
            "currentAction": "VERIFYING",
        }
    ]
}
# As a machine of Google's image prints it: the kernel's lines, and the script's with where they come from.
BOOT = """[    0.000000] Linux version 6.1.0
Nov 30 12:00:01 s google_metadata_script_runner[501]: Found startup-script in metadata.
Nov 30 12:00:09 s google_metadata_script_runner[501]: startup-script: mlops: installs packages
Nov 30 12:01:30 s google_metadata_script_runner[501]: startup-script: mlops: takes its secrets
Nov 30 12:01:31 s google_metadata_script_runner[501]: startup-script: curl: (22) error: 403\x1b[2J
Nov 30 12:11:31 s google_metadata_script_runner[501]: startup-script: mlops: the boot ended with code 1: secret
Nov 30 12:11:31 s systemd[1]: Finished google-startup-scripts.service.
"""


@dataclass
class Compute:
    """Compute Engine's API."""

    answers: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def compute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compute]:
    """The API, and credentials that are taken there."""
    stand_in = Compute()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = self.path.partition("?")[0]
            stand_in.asked.append(f"{self.command} {self.path}")
            status, body = stand_in.answers.get(path, (404, {}))
            if path == "/token":
                status, body = 200, {"access_token": "T", "expires_in": 3600, "token_type": "Bearer"}
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
            del format, args

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        key = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, text=True, check=True).stdout
        credentials = tmp_path / "credentials.json"
        account = {"type": "service_account", "client_email": "a@example.com", "private_key": key}
        credentials.write_text(json.dumps({**account, "token_uri": f"{address}/token"}))
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(credentials))
        monkeypatch.setattr(compute_api, "ADDRESS", address)
        yield stand_in
        server.shutdown()


def test_a_server_is_named_with_the_last_lines_of_its_boot(compute: Compute) -> None:
    compute.answers = {LIST: (200, RUNNING), CONSOLE: (200, {"contents": BOOT})}
    told = SERVER.told()
    assert told.startswith("server mlops-eu-server-0-x1y2 (RUNNING) last said: ")
    assert "mlops: takes its secrets | " in told
    assert told.endswith("mlops: the boot ended with code 1: secret")
    assert "installs packages" not in told
    assert "\x1b" not in told, "a terminal obeys nothing that a machine prints"
    assert any(f"GET {CONSOLE}?port=1&start=-" in asked for asked in compute.asked)


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        (
            {LIST: (200, RUNNING), CONSOLE: (200, {"contents": "Booting\n\nKernel panic\n\n"})},
            "last said: Kernel panic",
        ),
        ({LIST: (200, RUNNING), CONSOLE: (200, {"contents": ""})}, "last said: nothing"),
        ({LIST: (200, {})}, "mlops-eu-server-0: it has no machine yet"),
        (
            {
                LIST: (
                    200,
                    {
                        "managedInstances": [
                            {
                                "instance": "https://www.googleapis.com/x/instances/mlops-eu-server-0-x1y2",
                                "currentAction": "CREATING",
                                "lastAttempt": {"errors": {"errors": [{"message": "Quota 'CPUS' exceeded."}]}},
                            }
                        ]
                    },
                )
            },
            "mlops-eu-server-0-x1y2 (CREATING): Google could not make it: Quota 'CPUS' exceeded.",
        ),
        ({LIST: (403, {})}, "mlops-eu-server-0 in europe-west1-b: its console could not be read (403"),
        ({LIST: (200, RUNNING), CONSOLE: (403, {})}, "whoever has roles/compute.viewer on project example reads it by"),
    ],
)
def test_what_is_known_of_a_server_is_told_and_nothing_else_fails(
    answers: dict[str, tuple[int, Any]], says: str, compute: Compute
) -> None:
    compute.answers = answers
    assert says in SERVER.told()


def test_who_cannot_ask_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/credentials.json")
    assert "its console could not be read (" in SERVER.told()


@pytest.mark.usefixtures("loop")
def test_a_group_that_is_not_healthy_in_time_says_what_its_server_said(
    compute: Compute, capfd: pytest.CaptureFixture[str]
) -> None:
    compute.answers = {LIST: (200, RUNNING), CONSOLE: (200, {"contents": BOOT})}
    hook = console.on_error("hook", SERVER)
    failed = pulumi.ErrorHookArgs("urn", "id", "name", "type", failed_operation="create", errors=["timeout"])
    assert hook(failed) is False, "it is not tried again"
    said = capfd.readouterr().err
    assert "server mlops-eu-server-0-x1y2 (RUNNING) last said: " in said
    assert "the boot ended with code 1" in said


def test_a_region_without_a_leader_names_its_servers(compute: Compute) -> None:
    compute.answers = {LIST: (200, RUNNING), CONSOLE: (200, {"contents": BOOT})}
    # Nothing answers there; only where that is this machine's own address is it `mlops tunnel` that is not running.
    nobody = api.Api("eu", "https://127.0.0.2:9", "", "token")
    with pytest.raises(RuntimeError, match=r"server mlops-eu-server-0-x1y2 \(RUNNING\) last said: .*ended with code 1"):
        gate.wait(nobody, "dev", 0, servers=[SERVER])


STACKS = [stack for stack in settings.stacks() if settings.load(stack).nomad.regions]


@pytest.mark.parametrize("stack", STACKS)
def test_every_server_of_a_stack_is_watched(stack: str) -> None:
    groups = inventory(stack).of_type("gcp:compute/instanceGroupManager:InstanceGroupManager")
    assert groups
    for group in groups:
        assert group.hooks["onError"] == [f"{group.name}-console"]


@pytest.mark.parametrize("job", ["preview", "read", "deploy"])
def test_who_updates_may_read_the_consoles(job: str) -> None:
    assert {"roles/compute.viewer", "roles/compute.instanceAdmin.v1"} & {*ci.JOBS[job].roles}
