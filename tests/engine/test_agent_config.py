"""The configuration that machines get, on real Nomad agents: they take it, find each other by it, and are bootstrapped.

Replaced are the paths, the ports, and what only Google Cloud has: the key ring, and finding servers by tag. TLS, ACLs,
gossip, the drivers and everything that a task sees stay as they are rendered; of docker it is the plugin alone.
"""

import base64
import json
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from infra import naming, settings
from infra.nomad import agent, autoscaling, boot
from tests.engine.agent import free_ports

pytestmark = [
    pytest.mark.engine,
    pytest.mark.whole,
    pytest.mark.skipif(
        not shutil.which("nomad"),
        reason="the program `nomad` is not on PATH, so what machines get was started on no agent; install it",
    ),
]

STACK = "dev"
PATIENCE = 120
TOKEN = str(uuid.uuid4())


def first_region() -> tuple[settings.Settings, str]:
    stack = settings.load(STACK)
    return stack, next(iter(stack.nomad.regions))


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates with the names that the program gives them."""
    _, region = first_region()
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    for role, name in {"server": naming.nomad_server_name(region), "client": f"client.{region}.nomad"}.items():
        issued = ca.issue_cert(name, "localhost", "127.0.0.1")
        issued.cert_chain_pems[0].write_to_path(str(folder / f"{role}.pem"))
        issued.private_key_pem.write_to_path(str(folder / f"{role}-key.pem"))
    return folder


def adapted(config: Mapping[str, Any], role: str, folder: Path, tls: Path, ports: Mapping[str, int]) -> dict[str, Any]:
    """A rendered configuration for this machine; see the module's docstring."""
    result = json.loads(json.dumps(config))
    loopback = {"bind_addr": "127.0.0.1", "advertise": dict.fromkeys(("http", "rpc", "serf"), "127.0.0.1")}
    return with_certificates(result | loopback | {"data_dir": str(folder / "data"), "ports": dict(ports)}, role, tls)


def with_certificates(config: Mapping[str, Any], role: str, tls: Path) -> dict[str, Any]:
    files = {"ca_file": "ca.pem", "cert_file": f"{role}.pem", "key_file": f"{role}-key.pem"}
    return {**config, "tls": config["tls"] | {name: str(tls / file) for name, file in files.items()}}


