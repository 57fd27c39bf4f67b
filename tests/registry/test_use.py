"""Finding, promoting and using versions."""

import csv
import json
from itertools import count
from pathlib import Path

import pytest
import requests

from mlops_registry import (
    BadInputError,
    ConflictError,
    IntegrityError,
    NotFoundError,
    NotVerifiedError,
    Registry,
    RegistryError,
    ScorerError,
    names,
    rows,
)

from .conftest import MODEL, ORIGIN, VERSION, Emulator, Program, finished_training
from .proxy import Proxy

OTHER = VERSION.replace("_v7_", "_v8_")


def _store(registry: Registry, folder: Path, version: str = VERSION, model: str = MODEL, **training: float) -> None:
    registry.store(model, version, finished_training(folder / model / version, **training), ORIGIN)  # pyright: ignore[reportArgumentType]


def test_the_list_tells_what_was_stored_verified_and_promoted(registry: Registry, tmp_path: Path) -> None:
    assert registry.list() == []
    _store(registry, tmp_path)
    _store(registry, tmp_path, OTHER, weight=0.25, seed=4)
    _store(registry, tmp_path, model="other-model")
    verification = registry.verify(f"{MODEL}/{VERSION}")
    registry.promote(f"{MODEL}/{VERSION}", "production")
    registry.promote(f"{MODEL}/{VERSION}", "champion")

    third, first, second = registry.list()
    manifest = registry.show(f"{MODEL}/{VERSION}").manifest
    assert (first.model, first.version_id, first.created, first.lane, first.format) == (
        MODEL,
        VERSION,
        manifest.created,
        "nomad",
        "tfjs-layers",
    )
    assert (first.auc, first.baseline_auc, first.seed, first.model_digest) == (0.75, 0.7, 3, manifest.model_digest)
    assert (first.verified, first.verified_at, first.aliases) == (
        "passed",
        verification.time,
        ("champion", "production"),
    )
    assert (second.version_id, second.seed, second.verified, second.aliases) == (OTHER, 4, None, ())
    assert (first.verdict, second.verdict) == ("0 of 20 examples differ", "-")
    assert second.model_digest != first.model_digest
    assert third.model == "other-model"
    assert registry.list("other-model") == [third]
    assert registry.list("other") == []
    assert [(alias.model, alias.alias, alias.version_id) for alias in registry.aliases()] == [
        (MODEL, "champion", VERSION),
        (MODEL, "production", VERSION),
    ]
    assert registry.show(f"{MODEL}/{VERSION}").aliases == ("champion", "production")


def test_the_list_needs_no_read_a_version(
    registry: Registry, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        version = VERSION.replace("_v7_", f"_v{number}_")
        _store(registry, tmp_path, version)
        registry.verify(f"{MODEL}/{version}")
    with Proxy(emulator.address) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.address)
        assert [version.verified for version in Registry(str(registry.path)).list()] == ["passed"] * 4
        assert [seen.method for seen in proxy.seen] == ["GET"]
        # What keeps the answer of a bucket in the cloud small, which the emulator ignores.
        assert "matchGlob=models%2F%2A%2F%7B%2A%2Fmanifest.json" in proxy.seen[0].target
        assert "fields=items%28name" in proxy.seen[0].target


def test_the_newest_verification_counts(registry: Registry, emulator: Emulator, bucket: str, tmp_path: Path) -> None:
    _store(registry, tmp_path)
    assert registry.verify(VERSION).passed
    registry.promote(VERSION, "production")
    weights = emulator.root / bucket / f"models/{MODEL}/{VERSION}/model/weights.bin"
    original = weights.read_bytes()
    with weights.open("r+b") as file:
        file.write(b"\0")
    assert not registry.verify(VERSION).passed
    assert [(version.verified, version.verdict) for version in registry.list()] == [("failed", "FAILED")]
    with pytest.raises(NotVerifiedError, match="failed"):
        registry.promote(VERSION, "production")
    with weights.open("r+b") as file:
        file.write(original)
    assert registry.verify(VERSION).passed
    assert [version.verified for version in registry.list()] == ["passed"]
    assert [verification.passed for verification in registry.show(VERSION).verifications] == [True, False, True]
    registry.promote(VERSION, "production")


