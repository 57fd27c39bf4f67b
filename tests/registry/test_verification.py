"""A verification in parts: what each part is given, what it leaves, and that none believes the one before it."""

import json
import os
import shutil
from pathlib import Path

import pytest

from mlops_registry import Registry

from .conftest import MODEL, ORIGIN, VERSION, Emulator, Program, finished_training

FETCHED = ["model/model.json", "model/preprocessing.json", "model/weights.bin", "request.json", "rows.jsonl"]


@pytest.fixture
def stored(task: Program) -> Program:
    """The job's tasks, after `store`."""
    assert task.run("store").returncode == 0
    return task


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def without_bucket(task: Program) -> Program:
    """What a task without an identity has."""
    kept = {name: value for name, value in task.environment.items() if name == "MLOPS_TENSORNODE"}
    return Program(kept | dict.fromkeys(task.environment.keys() - kept, "None"))


def test_the_parts_verify_and_the_scorer_sees_no_prediction(
    stored: Program, registry: Registry, tmp_path: Path
) -> None:
    version, scored = tmp_path / "version", tmp_path / "scored"
    fetched = stored.run("fetch", "--output", str(version))
    assert (fetched.returncode, fetched.stderr) == (0, "")
    assert files(version) == FETCHED
    assert not any(b'"prediction"' in (version / name).read_bytes() for name in FETCHED)
    assert [json.loads(line) for line in (version / "rows.jsonl").open()] == [{"x": n} for n in range(20)]
    asked = json.loads((version / "request.json").read_text())
    assert asked == {"model": MODEL, "version_id": VERSION, "format": "tfjs-layers", "rows": 20, "error": None}

    done = without_bucket(stored).run("score", "--input", str(version), "--output", str(scored))
    assert (done.returncode, done.stderr) == (0, "")
    assert files(scored) == ["predictions.jsonl", "score.json"]
    assert registry.show(VERSION).verifications == ()

    recorded = stored.run("record", "--input", str(scored))
    assert (recorded.returncode, recorded.stderr) == (0, "")
    (verification,) = registry.show(VERSION).verifications
    assert (verification.passed, verification.examples, verification.differing) == (True, 20, 0)
    assert verification.runner == f"{ORIGIN.run} {ORIGIN.allocation}"
    assert "node" in verification.tools


def test_a_store_waits_for_what_another_task_scores(task: Program, registry: Registry, tmp_path: Path) -> None:
    store = task.start("store", "--verify-in", str(tmp_path), "--wait", "120")
    given = ("--input", str(tmp_path / "version"), "--output", str(tmp_path / "scored"), "--wait", "120")
    score = without_bucket(task).start("score", *given)
    for process in (score, store):
        said = process.communicate()[1]
        assert (process.returncode, said) == (0, "")
    assert registry.list()[0].verified == "passed"


def test_a_store_whose_version_was_changed_waits_for_nobody(
    stored: Program, run_dir: Path, registry: Registry, emulator: Emulator, bucket: str, tmp_path: Path
) -> None:
    damage(emulator, bucket, "metrics.json", 0)
    done = stored.run("store", "--verify-in", str(tmp_path / "in"), "--wait", "600")
    assert done.returncode == 1
    (verification,) = registry.show(VERSION).verifications
    assert (verification.passed, verification.examples) == (False, 0)
    assert "metrics.json" in str(verification.message)


def damage(emulator: Emulator, bucket: str, name: str, at: int) -> None:
    """Change a byte in place, which keeps the emulator's own attributes of the object."""
    with (emulator.root / bucket / f"models/{MODEL}/{VERSION}" / name).open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("name", ["model/weights.bin", "metrics.json", "examples.json"])
def test_a_changed_file_is_recorded_and_never_scored(
    stored: Program, registry: Registry, emulator: Emulator, bucket: str, tmp_path: Path, name: str
) -> None:
    damage(emulator, bucket, name, 1)
    version, scored = tmp_path / "version", tmp_path / "scored"
    fetched = stored.run("fetch", "--output", str(version))
    assert fetched.returncode == 0
    assert name in fetched.stderr
    assert json.loads((version / "request.json").read_text())["rows"] == 0
    spy = tmp_path / "spy"
    (spy / "src").mkdir(parents=True)
    (spy / "src/main.js").write_text("throw 1")
    task = without_bucket(stored)
    done = task.run("score", "--input", str(version), "--output", str(scored), MLOPS_TENSORNODE=spy)
    assert done.returncode == 0
    assert stored.run("record", "--input", str(scored)).returncode == 1
    (verification,) = registry.show(VERSION).verifications
    assert not verification.passed
    assert name in str(verification.message)


