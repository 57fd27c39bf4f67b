"""`mlops tunnel` as a person runs it: real processes and sockets; only Google between them is stood in for."""

import fcntl
import hashlib
import json
import os
import pty
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.tunnel.world import World

_PATIENCE = 60


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
        world.live(region, f"server-{region}", Server(named(region)).port)
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
    assert said["heard"] == {"eu": "eu", "us": "us"}
    assert said["stdin"] == "what the command reads"
    assert said["ca"] == "-----BEGIN CERTIFICATE-----\n"
    ca_folder = said["told"].pop("NOMAD_CAPATH")
    # The authoritative region, and no name of a server: the other region's would not match.
    assert said["told"] == {"NOMAD_ADDR": f"https://127.0.0.1:{world.ports['us']}", "NOMAD_REGION": "us"}
    assert not Path(ca_folder).exists()
    assert world.left() == []

    process = world.start("--region", "eu", "--", *command, json.dumps({"eu": world.ports["eu"]}))
    output, errors = process.communicate(timeout=_PATIENCE)
    said = json.loads(output)
    del said["told"]["NOMAD_CAPATH"]
    assert said["told"] == {
        "NOMAD_ADDR": f"https://127.0.0.1:{world.ports['eu']}",
        "NOMAD_REGION": "eu",
        "NOMAD_TLS_SERVER_NAME": "server.eu.nomad",
    }


def test_without_a_server_a_connection_is_refused_until_there_is_one(world: World) -> None:
    with tunnels(world):
        with pytest.raises(ConnectionResetError):
            world.ask("eu")
        world.live("eu", "server-a", Server(named("a")).port)
        assert world.ask("eu") == b"a"


def test_a_dead_server_cuts_its_connections_off_and_the_next_goes_to_another(world: World) -> None:
    def dies(connection: socket.socket) -> None:
        connection.sendall(connection.recv(100))
        connection.recv(100)
        # A reset: what a machine's end looks like.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    a, b = Server(dies), Server(named("b"))
    world.live("eu", "server-a", a.port)
    world.live("eu", "server-b", b.port)
    with tunnels(world) as process:
        with world.connect("eu") as connection:
            connection.sendall(b"hello")
            assert connection.recv(100) == b"hello"
            connection.sendall(b"die")
            # Not an end of the stream: an answer that was cut off must not look whole.
            with pytest.raises(ConnectionResetError):
                connection.recv(100)
        a.die()
        # Google still lists the machine: what the client said first is said to the other.
        assert world.ask("eu") == b"b"
        process.send_signal(signal.SIGINT)
        assert process.stderr
        assert "no tunnel to server-a (europe-west1-b): Error while connecting [4003" in process.stderr.read()


def test_many_connections_carry_much_in_both_directions(world: World) -> None:
    world.live("eu", "server-a", Server(echo).port)
    payloads = [os.urandom(3_000_000) + bytes([i]) for i in range(12)]

    def there_and_back(payload: bytes) -> str:
        received = hashlib.sha256()
        with world.connect("eu") as connection:
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

    world.live("eu", "server-a", Server(slowly).port)
    with tunnels(world), world.connect("eu") as connection:
        connection.sendall(b"ask")
        connection.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: connection.recv(100), b"")) == b"askaskask"


# Interrupted, it uses its tunnel once more, as `pulumi` does to end what it has begun; a second interrupt would end it.
WORKER = """
import socket, sys, time
with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as connection:
    connection.sendall(b"x")
    try:
        print(connection.recv(1), flush=True)
        time.sleep(600)
    except KeyboardInterrupt:
        connection.sendall(b"y")
        answer = connection.recv(1)
        time.sleep(1)
        sys.exit(5 if answer == b"y" else 6)
"""


@pytest.mark.parametrize(
    ("sign", "code"),
    [(signal.SIGINT, 5), (signal.SIGTERM, 128 + signal.SIGTERM), ("Ctrl-C", 5)],
    ids=["interrupt", "terminate", "Ctrl-C at a terminal"],
)
def test_a_signal_is_the_commands_and_leaves_nothing_running(
    world: World, sign: signal.Signals | Literal["Ctrl-C"], code: int
) -> None:
    world.live("eu", "server-a", Server(echo).port)
    keyboard, terminal = pty.openpty()
    options: dict[str, Any] = {}
    if sign == "Ctrl-C":
        own = lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # noqa: E731  its standard input is then its terminal
        options = {"stdin": terminal, "start_new_session": True, "preexec_fn": own}
    process = world.start("--", sys.executable, "-c", WORKER, str(world.ports["eu"]), **options)
    try:
        assert process.stdout
        assert process.stdout.readline() == "b'x'\n"
        assert len(world.left()) == 1
        if isinstance(sign, signal.Signals):
            process.send_signal(sign)
        else:
            os.write(keyboard, b"\x03")
        assert process.wait(_PATIENCE) == code, process.communicate()
        assert world.left() == []
    finally:
        process.kill()
        process.communicate()
        os.close(keyboard)
        os.close(terminal)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--region", "third"], "mlops: stack one has no Nomad region 'third'; it has: eu, us"),
        (["--", "no-such-program"], "mlops: no-such-program cannot be run (No such file or directory), so nothing"),
        (["taken"], "cannot be listened on (Address already in use), so Nomad region eu has no address here"),
        (["no gcloud"], "mlops: gcloud is not on PATH, so no tunnel can be opened; install"),
    ],
    ids=["region", "command", "port", "gcloud"],
)
def test_what_cannot_work_is_told_in_one_line(world: World, arguments: list[str], line: str) -> None:
    held = socket.socket()
    if arguments == ["taken"]:
        held.bind(("127.0.0.1", world.ports["eu"]))
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