def test_only_a_verified_version_is_promoted(registry: Registry, tmp_path: Path) -> None:
    _store(registry, tmp_path)
    with pytest.raises(NotVerifiedError, match="missing"):
        registry.promote(VERSION, "production")
    with pytest.raises(NotFoundError):
        registry.promote(f"{MODEL}/{OTHER}", "production")
    assert registry.aliases() == []


def test_an_alias_moves_and_is_what_predict_uses(registry: Registry, tmp_path: Path) -> None:
    _store(registry, tmp_path, weight=1.0)
    _store(registry, tmp_path, OTHER, weight=2.0)
    for version in (VERSION, OTHER):
        registry.verify(version)
    registry.promote(VERSION, "production")
    assert list(registry.predict("production", [{"x": 3}])) == [pytest.approx(3.007)]
    registry.promote(OTHER, "production")
    assert list(registry.predict(f"{MODEL}/production", [{"x": 3}])) == [pytest.approx(6.007)]
    assert list(registry.predict(VERSION, [{"x": 3}])) == [pytest.approx(3.007)]


def test_predictions_stream_in_bounded_memory(registry: Registry, tmp_path: Path) -> None:
    _store(registry, tmp_path, weight=1.0)
    predictions = registry.predict(VERSION, ({"x": n} for n in count()))  # never ends
    assert [next(predictions) for _ in range(50_000)][-1] == pytest.approx(49_999.007)
    predictions.close()  # pyright: ignore[reportAttributeAccessIssue]


def test_the_program_scores_files(program: Program, registry: Registry, tmp_path: Path) -> None:
    _store(registry, tmp_path)
    data = [{"x": 1}, {"x": 2.5}, {"x": -3}]
    (tmp_path / "rows.json").write_text(json.dumps(data))
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, data)))
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["x"])
        writer.writeheader()
        writer.writerows(data)
    for name in ("rows.json", "rows.jsonl", "rows.csv"):
        result = program.run("predict", VERSION, str(tmp_path / name))
        assert (result.returncode, result.stderr) == (0, "")
        predictions = [json.loads(line)["prediction"] for line in result.stdout.splitlines()]
        assert predictions == pytest.approx([row["x"] * 0.5 + 0.007 for row in data])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "x\n1\n2,3\n", "line 3"),
        ("rows.csv", "x\nmany\n", "line 1: x is no number"),
        ("rows.json", '{"x": 1}', "not a list"),
        ("rows.json", "[1]", "item 1"),
        ("rows.jsonl", '{"x": 1}\n{', "line 2"),
        ("rows.jsonl", '{"x": NaN}', "NaN"),
        ("rows.txt", "", "rows.txt"),
        ("rows.csv", None, "rows.csv"),
    ],
)
def test_rows_that_cannot_be_scored_are_named(
    registry: Registry, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    _store(registry, tmp_path)
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(RegistryError, match=message) as refused:
        list(registry.predict(VERSION, rows.read(tmp_path / name)))
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    "answers",
    ["", "console.log('{\"prediction\": 1}'.repeat(2))", "console.log('{}')", "console.log('{\"prediction\": null}')"],
)
def test_a_scorer_that_answers_something_else_is_not_believed(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answers: str
) -> None:
    _store(registry, tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "src/main.js").write_text(f"process.stdin.resume(); {answers}")
    monkeypatch.setenv("MLOPS_TENSORNODE", str(tmp_path))
    with pytest.raises(ScorerError, match="the scorer answered"):
        list(registry.predict(VERSION, [{"x": 1}]))
    assert not registry.verify(VERSION).passed


