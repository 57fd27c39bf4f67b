"""Versions whose model is a Java library: with a small stand-in for the packager, and with the real one."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlops_registry import Registry
from mlops_registry.scorers import h2o_mojo

from .conftest import MODEL, ORIGIN, VERSION, Emulator

CHECKOUT = Path(__file__).parents[2]
PACKAGER = CHECKOUT / "images" / "mojo-packager"
PRIMED = PACKAGER / "target" / "m2" / "runtime"

# Answers as the packager's `score` does; what it computes does not matter here.
SCORER = """
import json, sys
verb, folder = sys.argv[1:]
weight = json.load(open(folder + "/library.jar"))
for line in sys.stdin:
    prediction = json.loads(line)["x"] * weight
    print(json.dumps({"prediction": prediction, "label": "Yes" if prediction > 4 else "No"}), flush=True)
"""


def store(registry: Registry, folder: Path, files: dict[str, bytes]) -> None:
    """Store files as a version of format h2o-mojo."""
    run_dir = folder / VERSION
    for path, content in files.items():
        (run_dir / path).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / path).write_bytes(content)
    listed = [
        {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for path, content in files.items()
    ]
    training = {
        "format": "h2o-mojo",
        "parameters": {"trials": 2},
        "seed": 1,
        "data": {"uri": "gs://data/raw", "sha256": "a" * 64, "rows": 1, "schema": []},
        "model_digest": "b" * 64,
        "files": listed,
    }
    (run_dir / "training.json").write_text(json.dumps(training))
    registry.store(MODEL, VERSION, run_dir, ORIGIN)


def small(changed: Mapping[str, object] | None = None) -> dict[str, bytes]:
    """A version of the stand-in; `changed` is set in the last example."""
    weight = 0.5
    examples = [
        {"input": {"x": x}, "prediction": x * weight, "label": "Yes" if x * weight > 4 else "No"} for x in range(20)
    ]
    examples[-1] |= changed or {}
    return {
        "model/library.jar": json.dumps(weight).encode(),
        "examples.json": json.dumps({"target": "y", "examples": examples}).encode(),
        "metrics.json": json.dumps({"test": {"auc": 0.75}, "baseline": {"auc": 0.7}}).encode(),
    }


@pytest.fixture
def packager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mojo-packager"
    (folder / "src").mkdir(parents=True)
    (folder / "src/packager.py").write_text(SCORER)
    monkeypatch.setenv("MLOPS_MOJO_PACKAGER", str(folder))
    return folder


@pytest.mark.usefixtures("packager")
def test_a_library_is_verified_and_predicts(registry: Registry, tmp_path: Path) -> None:
    store(registry, tmp_path, small())
    verification = registry.verify(VERSION)
    assert (verification.passed, verification.examples, verification.max_difference) == (True, 20, 0)
    assert verification.tolerance == 1e-9
    assert int(verification.tools["java"].split(".")[0]) >= 17
    assert list(registry.predict(VERSION, [{"x": 3}, {"x": 4}])) == [1.5, 2.0]


@pytest.mark.usefixtures("packager")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prediction": 9.5 + 1e-8}, "1 of 20 examples differ by more than 1e-09"),
        ({"label": "No"}, "1 of 20 examples differ by more than 1e-09 or in their label (1)"),
    ],
)
def test_another_prediction_or_label_fails(
    registry: Registry, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    store(registry, tmp_path, small(changed))
    verification = registry.verify(VERSION)
    assert (verification.passed, verification.message) == (False, message)


@pytest.mark.parametrize("path", sorted(small()))
def test_a_byte_of_any_file_that_changed_fails_before_anything_is_loaded(
    registry: Registry, emulator: Emulator, bucket: str, packager: Path, tmp_path: Path, path: str
) -> None:
    store(registry, tmp_path, small())
    stored = emulator.root / bucket / f"models/{MODEL}/{VERSION}" / path
    with stored.open("r+b") as file:  # in place, which keeps the emulator's own attributes of the object
        byte = file.read(1)[0]
        file.seek(0)
        file.write(bytes([byte ^ 1]))
    (packager / "src/packager.py").write_text(f"open({str(tmp_path / 'started')!r}, 'w')")
    verification = registry.verify(VERSION)
    assert (verification.passed, verification.examples) == (False, 0)
    assert verification.message == f"{path} of {VERSION} was changed: its SHA-256 is not the manifest's"
    assert not (tmp_path / "started").exists()


def test_the_images_own_python_scores_where_there_is_one(packager: Path) -> None:
    assert h2o_mojo.command(Path("/v"))[0] == sys.executable
    (packager / ".venv/bin").mkdir(parents=True)
    (packager / ".venv/bin/python").symlink_to(sys.executable)
    assert h2o_mojo.command(Path("/v"))[0] == str(packager / ".venv/bin/python")


@pytest.mark.whole
@pytest.mark.skipif(not PRIMED.exists(), reason=f"{PRIMED} is missing: run `make setup`")
def test_a_real_library_is_verified_and_predicts(registry: Registry, tmp_path: Path) -> None:
    fixture, output = PACKAGER / "fixture", tmp_path / "package"
    given = ["--mojo", fixture / "model.zip", "--examples", fixture / "examples.json", "--output", output]
    program = [sys.executable, PACKAGER / "src/packager.py", "package", "--coordinates", "com.example:tiny:1"]
    subprocess.run([*program, *given], check=True, capture_output=True)
    package = json.loads((output / "package.json").read_text())
    files = {
        "model/model.zip": (fixture / "model.zip").read_bytes(),
        "model/tiny.jar": (output / package["jar"]).read_bytes(),
        "examples.json": (fixture / "examples.json").read_bytes(),
        "metrics.json": small()["metrics.json"],
    }
    shutil.rmtree(output)  # what was packaged is not what is loaded
    store(registry, tmp_path, files)
    verification = registry.verify(VERSION)
    assert (verification.message, verification.examples, verification.max_difference) == (None, 60, 0)
    example = json.loads(files["examples.json"])["examples"][0]
    assert list(registry.predict(VERSION, [example["input"]])) == [example["prediction"]]
