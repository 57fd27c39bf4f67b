"""`mlops tunnel` as a person runs it: real processes and sockets; only Google between them is stood in for."""

import hashlib
import json
import os
import shutil
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.conftest import CHECKOUT, Mlops

_PATIENCE = 60
_POOL = {"system": {"machine_type": "n1-standard-2", "size": 1}}
_SERVERS = {"machine_type": "n1-standard-2", "count": 1}


class Server:
    """A real TCP server, in the place of one machine's Nomad."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with_errors_of_the_peer(handle, self.request)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port: int = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def die(self) -> None:
        """Take no connection any more."""
        self.server.shutdown()
        self.server.server_close()


def with_errors_of_the_peer(handle: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with suppress(BrokenPipeError, ConnectionResetError):
        handle(connection)


def echo(connection: socket.socket) -> None:
    while data := connection.recv(65536):
        connection.sendall(data)


def named(name: str) -> Callable[[socket.socket], None]:
    """Answers every line with a name."""

    def handle(connection: socket.socket) -> None:
        for _ in connection.makefile("rb"):
            connection.sendall(name.encode() + b"\n")

    return handle


@dataclass
class World:
    """A checkout with one stack of two Nomad regions, a `gcloud` that finds what is in `servers`, and free ports."""

    folder: Path
    mlops: Mlops
    ports: dict[str, int]
    servers: list[dict[str, object]] = field(default_factory=list)

    def live(self, region: str, name: str, server: Server) -> None:
        """Have Google list a machine."""
        self.servers.append({"region": region, "name": name, "port": server.port})
        self.write()

    def write(self) -> None:
        """Let `gcloud` see `servers`, all at once."""
        written = self.folder / "bin" / "servers.new"
        written.write_text(json.dumps(self.servers))
        written.rename(self.folder / "bin" / "servers.json")

    def connect(self, region: str) -> socket.socket:
        """A connection to a region's local port."""
        connection = socket.create_connection(("127.0.0.1", self.ports[region]), timeout=_PATIENCE)
        connection.settimeout(_PATIENCE)
        return connection

    def ask(self, region: str) -> bytes:
        """One line's answer from a region."""
        with self.connect(region) as connection:
            connection.sendall(b"?\n")
            return connection.makefile("rb").readline().strip()

    def start(self, *arguments: str, **more: object) -> "subprocess.Popen[str]":
        """Start `mlops tunnel`."""
        return subprocess.Popen(
            self.mlops.argv("tunnel", "--stack", "one", *arguments),
            env=self.mlops.env(PATH=f"{self.folder / 'bin'}:{os.environ['PATH']}", NOMAD_CACERT="/of/another/nomad"),
            cwd=self.folder,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **{"stdin": subprocess.DEVNULL, **more},  # pyright: ignore[reportArgumentType]
        )

    def left(self) -> list[int]:
        """Which `gcloud` processes that were ever started still run."""
        file = self.folder / "bin" / "pids"
        pids = [int(line) for line in file.read_text().split()] if file.exists() else []
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    ports: dict[str, int] = dict(zip(("first", "second"), free_ports(2), strict=True))
    for name in ("infra", "mlops"):
        shutil.copytree(CHECKOUT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    regions = {
        name: {"region": "europe-west1", "zones": ["europe-west1-b"], "servers": _SERVERS, "pools": _POOL}
        for name in ports
    }
    settings = {
        "gcp": {"project": "example-project", "project_number": "123456789012", "region": "europe-west1"},
        "network": {"subnets": {"europe-west1": {"nodes": "10.10.0.0/20"}}},
        "nomad": {
            "release": {"version": "2.0.5"},
            "authoritative_region": "second",
            "regions": {name: {**regions[name], "local_port": port} for name, port in ports.items()},
        },
        "buckets": {use: f"example-{use}" for use in ("models", "data", "artifacts", "logs")},
    }
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.one.yaml").write_text(
        yaml.safe_dump({"config": {f"hybrid-mlops:{key}": value for key, value in settings.items()}})
    )
    (tmp_path / "bin").mkdir()
    gcloud = tmp_path / "bin" / "gcloud"
    source = (CHECKOUT / "tests" / "tunnel" / "gcloud.py").read_text()
    gcloud.write_text(f"#!{os.path.realpath(sys.executable)} -ES\n{source}")
    gcloud.chmod(0o755)
    made = World(tmp_path, Mlops(tmp_path / "state", tmp_path), ports)
    made.write()
    return made


