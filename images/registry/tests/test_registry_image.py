"""The programs of the registry image: a version put together and stored, and what became of a run written down."""

import hashlib
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from conftest import DIGEST, UID, VERSION, client  # pyright: ignore[reportMissingImports]

from mlops_registry.manifest import Training, parse

PARAMETERS = json.dumps(
    [
        {"name": name, "value": value}
        for name, value in {
            "model": "refit", "model_version": "1", "data_uri": "gs://data/raw/0123", "trials": "2", "seed": "7",
            "max_depth": "", "memoise": "true",
        }.items()
    ]
)  # fmt: skip


def options(left: Path, **made_by: str) -> list[str]:
    sources = {"transform": UID, "trials": UID, **made_by}
    return [
        "--model", str(left / "model"), "--library", str(left / "library"),
        "--evaluation", str(left / "evaluation.json"), "--features", str(left / "features"),
        "--baseline", str(left / "baseline"), "--parameters", PARAMETERS,
        *(word for step, uid in sources.items() for word in ("--made-by", f"{step}={uid}")),
    ]  # fmt: skip


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_finished_training_is_what_the_registry_reads(programs, left: Path) -> None:
    done = programs("refit.py", "assemble", *options(left, trials="0d9c-other"))
    assert done.returncode == 0, done.stderr
    training = parse(Training, (programs.run_dir / "training.json").read_bytes(), "training.json")
    assert training.format == "h2o-mojo"
    assert training.model_digest == DIGEST
    assert training.parents == ("trials of workflow 0d9c-other",)
    assert (training.seed, training.seed_source) == (7, "parameter")
    assert training.parameters == {
        "model_version": "1", "trials": 2, "seed": 7, "memoise": "true", "ntrees": 20, "learn_rate": 0.05, "trial": 1,
        "library": "g:refit:1-030303030303",
    }  # fmt: skip
    assert (training.data.uri, training.data.rows, training.data.sha256) == ("gs://data/raw/0123", 5822, "ab" * 32)
    assert training.code.commit == "c" * 40
    assert training.tools == {
        "spark": "4.0.5", "python": "3.11.0", "h2o": "3.46.0.11", "java": "17.0.15", "h2o-genmodel": "3.46.0.11",
    }  # fmt: skip
    for file in training.files:
        content = (programs.run_dir / file.path).read_bytes()
        assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert {file.path for file in training.files} == {
        "model/model.zip", "model/refit-1-030303030303.jar", "model/refit-1-030303030303.pom",
        "model/refit-1-030303030303-sources.jar", "examples.json", "metrics.json", "variable_importance.json",
        "selection.json", "package.json", "features.json", "schema.json",
    }  # fmt: skip
    metrics = json.loads((programs.run_dir / "metrics.json").read_text())
    assert metrics["test"]["auc"] == 0.75
    assert metrics["baseline"] == {"name": "spark-gbt", "auc": 0.7, "rows": 922}
    assert metrics["replay"]["differing"] == 0


def test_the_same_run_assembles_to_the_same_bytes(programs, left: Path) -> None:
    programs("refit.py", "assemble", *options(left))
    first = (programs.run_dir / "training.json").read_bytes()
    (programs.run_dir / "leftover").write_text("of an attempt that was killed")
    programs("refit.py", "assemble", *options(left))
    assert (programs.run_dir / "training.json").read_bytes() == first


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda left: edit(left / "library" / "package.json", model_digest="ff" * 32),
            "carries another model than the trial",
        ),
        (lambda left: (left / "model" / "examples.json").unlink(), "examples.json: No such file"),
        (lambda left: next((left / "library").rglob("*-sources.jar")).unlink(), "sources.jar: No such file"),
        (lambda left: (left / "evaluation.json").write_text("{"), "evaluation.json is not JSON"),
        (lambda left: (left / "baseline" / "metrics.json").unlink(), "metrics.json: No such file"),
    ],
)
def test_what_is_not_whole_is_refused_in_one_line(programs, left: Path, spoil, said: str) -> None:
    spoil(left)
    done = programs("refit.py", "assemble", *options(left))
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (programs.run_dir / "training.json").exists()


def test_a_step_that_left_less_than_it_should_is_one_line_too(programs, left: Path) -> None:
    (left / "features" / "features.json").write_text("{}")
    done = programs("refit.py", "assemble", *options(left))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "'columns'" in done.stderr or "row_digest" in done.stderr


def record(programs, emulator: str, status: str, failures: str = "", **environment: str):
    return programs(
        "lineage.py", "--status", status, "--failures", failures, "--started", "2026-11-23T05:07:17Z",
        "--parameters", PARAMETERS, "--namespace", "mlops-test", "--job", "model-refit",
        STORAGE_EMULATOR_HOST=emulator, **environment,
    )  # fmt: skip