def test_a_version_id_in_two_models_needs_the_model(registry: Registry, tmp_path: Path) -> None:
    _store(registry, tmp_path)
    _store(registry, tmp_path, model="other-model")
    with pytest.raises(BadInputError, match=f"other-model/{VERSION} or {MODEL}/{VERSION}"):
        registry.show(VERSION)
    assert registry.show(f"other-model/{VERSION}").manifest.model == "other-model"


def test_a_copied_bucket_without_metadata_is_listed_all_the_same(
    registry: Registry, emulator: Emulator, tmp_path: Path
) -> None:
    _store(registry, tmp_path)
    (summary,) = registry.list()
    _overwrite(
        emulator,
        registry,
        "manifest.json",
        _read(registry, registry.path.version(MODEL, VERSION, "manifest.json")),
    )
    assert registry.list() == [summary]


def test_one_damaged_manifest_does_not_hide_the_others(
    registry: Registry, emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _store(registry, tmp_path)
    _store(registry, tmp_path, OTHER)
    _overwrite(emulator, registry, "manifest.json", b"{")
    assert [version.version_id for version in registry.list()] == [OTHER]
    assert VERSION in caplog.text


@pytest.mark.parametrize(
    "path", ["../../../evil", "/evil", "model/../../evil", ".hidden", "model//x", "a\nb", "manifest.json"]
)
def test_a_hostile_manifest_writes_nowhere(
    registry: Registry, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    _store(registry, tmp_path)
    registry.verify(VERSION)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    manifest = json.loads(registry.show(VERSION).manifest.json_bytes())
    manifest["files"][0]["path"] = path
    _overwrite(emulator, registry, "manifest.json", json.dumps(manifest).encode())
    with pytest.raises(IntegrityError, match="not valid"):
        list(registry.predict(VERSION, [{"x": 1}]))
    verification = registry.verify(VERSION)
    assert not verification.passed
    assert list(temporary.iterdir()) == []
    with pytest.raises(IntegrityError):
        registry.promote(VERSION, "production")


def test_a_manifest_of_another_version_is_not_believed(registry: Registry, emulator: Emulator, tmp_path: Path) -> None:
    _store(registry, tmp_path)
    _store(registry, tmp_path, OTHER)
    _overwrite(emulator, registry, "manifest.json", registry.show(OTHER).manifest.json_bytes())
    with pytest.raises(IntegrityError, match="is that of"):
        registry.show(VERSION)


def test_a_large_file_keeps_the_write_once_rule(registry: Registry, tmp_path: Path) -> None:
    name = "large/file.bin"  # beyond what is sent in one request
    (tmp_path / "a").write_bytes(b"a" * (9 << 20))
    (tmp_path / "b").write_bytes(b"b" * (9 << 20))
    registry.bucket.create(name, tmp_path / "a")
    registry.bucket.create(name, tmp_path / "a")
    with pytest.raises(ConflictError):
        registry.bucket.create(name, tmp_path / "b")
    assert _read(registry, name) == b"a" * (9 << 20)


def _read(registry: Registry, name: str) -> bytes:
    found = registry.bucket.read(name)
    assert found
    return found[0]


def _overwrite(emulator: Emulator, registry: Registry, name: str, content: bytes) -> None:
    """As somebody with write access and bad intent, or another tool, would."""
    target = registry.path.version(MODEL, VERSION, name)
    address = f"{emulator.address}/upload/storage/v1/b/{registry.path.bucket}/o"
    requests.post(address, params={"uploadType": "media", "name": target}, data=content, timeout=60).raise_for_status()


def test_names_are_matched_in_full() -> None:
    assert names.BucketPath.parse("gs://bucket/models/") == names.BucketPath("bucket", "models/")
    assert names.BucketPath.parse("gs://bucket") == names.BucketPath("bucket", "")
    assert names.version_id("sales_v2.0_abc") == "sales_v2.0_abc"