@contextmanager
def tunnels(world: World, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """The command without one of its own, listening; ended by an interrupt, and nothing is left."""
    process = world.start(*arguments)
    try:
        assert process.stdout
        said = [process.stdout.readline()]
        while said[-1] and "export NOMAD_CAPATH" not in said[-1]:
            said.append(process.stdout.readline())
        assert said[-1], [*said, process.communicate()[1]]
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(_PATIENCE) == 130
        assert world.left() == []
    finally:
        process.kill()
        process.communicate()


def test_each_region_has_its_port_and_the_command_is_told(world: World) -> None:
    for region in world.ports:
        world.live(region, f"server-{region}", Server(named(region)))
    script = """
import json, os, socket, sys
heard = {}
for region, port in json.loads(sys.argv[1]).items():
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(b"?\\n")
        heard[region] = connection.makefile().readline().strip()
ca = open(os.environ["NOMAD_CAPATH"] + "/nomad-ca.pem").read()
told = {name: value for name, value in os.environ.items() if name.startswith("NOMAD_")}
print(json.dumps({"heard": heard, "stdin": sys.stdin.read(), "told": told, "ca": ca}))
sys.exit(7)
"""
    command = [sys.executable, "-c", script]

    process = world.start("--", *command, json.dumps(world.ports), stdin=subprocess.PIPE)
    output, errors = process.communicate("what the command reads", timeout=_PATIENCE)
    assert process.returncode == 7, errors
    said = json.loads(output)
    assert said["heard"] == {"first": "first", "second": "second"}
    assert said["stdin"] == "what the command reads"
    assert said["ca"] == "-----BEGIN CERTIFICATE-----\n"
    ca_folder = said["told"].pop("NOMAD_CAPATH")
    # The authoritative region, and no name of a server: the other region's would not match.
    assert said["told"] == {"NOMAD_ADDR": f"https://127.0.0.1:{world.ports['second']}", "NOMAD_REGION": "second"}
    assert not Path(ca_folder).exists()
    assert world.left() == []

    process = world.start("--region", "first", "--", *command, json.dumps({"first": world.ports["first"]}))
    output, errors = process.communicate(timeout=_PATIENCE)
    said = json.loads(output)
    del said["told"]["NOMAD_CAPATH"]
    assert said["told"] == {
        "NOMAD_ADDR": f"https://127.0.0.1:{world.ports['first']}",
        "NOMAD_REGION": "first",
        "NOMAD_TLS_SERVER_NAME": "server.first.nomad",
    }


def test_without_a_server_a_connection_is_refused_until_there_is_one(world: World) -> None:
    with tunnels(world):
        with pytest.raises(ConnectionResetError):
            world.ask("first")
        world.live("first", "server-a", Server(named("a")))
        assert world.ask("first") == b"a"


def test_a_dead_server_cuts_its_connections_off_and_the_next_goes_to_another(world: World) -> None:
    def dies(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100))
        connection.recv(100)
        # A reset: what a machine's end looks like.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    a, b = Server(dies), Server(named("b"))
    world.live("first", "server-a", a)
    world.live("first", "server-b", b)
    with tunnels(world) as process:
        with world.connect("first") as connection:
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
            connection.sendall(b"die")
            # Not an end of the stream: an answer that was cut off must not look whole.
            with pytest.raises(ConnectionResetError):
                connection.recv(100)
        a.die()
        # Google still lists the machine: what the client said first is said to the other.
        assert world.ask("first") == b"b"
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert "no tunnel to server-a (europe-west1-b): Error while connecting [4003" in process.stderr.read()


def test_many_connections_carry_much_in_both_directions(world: World) -> None:
    world.live("first", "server-a", Server(echo))
    payloads = [os.urandom(3_000_000) + bytes([i]) for i in range(12)]

    def there_and_back(payload: bytes) -> str:
        received = hashlib.sha256()
        with world.connect("first") as connection:
            sender = threading.Thread(target=connection.sendall, args=(payload,))
            sender.start()
            left = len(payload)
            while left:
                data = connection.recv(65536)
                assert data
                received.update(data)
                left -= len(data)
            sender.join()
        return received.hexdigest()

    with tunnels(world), ThreadPoolExecutor(len(payloads)) as pool:
        assert list(pool.map(there_and_back, payloads)) == [hashlib.sha256(p).hexdigest() for p in payloads]


def test_a_client_that_has_said_everything_still_gets_its_answer(world: World) -> None:
    def slowly(connection: socket.socket) -> None:
        request = connection.recv(100)
        for _ in range(3):
            time.sleep(0.5)
            connection.sendall(request)

    world.live("first", "server-a", Server(slowly))
    with tunnels(world), world.connect("first") as connection:
        connection.sendall(b"ask")
        connection.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: connection.recv(100), b"")) == b"askaskask"


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 5), (signal.SIGTERM, 128 + signal.SIGTERM)])
def test_a_signal_is_the_commands_and_leaves_nothing_running(world: World, sign: signal.Signals, code: int) -> None:
    world.live("first", "server-a", Server(echo))
    # Interrupted, it still uses its tunnel, as `pulumi` does to end what it has begun.
    script = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"x")
    try:
        print(connection.recv(1), flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        connection.sendall(b"y")
        sys.exit(5 if connection.recv(1) == b"y" else 6)
"""
    process = world.start("--", sys.executable, "-c", script, str(world.ports["first"]))
    assert process.stdout
    assert process.stdout.readline() == "b'x'\n"
    assert len(world.left()) == 1
    process.send_signal(sign)
    assert process.wait(_PATIENCE) == code, process.communicate()
    assert world.left() == []
    process.communicate()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--region", "third"], "mlops: stack one has no Nomad region 'third'; it has: first, second"),
        (["--", "no-such-program"], "mlops: no-such-program cannot be run (No such file or directory), so nothing"),
        (["taken"], "cannot be listened on (Address already in use), so Nomad region first has no address here"),
        (["no gcloud"], "mlops: gcloud is not on PATH, so no tunnel can be opened; install"),
    ],
    ids=["region", "command", "port", "gcloud"],
)
def test_what_cannot_work_is_told_in_one_line(world: World, arguments: list[str], line: str) -> None:
    held = socket.socket()
    if arguments == ["taken"]:
        held.bind(("127.0.0.1", world.ports["first"]))
        held.listen()
        arguments = []
    environment = {"PATH": f"{world.folder / 'bin'}:{os.environ['PATH']}"}
    if arguments == ["no gcloud"]:
        environment, arguments = {"PATH": "/nowhere"}, []
    done = world.mlops("tunnel", "--stack", "one", *arguments, timeout=_PATIENCE, **environment)
    held.close()
    assert done.returncode == 2
    assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert world.left() == []


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