def test_a_stored_version_has_its_lineage_beside_it(programs, left: Path, emulator: str) -> None:
    done = programs("refit.py", "store", *options(left, trials="0d9c-other"), STORAGE_EMULATOR_HOST=emulator)
    assert done.returncode == 0, done.stderr
    bucket = client(emulator).bucket("models")
    manifest = json.loads(bucket.blob(f"prefix/refit/{VERSION}/manifest.json").download_as_text())
    assert manifest["images"] == ["r/spark-features:1", "r/h2o-trainer:2"]
    assert manifest["lane"] == "argo"

    # A lineage server that does not answer fails nothing.
    done = record(programs, emulator, "Succeeded", OPENLINEAGE_URL="http://127.0.0.1:9")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Succeeded: refit/{VERSION}, test AUC 0.7500, baseline 0.7000\n"
    assert "lineage server" in done.stderr
    text = bucket.blob(f"prefix/refit/{VERSION}/lineage/events.jsonl").download_as_text()
    start, end = map(json.loads, text.splitlines())
    assert [start["eventType"], end["eventType"]] == ["START", "COMPLETE"]
    assert start["eventTime"].startswith("2026-11-23T05:07:17")
    assert end["run"]["runId"] == UID
    assert (end["job"]["namespace"], end["job"]["name"]) == ("mlops-test", "model-refit")
    (source,), (made,) = end["inputs"], end["outputs"]
    assert (source["namespace"], source["name"]) == ("gs://data", "raw/0123")
    assert source["facets"]["version"]["datasetVersion"] == "ab" * 32
    assert [field["name"] for field in source["facets"]["schema"]["fields"]] == ["A", "Purchase"]
    assert (made["namespace"], made["name"]) == ("gs://models", f"prefix/refit/{VERSION}")
    assert made["facets"]["version"]["datasetVersion"] == DIGEST
    outcome = json.loads(bucket.blob(f"prefix/refit/{VERSION}/lineage/outcome.json").download_as_text())
    assert (outcome["status"], outcome["version_id"], outcome["reused"]) == (
        "Succeeded", VERSION, ["trials of workflow 0d9c-other"],
    )  # fmt: skip


def test_a_run_that_stored_nothing_says_why_under_the_models_lineage(programs, emulator: str) -> None:
    version = VERSION.replace(UID, "11111111-bc5f-48b3-94f5-14cc5dcb7724")
    failures = [
        {"displayName": "refit", "phase": "Failed", "finishedAt": "2026-11-23T05:08:02Z"},
        {
            "displayName": "train(1:1)",
            "message": "exit code 2: no column 'x'",
            "phase": "Failed",
            "finishedAt": "2026-11-23T05:08:00Z",
        },
    ]
    quoted = json.dumps(json.dumps(failures))  # as Argo gives it
    done = record(programs, emulator, "Failed", quoted, VERSION_ID=version)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Failed, no version was stored: train(1:1): exit code 2: no column 'x'\n"
    bucket = client(emulator).bucket("models")
    outcome = json.loads(bucket.blob(f"prefix/refit/lineage/{version}/outcome.json").download_as_text())
    assert outcome["version_id"] is None
    assert outcome["failures"][0]["step"] == "train(1:1)"
    events = bucket.blob(f"prefix/refit/lineage/{version}/events.jsonl").download_as_text().splitlines()
    assert json.loads(events[1])["eventType"] == "FAIL"
    assert "no column 'x'" in json.loads(events[1])["run"]["facets"]["errorMessage"]["message"]


@pytest.mark.parametrize("kept", ["outcome.json", "both"])
def test_a_repeat_of_an_attempt_that_was_cut_short_completes_it_and_overwrites_nothing(
    programs, emulator: str, kept: str
) -> None:
    version = f"refit_v1_{uuid.uuid4()}"
    folder = client(emulator).bucket("models"), f"prefix/refit/lineage/{version}/"

    def written() -> dict[str, tuple[int, str]]:
        blobs = folder[0].list_blobs(prefix=folder[1])
        return {blob.name.removeprefix(folder[1]): (blob.generation, blob.download_as_text()) for blob in blobs}

    train = {"displayName": "train(0)", "message": "exit code 2", "finishedAt": "2026-11-23T05:08:00Z"}
    assert record(programs, emulator, "Failed", json.dumps([train]), VERSION_ID=version).returncode == 0
    before = written()
    assert set(before) == {"events.jsonl", "outcome.json"}
    for name in {"outcome.json": ["events.jsonl"], "both": []}[kept]:
        folder[0].blob(f"{folder[1]}{name}").delete()
    # Argo lists the attempt that was cut short among what failed.
    again = [train, {"displayName": "record(0)", "message": "exit code 1", "finishedAt": "2026-11-23T05:09:00Z"}]
    done = record(programs, emulator, "Failed", json.dumps(again), VERSION_ID=version)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Failed, no version was stored: train(0): exit code 2\n"
    after = written()
    assert set(after) == set(before)
    assert after["outcome.json"] == before["outcome.json"], "not written again"
    assert after["events.jsonl"][1] == before["events.jsonl"][1], "the same, whenever it is written"
    if kept == "both":
        assert after == before


def test_what_says_something_else_of_the_run_is_an_error_and_stays(programs, emulator: str) -> None:
    version = f"refit_v1_{uuid.uuid4()}"
    assert record(programs, emulator, "Failed", VERSION_ID=version).returncode == 0
    name = f"prefix/refit/lineage/{version}/outcome.json"
    blob = client(emulator).bucket("models").blob(name)
    before = blob.download_as_bytes()
    done = record(programs, emulator, "Succeeded", VERSION_ID=version)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"registry: gs://models/{name} says something else of this run and is never overwritten; compare them\n"
    )
    assert blob.download_as_bytes() == before


def test_bad_input_and_a_silent_bucket_are_one_line(programs, emulator: str) -> None:
    done = record(programs, emulator, "Succeeded", "{not json")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    done = record(programs, emulator, "Succeeded", GCP_BUCKET_PATH="s3://models")
    assert (done.returncode, done.stderr) == (2, "registry: 's3://models' is not gs://<bucket>/<prefix>\n")
    done = record(programs, emulator, "Succeeded", GCP_BUCKET_PATH="gs://nowhere")
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "gs://nowhere" in done.stderr
