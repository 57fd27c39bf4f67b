"""A checkout with a stack whose Nomad is reached through tunnels, and what stands in for Google between them."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from tests.conftest import CHECKOUT, Mlops
from tests.engine.agent import free_ports

_PATIENCE = 60
_POOL = {"system": {"machine_type": "n1-standard-2", "size": 1}}
_SERVERS = {"machine_type": "n1-standard-2", "count": 1}


@dataclass
class World:
    """A checkout with one stack of two Nomad regions, a `gcloud` that finds what is in `servers`, and free ports."""

    folder: Path
    mlops: Mlops
    ports: dict[str, int]
    servers: list[dict[str, object]] = field(default_factory=list)

    def live(self, region: str, name: str, port: int) -> None:
        """Have Google list a machine."""
        self.servers.append({"region": region, "name": name, "port": port})
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
    ports: dict[str, int] = dict(zip(("eu", "us"), free_ports(2), strict=True))
    for name in ("definitions", "infra", "inventory", "mlops", "registry"):
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
            "authoritative_region": "us",
            "regions": {name: {**regions[name], "local_port": port} for name, port in ports.items()},
        },
        "buckets": {use: f"example-{use}" for use in ("models", "data", "artifacts", "logs")},
    }
    (tmp_path / "stacks").mkdir()
    (tmp_path / "stacks" / "Pulumi.one.yaml").write_text(
        yaml.safe_dump({"config": {f"hybrid-mlops:{key}": value for key, value in settings.items()}})
    )
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ca.pem").write_text("-----BEGIN CERTIFICATE-----\n")
    gcloud = tmp_path / "bin" / "gcloud"
    source = (CHECKOUT / "tests" / "tunnel" / "gcloud.py").read_text()
    gcloud.write_text(f"#!{os.path.realpath(sys.executable)} -ES\n{source}")
    gcloud.chmod(0o755)
    made = World(tmp_path, Mlops(tmp_path / "state", tmp_path), ports)
    made.write()
    return made
