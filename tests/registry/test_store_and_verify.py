"""The store and verify tasks on a real bucket: what is stored, what a repeat does, what a changed byte does."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from mlops_registry import ConflictError, NotFoundError, Registry

from .conftest import MODEL, ORIGIN, VERSION, Emulator, Program, finished_training

FILES = ["examples.json", "metrics.json", "model/model.json", "model/preprocessing.json", "model/weights.bin"]


def test_a_training_is_stored_and_verified_by_the_two_tasks(task: Program, run_dir: Path, registry: Registry) -> None:
    stored = task.run("store")
    assert (stored.returncode, stored.stderr) == (0, "")
    assert not run_dir.exists()
    # As in the job: verify is not told who it is, but Nomad says it to every task.
    told = {"ENGINE_RUN": None, "ALLOC_ID": None, "NOMAD_JOB_ID": ORIGIN.run, "NOMAD_ALLOC_ID": ORIGIN.allocation}
    verified = task.run("verify", **told)
    assert (verified.returncode, verified.stderr) == (0, "")
    assert "0 of 20 examples differ" in verified.stdout

    details = registry.show(VERSION)
    manifest, (verification,) = details.manifest, details.verifications
    assert [file.path for file in manifest.files] == sorted(FILES, key=[file.path for file in manifest.files].index)
    assert (manifest.model, manifest.version_id, manifest.lane) == (MODEL, VERSION, "nomad")
    assert (manifest.engine.run, manifest.engine.allocation, manifest.images) == (
        ORIGIN.run,
        ORIGIN.allocation,
        ORIGIN.images,
    )
    assert (manifest.parameters["model_version"], manifest.parameters["epochs"], manifest.seed) == ("7", 2, 3)
    assert (verification.passed, verification.examples, verification.tolerance) == (True, 20, 1e-6)
    assert verification.max_difference is not None
    assert verification.max_difference < 1e-12
    assert "node" in verification.tools
    assert verification.runner == f"{ORIGIN.run} {ORIGIN.allocation}"


def test_only_what_the_training_lists_is_stored(task: Program, emulator: Emulator, bucket: str) -> None:
    assert task.run("store").returncode == 0
    folder = f"models/{MODEL}/{VERSION}/"
    assert emulator.objects(bucket) == sorted(folder + name for name in [*FILES, "manifest.json"])


def test_a_repeat_with_the_same_bytes_succeeds(
    task: Program, run_dir: Path, tmp_path: Path, emulator: Emulator, bucket: str
) -> None:
    shutil.copytree(run_dir, tmp_path / "copy" / VERSION)  # another time of training.json, the same bytes
    os.utime(tmp_path / "copy" / VERSION / "training.json", (1e9, 1e9))
    assert task.run("store").returncode == 0
    manifest = (emulator.root / bucket / f"models/{MODEL}/{VERSION}/manifest.json").read_bytes()
    again = task.run("store", RUN_DIR=tmp_path / "copy" / VERSION)
    assert (again.returncode, again.stderr) == (0, "")
    assert (emulator.root / bucket / f"models/{MODEL}/{VERSION}/manifest.json").read_bytes() == manifest
    assert not (tmp_path / "copy" / VERSION).exists()


def test_a_repeat_after_the_directory_is_gone_succeeds(task: Program, run_dir: Path) -> None:
    assert task.run("store").returncode == 0
    again = task.run("store")
    assert (again.returncode, again.stderr) == (0, "")


def test_a_repeat_after_a_removal_cut_short_succeeds_and_finishes_it(task: Program, run_dir: Path) -> None:
    assert task.run("store").returncode == 0
    finished_training(run_dir)
    (run_dir / "training.json").unlink()
    again = task.run("store")
    assert (again.returncode, again.stderr) == (0, "")
    assert not run_dir.exists()


def test_without_its_directory_an_incomplete_version_is_not_called_stored(
    task: Program, emulator: Emulator, bucket: str
) -> None:
    assert task.run("store").returncode == 0
    (emulator.root / bucket / f"models/{MODEL}/{VERSION}/model/weights.bin").unlink()
    again = task.run("store")
    assert again.returncode == 2
    assert "model/weights.bin" in again.stderr


@pytest.mark.parametrize("changed", ["weight", "metrics", "manifest"])
def test_other_bytes_under_the_same_version_are_refused(registry: Registry, tmp_path: Path, changed: str) -> None:
    first = registry.store(MODEL, VERSION, finished_training(tmp_path / "a"), ORIGIN)
    other = finished_training(tmp_path / "b", weight=0.25 if changed == "weight" else 0.5)
    training = json.loads((other / "training.json").read_text())
    if changed == "manifest":
        training["parameters"]["epochs"] = 3
        (other / "training.json").write_text(json.dumps(training))
    if changed == "metrics":
        metrics = (other / "metrics.json").read_bytes().replace(b"0.75", b"0.76")
        (other / "metrics.json").write_bytes(metrics)
        training["files"][-1]["sha256"] = hashlib.sha256(metrics).hexdigest()
        (other / "training.json").write_text(json.dumps(training))
    with pytest.raises(ConflictError, match="exists with other bytes"):
        registry.store(MODEL, VERSION, other, ORIGIN)
    assert registry.show(VERSION).manifest == first
    assert other.exists()


def test_nothing_to_store_is_said_and_leaves_the_bucket_empty(
    task: Program, run_dir: Path, emulator: Emulator, bucket: str
) -> None:
    (run_dir / "training.json").unlink()
    result = task.run("store")
    assert (result.returncode, result.stdout) == (2, "")
    assert "nothing to store" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert emulator.objects(bucket) == []


@pytest.mark.parametrize("spoil", ["shorter", "changed", "missing", "symlink"])
def test_a_file_that_is_not_as_listed_stores_nothing(
    task: Program, run_dir: Path, emulator: Emulator, bucket: str, spoil: str
) -> None:
    weights = run_dir / "model/weights.bin"
    if spoil == "symlink":
        outside = run_dir.parent / "outside"
        weights.rename(outside)
        weights.symlink_to(outside)
    elif spoil == "missing":
        weights.unlink()
    else:
        weights.write_bytes(bytes([7]) * 999 if spoil == "shorter" else bytes([8]) * 1000)
    result = task.run("store")
    assert result.returncode == 2
    assert "model/weights.bin" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert emulator.objects(bucket) == []
    assert run_dir.exists()


def test_a_directory_that_does_not_bear_the_versions_id_is_never_removed(task: Program, run_dir: Path) -> None:
    elsewhere = run_dir.rename(run_dir.parent / "precious")
    assert task.run("store", RUN_DIR=elsewhere).returncode == 0
    assert (elsewhere / "data.csv").exists()


def test_verify_leaves_the_runs_directory_alone(task: Program, run_dir: Path) -> None:
    (run_dir / "training.json").unlink()
    assert task.run("verify").returncode == 2
    assert (run_dir / "data.csv").exists()


def test_verifying_what_does_not_exist_by_hand_is_an_error(program: Program, registry: Registry) -> None:
    result = program.run("verify", VERSION)
    assert result.returncode == 2
    assert "no version" in result.stderr
    with pytest.raises(NotFoundError):
        registry.verify(f"{MODEL}/{VERSION}")


def test_a_changed_byte_fails_before_anything_is_loaded(
    task: Program, registry: Registry, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    assert task.run("store").returncode == 0
    weights = emulator.root / bucket / f"models/{MODEL}/{VERSION}/model/weights.bin"
    with weights.open("r+b") as file:  # in place, which keeps the emulator's own attributes of the object
        file.seek(500)
        file.write(b"\0")
    # A scorer that would tell if it was started.
    spy = tmp_path / "spy"
    (spy / "src").mkdir(parents=True)
    (spy / "src/main.js").write_text(f"require('fs').writeFileSync('{spy}/started', '');")
    result = task.run("verify", MLOPS_TENSORNODE=spy)
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "model/weights.bin" in result.stderr
    assert not (spy / "started").exists()
    (verification,) = registry.show(VERSION).verifications
    assert (verification.passed, verification.examples) == (False, 0)


def test_a_prediction_that_differs_fails_the_verification(registry: Registry, tmp_path: Path) -> None:
    run_dir = finished_training(tmp_path / "run")
    registry.store(MODEL, VERSION, _with_prediction(run_dir, 3, 0.9e-6), ORIGIN)
    assert registry.verify(VERSION).passed
    other = VERSION.replace("_v7_", "_v8_")
    registry.store(MODEL, other, _with_prediction(finished_training(tmp_path / "run2"), 3, 1.1e-6), ORIGIN)
    verification = registry.verify(other)
    assert not verification.passed
    assert verification.examples == 20
    assert verification.max_difference == pytest.approx(1.1e-6)
    assert verification.message is not None
    assert verification.message.startswith("1 of 20 examples")


@pytest.mark.parametrize(
    "examples", [b"{}", b"[]", b'{"examples": []}', b'{"examples": [{"input": {"x": 1}, "prediction": null}]}']
)
def test_without_examples_nothing_is_proven(registry: Registry, tmp_path: Path, examples: bytes) -> None:
    registry.store(MODEL, VERSION, _with_file(finished_training(tmp_path / "run"), "examples.json", examples), ORIGIN)
    verification = registry.verify(VERSION)
    assert not verification.passed
    assert "examples" in str(verification.message)


def test_a_model_that_does_not_load_fails_the_verification(registry: Registry, tmp_path: Path) -> None:
    registry.store(MODEL, VERSION, _with_file(finished_training(tmp_path / "run"), "model/model.json", b"{"), ORIGIN)
    verification = registry.verify(VERSION)
    assert not verification.passed
    assert "bad model" in str(verification.message)


def test_a_scorer_that_cannot_run_says_nothing_about_the_version(
    task: Program, registry: Registry, tmp_path: Path
) -> None:
    assert task.run("store").returncode == 0
    result = task.run("verify", MLOPS_TENSORNODE=tmp_path)
    assert result.returncode == 1
    assert "MLOPS_TENSORNODE" in result.stderr
    assert registry.show(VERSION).verifications == ()


def _with_file(run_dir: Path, name: str, content: bytes) -> Path:
    (run_dir / name).write_bytes(content)
    training = json.loads((run_dir / "training.json").read_text())
    for file in training["files"]:
        if file["path"] == name:
            file.update(size=len(content), sha256=hashlib.sha256(content).hexdigest())
    (run_dir / "training.json").write_text(json.dumps(training))
    return run_dir


def _with_prediction(run_dir: Path, index: int, shift: float) -> Path:
    examples = json.loads((run_dir / "examples.json").read_text())
    examples["examples"][index]["prediction"] += shift
    return _with_file(run_dir, "examples.json", json.dumps(examples).encode())