def test_a_bad_model_is_told_by_record(task: Program, run_dir: Path, registry: Registry, tmp_path: Path) -> None:
    shutil.rmtree(run_dir)
    finished_training(run_dir, weight=0.5)
    training = json.loads((run_dir / "training.json").read_text())
    (run_dir / "model/model.json").write_bytes(b"{")
    digest = "021fb596db81e6d02bf3d2586ee3981fe519f275c0ac9ca76bbcf2ebb4097d96"
    training["files"][0] |= {"size": 1, "sha256": digest}
    (run_dir / "training.json").write_text(json.dumps(training))
    assert task.run("store").returncode == 0
    version, scored = str(tmp_path / "version"), str(tmp_path / "scored")
    assert task.run("fetch", "--output", version).returncode == 0
    done = without_bucket(task).run("score", "--input", version, "--output", scored)
    assert done.returncode == 0
    assert "bad model" in done.stderr
    assert task.run("record", "--input", scored).returncode == 1
    assert "bad model" in str(registry.show(VERSION).verifications[0].message)


def test_what_could_not_be_tried_leaves_nothing_to_record(stored: Program, registry: Registry, tmp_path: Path) -> None:
    version, scored = str(tmp_path / "version"), str(tmp_path / "scored")
    assert stored.run("fetch", "--output", version).returncode == 0
    assert stored.run("score", "--input", version, "--output", scored, MLOPS_TENSORNODE=tmp_path).returncode == 1
    done = stored.run("record", "--input", scored)
    assert done.returncode == 1
    assert "score.json is not there" in done.stderr
    assert registry.show(VERSION).verifications == ()


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        ("other prediction", 1),
        ("one less", 1),
        ("one more", 1),
        ("a long line", 1),
        ("NaN", 1),
        ("another key", 1),
        ("a link", 2),
        ("a pipe", 2),
        ("no JSON", 2),
        ("another version", 2),
    ],
)
def test_what_the_scorer_left_is_not_believed(
    stored: Program, registry: Registry, tmp_path: Path, spoil: str, code: int
) -> None:
    scored = tmp_path / "scored"
    scored.mkdir()
    predictions, score = scored / "predictions.jsonl", scored / "score.json"
    lines = [json.dumps({"prediction": n * 0.5 + 0.007}) for n in range(20)]
    told = {"model": MODEL, "version_id": VERSION, "predictions": 20, "tools": {"node": "1"}, "error": None}
    lines[3] = {
        "other prediction": '{"prediction": 0}',
        "a long line": f'{{"prediction": 1{" " * 100_000}}}',
        "NaN": '{"prediction": NaN}',
        "another key": '{"prediction": 1.507, "exec": 1}',
    }.get(spoil, lines[3])
    lines = {"one less": lines[1:], "one more": [*lines, lines[0]]}.get(spoil, lines)
    predictions.write_text("\n".join(lines) + "\n")
    told |= {"version_id": VERSION.replace("_v7_", "_v8_")} if spoil == "another version" else {}
    score.write_text("{" if spoil == "no JSON" else json.dumps(told))
    if spoil in ("a link", "a pipe"):
        secret = predictions.rename(tmp_path / "secret")
        predictions.symlink_to(secret) if spoil == "a link" else os.mkfifo(predictions)
    done = stored.run("record", "--input", str(scored))
    assert done.returncode == code
    assert len(done.stderr.splitlines()) == 1
    assert [one.passed for one in registry.show(VERSION).verifications] == [False] * (code == 1)


def test_a_step_that_does_not_come_is_waited_for_no_longer_than_told(stored: Program, tmp_path: Path) -> None:
    given = ("--input", str(tmp_path / "none"), "--output", str(tmp_path / "scored"))
    for arguments in (("score", *given, "--wait", "0.5"), ("record", *given[:2], "--wait", "0.5")):
        done = stored.run(*arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert "within 0.5 s" in done.stderr


def test_a_run_is_cleared_without_a_bucket(task: Program, run_dir: Path) -> None:
    alone = without_bucket(task)
    given = {"RUN_DIR": run_dir, "VERSION_ID": VERSION}
    kept = alone.run("clear", **given)
    assert kept.returncode == 0
    assert "mlops-registry store" in kept.stdout
    assert (run_dir / "training.json").exists(), "it was not stored"
    (run_dir / ".stored").touch()
    assert alone.run("clear", **given).returncode == 0
    assert not run_dir.exists()
    assert alone.run("clear", **given).returncode == 0
    run_dir.mkdir()
    (run_dir / "failed.json").write_text("{}")
    assert alone.run("clear", **given).returncode == 0
    assert not run_dir.exists()


def test_what_is_no_run_is_never_cleared(task: Program, run_dir: Path, tmp_path: Path) -> None:
    alone = without_bucket(task)
    (run_dir / "training.json").unlink()
    elsewhere = run_dir.rename(run_dir.parent / "precious")
    run_dir.symlink_to(elsewhere)
    for place in (elsewhere, run_dir):
        assert alone.run("clear", RUN_DIR=place, VERSION_ID=VERSION).returncode == 0
        assert (elsewhere / "data.csv").exists()
    assert alone.run("clear", RUN_DIR=run_dir, VERSION_ID="../x").returncode == 2
