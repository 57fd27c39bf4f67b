"""The first lane end to end, as a person drives it: train, store, verify, promote, predict on real data."""

import csv
import json
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Mlops

DATA = CHECKOUT / ".cache" / "data" / "Caravan.csv"


@pytest.fixture(scope="module")
def two(platform: Mlops) -> dict:
    """Two runs of one version."""
    return platform.json("run", "sales-close-prediction", "-p", "model_version=7", "--runs", "2")


def test_two_runs_of_one_version_store_two_verified_versions_with_different_weights(two: dict) -> None:
    assert [run["status"] for run in two["runs"]] == ["complete", "complete"]
    versions = two["versions"]
    assert len({version["version_id"] for version in versions}) == 2
    assert all(version["verified"] == "passed" for version in versions)
    assert len({version["model_digest"] for version in versions}) == 2
    executions = [execution["id"] for run in two["runs"] for execution in run["executions"]]
    assert {v["version_id"] for v in versions} == {f"sales_close_prediction_v7_{execution}" for execution in executions}
    for version in versions:
        assert version["auc"] > 0.65
        assert version["baseline_auc"] > 0.65


def test_usage_stands_beside_what_was_asked(two: dict) -> None:
    steps = {step["name"]: step for step in two["runs"][0]["executions"][0]["steps"]}
    assert list(steps) == ["train", "store", "verify", "clear"]
    for step in steps.values():
        assert step["peak_memory_mb"] > 5
        assert step["cpu_seconds"] > 0.01
        assert step["memory_mb"] > 0


def test_nothing_is_left_in_the_shared_volume(two: dict, platform: Mlops) -> None:
    assert two["runs"]
    assert list((platform.state / "volumes" / "models").iterdir()) == []


@pytest.mark.whole
def test_a_seed_makes_the_same_model_again(platform: Mlops) -> None:
    done = platform.json(
        "run",
        "sales-close-prediction",
        "-p",
        "model_version=8",
        "-p",
        "seed=11",
        "-p",
        "epochs=2",
        "-p",
        "min_auc=0.5",
        "--runs",
        "2",
    )
    first, second = done["versions"]
    assert first["version_id"] != second["version_id"]
    assert first["model_digest"] == second["model_digest"]
    assert first["seed"] == second["seed"] == 11


@pytest.mark.whole
def test_a_range_of_versions_stores_one_each(platform: Mlops) -> None:
    done = platform.json(
        "run", "sales-close-prediction", "--versions", "101..104", "-p", "epochs=1", "-p", "min_auc=0.3"
    )
    listed = platform.json("models", "list", "sales-close-prediction")
    verified = {v["version_id"] for v in listed if v["verified"] == "passed"}
    assert len(done["versions"]) == 4
    assert {v["version_id"] for v in done["versions"]} <= verified


@pytest.mark.whole
def test_a_token_starts_nothing_twice(platform: Mlops) -> None:
    arguments = [
        "run",
        "sales-close-prediction",
        "-p",
        "model_version=9",
        "-p",
        "epochs=1",
        "-p",
        "min_auc=0.3",
        "--idempotency-token",
        "t",
    ]
    first, second = platform.json(*arguments), platform.json(*arguments)
    assert [run["id"] for run in first["runs"]] == [run["id"] for run in second["runs"]]
    other = platform.json(*arguments[:-1], "u")
    assert [run["id"] for run in other["runs"]] != [run["id"] for run in first["runs"]]


@pytest.mark.whole
def test_plain_http_data_trains_too(platform: Mlops) -> None:
    feed = platform.json("up")["platform"]["feed_url"]
    done = platform.json(
        "run",
        "sales-close-prediction",
        "-p",
        "model_version=10",
        "-p",
        f"data_url={feed}/data/caravan.csv",
        "-p",
        "epochs=1",
        "-p",
        "min_auc=0.3",
    )
    manifest = platform.json("models", "show", done["versions"][0]["version_id"])["manifest"]
    assert manifest["data"]["uri"] == f"{feed}/data/caravan.csv"
    assert manifest["data"]["rows"] == 5822


def test_an_alias_moves_to_a_verified_version_and_predicts(two: dict, platform: Mlops, tmp_path: Path) -> None:
    version = two["versions"][0]["version_id"]
    moved = platform("models", "promote", version, "production")
    assert moved.returncode == 0, moved.stderr
    rows = DATA.read_text().splitlines()[:51]
    (tmp_path / "rows.csv").write_text("\n".join(rows) + "\n")

    by_alias = platform("models", "predict", "sales-close-prediction/production", str(tmp_path / "rows.csv"))
    assert by_alias.returncode == 0, by_alias.stderr
    scored = list(csv.DictReader(by_alias.stdout.splitlines()))
    assert len(scored) == 50
    assert all(0 <= float(row["prediction"]) <= 1 for row in scored)
    assert len({row["prediction"] for row in scored}) > 10

    with (tmp_path / "rows.csv").open() as file:
        (tmp_path / "rows.json").write_text(json.dumps(list(csv.DictReader(file))))
    target = tmp_path / "out.csv"
    by_id = platform("models", "predict", version, str(tmp_path / "rows.json"), "--output", str(target))
    assert by_id.returncode == 0, by_id.stderr
    assert target.read_text() == by_alias.stdout


@pytest.mark.whole
def test_a_count_of_two_in_the_stack_stores_two_with_one_dispatch(scratch_checkout: Path, tmp_path: Path) -> None:
    stack = scratch_checkout / "stacks" / "Pulumi.local.yaml"
    text = stack.read_text()
    assert "count: 1" in text
    stack.write_text(text.replace("count: 1", "count: 2"))
    mlops = Mlops(tmp_path / "state", scratch_checkout)
    assert mlops("up").returncode == 0
    try:
        done = mlops.json(
            "run", "sales-close-prediction", "-p", "model_version=1", "-p", "epochs=1", "-p", "min_auc=0.3"
        )
        assert len(done["runs"]) == 1
        assert [v["verified"] for v in done["versions"]] == ["passed", "passed"]
        assert len({v["model_digest"] for v in done["versions"]}) == 2
    finally:
        mlops("down")