@contextmanager
def running(folder: Path, *configs: Mapping[str, Any]) -> Iterator[Path]:
    """An agent with these configuration files; gives its log."""
    for number, config in enumerate(configs):
        (folder / f"{number}.json").write_text(json.dumps(config))
    log = folder / "agent.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nomad", "agent", *(f"-config={folder / f'{n}.json'}" for n in range(len(configs)))],
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            stdout=output,
            stderr=output,
        )
        try:
            yield log
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Of the server."""
    return three_ports()


def three_ports() -> dict[str, int]:
    http, rpc, serf = free_ports(3)
    return {"http": http, "rpc": rpc, "serf": serf}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tls: Path, ports: dict[str, int]) -> Iterator[str]:
    """A server as it is rendered, with a gossip key; gives its address."""
    stack, region = first_region()
    folder = tmp_path_factory.mktemp("server")
    config = adapted(agent.server(stack, region, 0), "server", folder, tls, ports)
    config["server"].pop("server_join")
    gossip = {"server": {"encrypt": base64.b64encode(bytes(range(32))).decode()}}
    with running(folder, config, gossip) as log:
        try:
            yield f"https://127.0.0.1:{ports['http']}"
        finally:
            print(log.read_text()[-3000:])


def bootstrap(address: str, ca: Path, token: str, patience: int = PATIENCE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(boot.FILES / "bootstrap.sh"), address, str(ca), str(patience)],
        input=token + "\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE + 30,
    )


@pytest.fixture(scope="module")
def ask(server: str, tls: Path) -> Any:
    """Asks the bootstrapped server."""
    done = bootstrap(server, tls / "ca.pem", TOKEN)
    assert done.returncode == 0, done.stderr

    def get(path: str) -> Any:
        answer = requests.get(
            f"{server}/v1/{path}", headers={"X-Nomad-Token": TOKEN}, verify=str(tls / "ca.pem"), timeout=30
        )
        assert answer.ok, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()

    return get


def test_the_whole_configuration_of_a_server_is_valid(tmp_path: Path, tls: Path) -> None:
    """As it is rendered, with what the boot script adds from Secret Manager and from the name of the key."""
    stack, region = first_region()
    ring = {"active": True, "project": "p", "region": "r", "key_ring": "k", "crypto_key": "c"}
    more = {
        "keyring": {"keyring": {"gcpckms": ring}},
        "gossip": {"server": {"encrypt": base64.b64encode(bytes(32)).decode()}},
        "replication": {"acl": {"replication_token": TOKEN}},
    }
    for name, config in {"agent": with_certificates(agent.server(stack, region, 0), "server", tls), **more}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(config))
    assert_valid(tmp_path)


def test_the_whole_configuration_of_a_client_is_valid(tmp_path: Path, tls: Path) -> None:
    stack, region = first_region()
    for pool in stack.nomad.regions[region].pools:
        config = with_certificates(agent.client(stack, region, pool), "client", tls)
        (tmp_path / "agent.json").write_text(json.dumps(config))
        assert_valid(tmp_path)


def test_the_acls_are_bootstrapped_once_however_often_it_is_tried(server: str, tls: Path, ask: Any) -> None:
    again = bootstrap(server, tls / "ca.pem", TOKEN)
    assert (again.returncode, again.stdout, again.stderr) == (0, "the ACLs are bootstrapped already\n", "")
    assert ask("acl/token/self")["Type"] == "management"


def test_a_nomad_that_was_bootstrapped_with_another_token_is_told(server: str, tls: Path, ask: Any) -> None:
    other = str(uuid.uuid4())
    done = bootstrap(server, tls / "ca.pem", other, patience=3)
    assert done.returncode == 1
    assert "with another token" in done.stderr
    assert other not in done.stdout + done.stderr


def test_nothing_is_read_without_a_token_or_without_tls(server: str, tls: Path, ask: Any) -> None:
    """But for what health checks and the boot script need."""
    assert requests.get(f"{server}/v1/jobs", verify=str(tls / "ca.pem"), timeout=30).status_code == 403
    assert requests.get(f"{server}/v1/status/leader", verify=str(tls / "ca.pem"), timeout=30).ok
    plain = requests.get(f"{server}/v1/jobs".replace("https", "http"), timeout=30)
    assert plain.status_code == 400


def test_what_the_report_reads_is_told_by_a_leader(server: str, tls: Path, ask: Any) -> None:
    """The names of metrics that files/report.sh looks for; without a token, as it has none."""
    deadline = time.monotonic() + PATIENCE
    wanted = {"nomad.nomad.autopilot.healthy", "nomad.nomad.autopilot.failure_tolerance"}
    names: set[str] = set()
    while time.monotonic() < deadline and not wanted <= names:
        told = requests.get(f"{server}/v1/metrics", verify=str(tls / "ca.pem"), timeout=30).json()
        names = {gauge["Name"] for gauge in told["Gauges"]}
        time.sleep(1)
    assert wanted <= names


def test_what_the_autoscaler_counts_is_told_of_a_run_that_no_machine_takes_yet(
    server: str, tls: Path, ask: Any
) -> None:
    """Scaling from nothing: the query's metric has its labels while the pool has no machine, and so no run starts."""
    job = {
        "ID": "waiting",
        "Type": "batch",
        "Datacenters": ["*"],
        "ParameterizedJob": {"Payload": "forbidden"},
        "TaskGroups": [
            {"Name": "training", "Tasks": [{"Name": "t", "Driver": "exec", "Config": {"command": "true"}}]},
        ],
    }
    given: dict[str, Any] = {"headers": {"X-Nomad-Token": TOKEN}, "verify": str(tls / "ca.pem")}
    assert requests.put(f"{server}/v1/jobs", json={"Job": job}, timeout=30, **given).ok
    assert requests.put(f"{server}/v1/job/waiting/dispatch", json={}, timeout=30, **given).ok
    query = autoscaling.query({("waiting", "training"): 7})
    (name, labels), *rest = re.findall(r'{__name__=~"(\S+)", (parent_id="\S+", task_group="\S+")}', query)
    assert not rest
    deadline = time.monotonic() + PATIENCE
    told, found = "", []
    while time.monotonic() < deadline and not found:
        told = requests.get(f"{server}/v1/metrics?format=prometheus", verify=str(tls / "ca.pem"), timeout=30).text
        found = [
            line
            for line in told.splitlines()
            if re.match(rf"{name}{{", line)
            and all(label in line for label in labels.split(", "))
            and line.endswith(" 1")
        ]
        time.sleep(1)
    assert [line.partition("{")[0] for line in found] == ["nomad_nomad_job_summary_queued"]
    assert "nomad_nomad_autopilot_healthy" in told


