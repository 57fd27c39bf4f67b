"""The real thing end to end: a training of images/tensornode on the real data, through the registry."""

import csv
import functools
import http.server
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops_registry import Registry

from .conftest import MODEL, ORIGIN, VERSION, Emulator, Program

CHECKOUT = Path(__file__).parents[2]
DATA = CHECKOUT / ".cache/data"


@pytest.fixture(scope="module")
def data_url() -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object, **named: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(DATA)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/Caravan.csv"
    server.shutdown()


@pytest.mark.whole
def test_a_real_training_is_stored_verified_promoted_and_predicts(
    program: Program, registry: Registry, emulator: Emulator, bucket: str, data_url: str, tmp_path: Path
) -> None:
    run_dir = tmp_path / "models" / VERSION
    parameters = {
        "RUN_DIR": str(run_dir),
        "DATA_URL": data_url,
        "DATA_PATH": "data/customers.csv",
        "PREDICTION_PATH": "predictions.csv",
        "SAVE_PATH": "sales",
        "MODEL_VERSION": "7",
        "EPOCHS": "2",
        "MIN_AUC": "0.5",
        "SEED": "",
        "ALLOC_ID": ORIGIN.allocation,
    }
    subprocess.run(
        ["node", CHECKOUT / "images/tensornode/src/main.js", "train"], env={**os.environ, **parameters}, check=True
    )
    examples = json.loads((run_dir / "examples.json").read_text())["examples"]

    task = {"MODEL": MODEL, "VERSION_ID": VERSION, "RUN_DIR": run_dir, "LANE": "nomad", "MLOPS_TENSORNODE": None}
    engine = {"ENGINE_RUN": ORIGIN.run, "ALLOC_ID": ORIGIN.allocation}
    for command in ("store", "verify"):
        result = program.run(command, **task, **engine)
        assert (result.returncode, result.stderr) == (0, "")
    assert not run_dir.exists()

    details = registry.show(VERSION)
    assert details.verifications[-1].examples == len(examples) == 200
    assert "@tensorflow/tfjs-core" in details.verifications[-1].tools
    assert details.manifest.data.rows == 5822
    assert details.manifest.seed_source == "allocation"
    (summary,) = registry.list()
    assert (summary.verified, summary.seed, summary.auc is None, summary.baseline_auc is None) == (
        "passed",
        details.manifest.seed,
        False,
        False,
    )
    stored = emulator.objects(bucket)
    assert not any("customers.csv" in name or "training.json" in name for name in stored)

    assert program.run("promote", VERSION, "production").returncode == 0
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, examples[0]["input"])
        writer.writeheader()
        writer.writerows(example["input"] for example in examples)
    result = program.run("predict", "production", str(tmp_path / "rows.csv"), MLOPS_TENSORNODE=None)
    assert (result.returncode, result.stderr) == (0, "")
    predictions = [json.loads(line)["prediction"] for line in result.stdout.splitlines()]
    assert predictions == pytest.approx([example["prediction"] for example in examples], abs=1e-6)

    (tmp_path / "rows.jsonl").write_text(
        json.dumps(examples[0]["input"]) + "\n" + json.dumps({"MOSTYPE": "many"}) + "\n"
    )
    result = program.run("predict", "production", str(tmp_path / "rows.jsonl"), MLOPS_TENSORNODE=None)
    assert result.returncode == 2
    assert "line 2" in result.stderr
    assert len(result.stderr.splitlines()) == 1
