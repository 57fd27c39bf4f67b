"""Nobody but this user's own programs uses what listens on loopback: no other user, and no page in a browser."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import pytest

from mlops.engines.embedded.loopback import Peers
from tests.conftest import Mlops

NOBODY = 65534
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as another user")
SERVERS = ("engine", "argo", "bucket", "feed")
OTHERS_PYTHON = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
"""One that another user can run, too."""
ASK = """
import http.client, json, ssl, sys
method, scheme, port, path, headers, body, ca = json.load(sys.stdin)
if scheme == "https":
    context = ssl.create_default_context(cadata=ca)
    connection = http.client.HTTPSConnection("localhost", port, timeout=60, context=context)
else:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
connection.request(method, path, body, headers)
answer = connection.getresponse()
json.dump([answer.status, answer.read().decode(), dict(answer.headers)], sys.stdout)
"""
PAGES = {
    "of another origin": {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "cors"},
    "in a sandbox": {"Origin": "null"},
    "of another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    "from the bucket": {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Dest": "script"},
    "behind a name of its own": {"Host": "evil.example:{port}"},
    "behind a name without a port": {"Host": "localhost"},
    "of another server": {"Host": "127.0.0.1:1"},
    "without a name": {"Host": ""},
}
"""Headers that a browser sends for a page, some of them older browsers alone."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    text: str
    headers: dict[str, str]

    def refused(self) -> bool:
        """Whether it is a refusal in one line that no page can read."""
        shown = [name for name in self.headers if name.lower().startswith("access-control-")]
        return self.status == 403 and self.text.count("\n") == 0 and len(self.text) > 0 and not shown


class Server(NamedTuple):
    """One of those that listen, and a request that it answers to its own user."""

    url: str
    method: str
    path: str
    body: str | None = None
    ca: str | None = None

    def ask(self, headers: dict[str, str] | None = None, *, uid: int | None = None) -> Answer:
        """Ask it, in a process of its own, as this user or another."""
        address = urlsplit(self.url)
        sent = {name: value.format(port=address.port) for name, value in (headers or {}).items()}
        asked = [self.method, address.scheme, address.port, self.path, sent, self.body, self.ca]
        who = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        done = subprocess.run(
            [OTHERS_PYTHON, "-I", "-c", ASK], input=json.dumps(asked), capture_output=True, text=True, cwd="/", **who
        )
        assert done.returncode == 0, done.stderr
        return Answer(*json.loads(done.stdout))


@pytest.fixture(scope="module")
def served(platform: Mlops) -> dict[str, Server]:
    """The engine's API with both its parts, the bucket and the feed."""
    said = json.loads((platform.state / "platform.json").read_text())
    upload = "/upload/storage/v1/b/hybrid-mlops-local-data/o?uploadType=media&name=loopback/planted"
    return {
        "engine": Server(said["nomad_address"], "GET", "/v1/jobs"),
        "argo": Server(said["nomad_address"], "GET", "/api/v1/workflows/ns"),
        "bucket": Server(said["storage_address"], "POST", upload, "planted"),
        "feed": Server(said["feed_url"], "GET", "/data/areas.csv", None, Path(said["ca_file"]).read_text()),
    }


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("headers", [{}, {"Host": "localhost:{port}"}, {"Sec-Fetch-Site": "none"}], ids=str)
def test_ones_own_program_is_answered(served: dict[str, Server], name: str, headers: dict[str, str]) -> None:
    answer = served[name].ask(headers)
    assert answer.status == 200, answer.text
    assert not [header for header in answer.headers if header.lower().startswith("access-control-")]


@AS_ROOT
@pytest.mark.parametrize("name", SERVERS)
def test_another_user_is_refused(served: dict[str, Server], name: str) -> None:
    assert served[name].ask(uid=NOBODY).refused()


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.parametrize("page", PAGES)
def test_a_web_page_is_refused(served: dict[str, Server], name: str, page: str) -> None:
    assert served[name].ask(PAGES[page]).refused()


def test_a_preflight_allows_nothing(served: dict[str, Server]) -> None:
    asked = {"Origin": "https://evil.example", "Access-Control-Request-Method": "PUT"}
    for server in served.values():
        assert server._replace(method="OPTIONS", body=None).ask(asked).refused()


@AS_ROOT
def test_another_user_reaches_no_port_of_the_emulators(platform: Mlops) -> None:
    """Whatever listens on this machine while the platform runs: none of it answers as the emulator does."""
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    for port in {int(words[1].partition(":")[2], 16) for words in listening if words[3] == "0A"}:
        asked = ["GET", "http", port, "/storage/v1/b/hybrid-mlops-local-models", {}, None, None]
        done = subprocess.run(
            [OTHERS_PYTHON, "-I", "-c", ASK.replace("timeout=60", "timeout=5")], input=json.dumps(asked),
            capture_output=True, text=True, cwd="/", user=NOBODY, group=NOBODY, extra_groups=[],
        )  # fmt: skip
        assert done.returncode or json.loads(done.stdout)[0] != 200, f"port {port} answers"


def _connected(family: socket.AddressFamily = socket.AF_INET) -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.socket(family)
        mapped = "::ffff:" if family == socket.AF_INET6 else ""
        client.connect((f"{mapped}127.0.0.1", server.getsockname()[1]))
        return client, server.accept()[0]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_says_whose_a_connection_is_until_nobody_holds_it(family: socket.AddressFamily) -> None:
    peers = Peers()
    client, ours = _connected(family)  # Java's sockets are of the second kind
    with ours:
        ends = ours.getpeername(), ours.getsockname()
        assert peers.uid(*ends) == os.geteuid()
        client.shutdown(socket.SHUT_WR)  # it still reads
        assert peers.uid(*ends) == os.geteuid()
        client.close()
        # The kernel shows what nobody holds as user 0's.
        assert peers.uid(*ends) is None


def test_what_listens_at_the_peers_address_is_not_taken_for_the_peer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert Peers().uid(server.getsockname(), ("127.0.0.1", 1)) is None


@AS_ROOT
def test_the_kernel_names_another_user() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        script = f"import socket; socket.create_connection(('127.0.0.1', {server.getsockname()[1]})).recv(1)"
        other = subprocess.Popen([OTHERS_PYTHON, "-I", "-c", script], cwd="/", user=NOBODY, group=NOBODY)
        with server.accept()[0] as ours:
            assert Peers().uid(ours.getpeername(), ours.getsockname()) == NOBODY
        assert other.wait() == 0