def test_a_snapshot_brings_everything_back_to_a_new_server(server: str, tls: Path, ask: Any, tmp_path: Path) -> None:
    """As docs/runbooks/restore-a-snapshot.md has it, for servers whose disks are lost."""
    given: dict[str, Any] = {"headers": {"X-Nomad-Token": TOKEN}, "verify": str(tls / "ca.pem")}
    assert requests.put(f"{server}/v1/namespace", json={"Name": "kept"}, timeout=30, **given).ok
    environment = {"PATH": os.environ["PATH"], "NOMAD_CACERT": str(tls / "ca.pem"), "NOMAD_TOKEN": TOKEN}
    file = tmp_path / "nomad.snap"
    save = ["nomad", "operator", "snapshot", "save", str(file)]
    assert subprocess.run(save, env=environment | {"NOMAD_ADDR": server}, capture_output=True).returncode == 0
    stack, region = first_region()
    mine = three_ports()
    config = adapted(agent.server(stack, region, 0), "server", tmp_path, tls, mine)
    config["server"].pop("server_join")
    new = f"https://127.0.0.1:{mine['http']}"
    with running(tmp_path, config):
        # What the new server's own boot does before anyone restores anything.
        assert bootstrap(new, tls / "ca.pem", TOKEN).returncode == 0
        assert requests.get(f"{new}/v1/namespace/kept", timeout=30, **given).status_code == 404
        restore = ["nomad", "operator", "snapshot", "restore", str(file)]
        done = subprocess.run(restore, env=environment | {"NOMAD_ADDR": new}, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert requests.get(f"{new}/v1/namespace/kept", timeout=30, **given).ok
        assert bootstrap(new, tls / "ca.pem", TOKEN).stdout == "the ACLs are bootstrapped already\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="not root, so no client was started: the exec driver needs it")
def test_a_client_joins_its_pool_with_drivers_volume_and_the_planned_cpu(
    tmp_path: Path, tls: Path, ports: dict[str, int], ask: Any
) -> None:
    stack, region = first_region()
    pool, of = next(iter(stack.nomad.regions[region].pools.items()))
    config = adapted(agent.client(stack, region, pool), "client", tmp_path, tls, three_ports())
    models = tmp_path / "models"
    models.mkdir()
    config["client"]["server_join"]["retry_join"] = [f"127.0.0.1:{ports['rpc']}"]
    config["client"]["host_volume"][0]["models"][0]["path"] = str(models)
    config["client"]["options"]["fingerprint.denylist"] += ",env_gce"
    with running(tmp_path, config) as log:
        deadline = time.monotonic() + PATIENCE
        ready: list[Any] = []
        while time.monotonic() < deadline and not ready:
            ready = [node for node in ask("nodes") if node["Status"] == "ready"]
            time.sleep(0.5)
        said = log.read_text()
        assert ready, said
        node = ask(f"node/{ready[0]['ID']}")
    assert node["NodePool"] == pool
    assert node["HostVolumes"]["models"]["Path"] == str(models)
    assert (
        node["NodeResources"]["Cpu"]["CpuShares"] - node["ReservedResources"]["Cpu"]["CpuShares"]
        == (agent.capacity(of)[0])
    )
    assert {"docker", "exec"} == set(node["Drivers"])
    assert "consul" not in said.lower(), "nothing is asked of a Consul that there is not"


def assert_valid(folder: Path) -> None:
    done = subprocess.run(["nomad", "config", "validate", str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = (done.stdout + done.stderr).splitlines()
    # That a region of one server has nobody to wait for is how its stack is meant.
    warnings = [line for line in said if "WARNING" in line and "Bootstrap mode enabled" not in line]
    assert not warnings
