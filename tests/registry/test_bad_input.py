"""Bad input: one line, exit code 2, nothing written."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlops_registry import BadInputError, names

from .conftest import VERSION, Emulator, Program

HOSTILE = ["../../etc/passwd", "$(reboot)", "a\nb", "a\n", "/etc", "..", "a b", "é", "-x", "x" * 300, "%2e%2e"]


@pytest.mark.parametrize("command", ["store", "verify"])
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MODEL", "../../etc/passwd"),
        ("MODEL", ""),
        ("VERSION_ID", "$(reboot)"),
        ("VERSION_ID", VERSION + "\n"),
        ("GCP_BUCKET_PATH", "gs://bucket/../x"),
        ("MLOPS_REGISTRY_DEADLINE", "soon"),
    ],
)
def test_hostile_values_are_refused(
    task: Program, emulator: Emulator, bucket: str, run_dir: Path, command: str, variable: str, value: str
) -> None:
    result = task.run(command, **{variable: value})
    assert (result.returncode, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr[:-1].isprintable()
    assert emulator.objects(bucket) == []
    assert (run_dir / "training.json").exists()


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (check, value)
        for check in (names.model_name, names.version_id, names.alias_name, names.file_path, names.BucketPath.parse)
        for value in ["", *HOSTILE]
    ]
    + [
        (names.version_id, name)
        for name in ("a_v7_../x", "no-version", "_v7_x", "a_v7_", VERSION + "\n", VERSION + "/x")
    ]
    + [
        (names.BucketPath.parse, path)
        for path in ("gs://", "gs://x", "s3://bucket/x", "gs://bucket/../x", "gs://bucket//x")
    ]
    + [(names.BucketPath.parse, path) for path in ("gs://bucket/models\n", "gs://Bucket", "bucket", "gs://bucket/.x")]
    + [
        (names.file_path, path) for path in ("manifest.json", "verifications/x", "a/../b", "a//b", "a/", "a/.b", "a\\b")
    ],
)
def test_hostile_names_are_refused_everywhere(check: Callable[[str], object], value: str) -> None:
    with pytest.raises(BadInputError) as refused:
        check(value)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "command"),
        (["sotre"], "sotre"),
        (["store", "--nope"], "--nope"),
        (["promote", VERSION], "alias"),
        (["promote", VERSION, "Bad/alias"], "Bad/alias"),
        (["promote", VERSION, "production"], "no version"),
        (["predict", "production", "rows.csv"], "no alias"),
        (["show", "../x"], "'..'"),
        (["list", "--model", "../x"], "../x"),
    ],
)
def test_wrong_commands_are_one_line(program: Program, arguments: list[str], message: str) -> None:
    result = program.run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "missing", ["MODEL", "VERSION_ID", "RUN_DIR", "LANE", "ENGINE_RUN", "ALLOC_ID", "GCP_BUCKET_PATH"]
)
def test_a_missing_variable_is_named(task: Program, missing: str) -> None:
    result = task.run("store", **{missing: None})
    assert result.returncode == 2
    assert missing in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "../x"}, "format"),
        ({"extra": 1}, "extra"),
        ({"model_digest": "A" * 64}, "model_digest"),
        ({"files": []}, "examples.json"),
        ({"parameters": {"x": [1]}}, "parameters"),
        ({"data": {"uri": "a\nb", "sha256": "a" * 64, "rows": 1, "schema": []}}, "data.uri"),
    ],
)
def test_a_training_that_is_not_well_formed_stores_nothing(
    task: Program, emulator: Emulator, bucket: str, run_dir: Path, change: dict, message: str
) -> None:
    training = json.loads((run_dir / "training.json").read_text())
    (run_dir / "training.json").write_text(json.dumps({**training, **change}))
    result = task.run("store")
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert emulator.objects(bucket) == []


@pytest.mark.parametrize(
    "path", ["../outside", "/etc/passwd", "manifest.json", "verifications/x.json", "model", ".x", "a\n"]
)
def test_a_path_out_of_the_version_stores_nothing(
    task: Program, emulator: Emulator, bucket: str, run_dir: Path, path: str
) -> None:
    training = json.loads((run_dir / "training.json").read_text())
    training["files"].append({**training["files"][0], "path": path})
    (run_dir / "training.json").write_text(json.dumps(training))
    result = task.run("store")
    assert result.returncode == 2
    assert "files" in result.stderr or "inside another" in result.stderr
    assert emulator.objects(bucket) == []


@pytest.mark.parametrize("content", ["{", "[]", "", "null", '{"format": NaN}', "\udcff", "[" * 100_000])
def test_a_training_file_that_is_no_json_object_is_refused(task: Program, run_dir: Path, content: str) -> None:
    (run_dir / "training.json").write_bytes(content.encode(errors="surrogateescape"))
    result = task.run("store")
    assert result.returncode == 2
    assert "training.json" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_missing_bucket_is_said_and_costs_no_training(task: Program, run_dir: Path) -> None:
    for command in ("store", "verify"):
        result = task.run(command, GCP_BUCKET_PATH="gs://no-such-bucket/models")
        assert (result.returncode, result.stdout) == (2, "")
        assert "bucket no-such-bucket does not exist" in result.stderr
        assert len(result.stderr.splitlines()) == 1
    assert (run_dir / "training.json").exists()


def test_missing_credentials_are_one_line(task: Program, run_dir: Path, tmp_path: Path) -> None:
    result = task.run(
        "store",
        STORAGE_EMULATOR_HOST=None,
        HOME=tmp_path,
        NO_GCE_CHECK="true",
        GOOGLE_APPLICATION_CREDENTIALS=None,
        CLOUDSDK_CONFIG=tmp_path,
    )
    assert (result.returncode, result.stdout) == (2, "")
    assert "no Google credentials" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert (run_dir / "training.json").exists()


def test_help_and_the_package_load_neither_pulumi_nor_google() -> None:
    for needed in ("mlops_registry.main", "mlops_registry.registry"):
        code = f"import sys, mlops_registry, {needed}; print(*sys.modules)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        loaded = set(run.stdout.split())
        assert needed in loaded
        assert not loaded & {"pulumi", "google.cloud.storage", "google.auth", "requests", "grpc"}


def test_googles_libraries_load_without_a_warning() -> None:
    code = "from mlops_registry.bucket import library; library()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (run.stdout, run.stderr) == ("", "")


def test_help_answers(program: Program) -> None:
    result = program.run("--help")
    assert result.returncode == 0
    for command in ("store", "verify", "list", "show", "promote", "predict"):
        assert command in result.stdout


def test_what_others_wrote_commands_no_terminal(task: Program, run_dir: Path) -> None:
    training = json.loads((run_dir / "training.json").read_text())
    training["data"]["uri"] = "https://x/\u202e\u009b31m"
    (run_dir / "training.json").write_text(json.dumps(training))
    assert task.run("store").returncode == 0
    for arguments in (("show", VERSION), ("verify", "--json"), ("list", "--json")):
        done = task.run(*arguments)
        assert done.returncode == 0
        assert done.stdout.replace("\n", "").isprintable()
    assert json.loads(task.run("show", VERSION).stdout)["manifest"]["data"]["uri"] == training["data"]["uri"]
    refused = task.run("show", "\x1b[31m\u202e")
    assert refused.returncode == 2
    assert refused.stderr[:-1].isprintable()


def test_a_terminal_that_has_no_such_letter_gets_an_escape(task: Program, run_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "é.csv"
    done = task.run("predict", VERSION, str(file), PYTHONIOENCODING="ascii:strict", LC_ALL="C")
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
