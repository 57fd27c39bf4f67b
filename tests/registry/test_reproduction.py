"""Making a version again: what is asked for, what is found to differ, and a real one of the first lane."""

import hashlib
from typing import Any

import pytest

from mlops_registry.manifest import Manifest, validated
from mlops_registry.reproduction import differences, request
from tests.conftest import Mlops

DECLARED = ("model", "model_version", "data_uri", "trials", "seed", "max_depth", "learn_rate", "memoise")


def manifest(**changed: Any) -> Manifest:
    """A refit's, whose second trial won."""
    digest = hashlib.sha256(b"").hexdigest()
    facts = {
        "format": "h2o-mojo",
        "parameters": {
            "model_version": "3",
            "trials": 4,
            "memoise": "true",
            "max_depth": 7,
            "learn_rate": 0.05,
            "trial": 1,
        },
        "seed": 11,
        "data": {"uri": "gs://data/raw/x", "sha256": digest, "rows": 5, "schema": []},
        "code": {"commit": "a" * 40, "dirty": False},
        "tools": {"h2o": "3.46.0.11"},
        "model_digest": digest,
        "files": [{"path": path, "size": 0, "sha256": digest} for path in ("examples.json", "metrics.json", "model/m")],
        "model": "some-model",
        "version_id": "some-model_v3_1",
        "created": "2026-01-01T00:00:00Z",
        "lane": "argo",
        "engine": {"run": "r", "allocation": "1"},
        "images": ["repo/h2o-trainer:1", "repo/registry:1"],
        "metrics": {},
    }
    return validated(Manifest, facts | changed, "it")


def test_a_refit_is_asked_for_the_trial_that_won_and_nothing_remembered() -> None:
    assert request(manifest(), DECLARED) == {
        "model": "some-model",
        "model_version": "3",
        "data_uri": "gs://data/raw/x",
        "trials": "1",
        "seed": "11",
        "max_depth": "7",
        "learn_rate": "0.05",
        "memoise": "false",
    }
    assert request(manifest(), ("seed",)) == {"seed": "11"}


def test_nothing_differs_where_only_the_run_does() -> None:
    again = manifest(
        version_id="some-model_v3_2", created="2026-02-02T00:00:00Z", engine={"run": "s", "allocation": "2"}
    )
    assert list(differences(manifest(), again)) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"code": {"commit": "b" * 40, "dirty": True}}, ("code", "a" * 12, f"{'b' * 12} with uncommitted changes")),
        ({"images": ["repo/h2o-trainer:2", "repo/registry:1"]}, ("image h2o-trainer", "1", "2")),
        ({"tools": {"h2o": "3.46.0.12"}}, ("tool h2o", "3.46.0.11", "3.46.0.12")),
        ({"seed": 12}, ("seed", "11", "12")),
        ({"parameters": {**manifest().parameters, "max_depth": 8}}, ("parameter max_depth", "7", "8")),
        (
            {"data": {"uri": "gs://data/raw/x", "sha256": "0" * 64, "rows": 6, "schema": []}},
            ("data", "e3b0c44298fc of 5 rows", "000000000000 of 6 rows"),
        ),
    ],
)
def test_what_may_explain_another_model_is_told(changed: dict[str, Any], told: tuple[str, str, str]) -> None:
    assert [tuple(one) for one in differences(manifest(), manifest(**changed))] == [told]


def test_code_with_uncommitted_changes_is_told_even_if_the_commit_is_the_same() -> None:
    dirty = manifest(code={"commit": "a" * 40, "dirty": True})
    assert [one.what for one in differences(dirty, dirty)] == ["code"]


@pytest.mark.whole
def test_a_real_version_is_made_again_and_another_seed_is_not_the_same_model(platform: Mlops) -> None:
    common = ("-p", "epochs=1", "-p", "min_auc=0.3")
    (version,) = platform.json("run", "sales-close-prediction", "-p", "model_version=77", *common)["versions"]
    done = platform.json("models", "reproduce", version["version_id"])
    assert done["reproduced"] is True
    assert done["made"] not in ("", version["version_id"])
    assert {one["what"] for one in done["differences"]} <= {"code"}, "a dirty checkout may be told, nothing else"
    other = platform("models", "reproduce", version["version_id"], "-p", "seed=1")
    assert other.returncode == 1
    assert "NOT reproduced: another model" in other.stdout
    assert str(version["seed"]) in other.stdout
