"""Whatever a run is allowed to start with, the registry stores: nothing is refused only after the training."""

import contextlib
import json
import subprocess
from pathlib import Path

import pytest

from mlops import parameters
from mlops_registry import names
from mlops_registry.manifest import Data, validated

CHECKOUT = Path(__file__).parents[2]
DECLARED = {name: parameters.load(file) for name, file in parameters.files(CHECKOUT / "jobs").items()}
RUN_ID = "0c9a3f52-1111-4222-8333-444455556666"
TRICKY = ["1", "1.", "1-", "1..2", "v", "a.b-c", "_", ".", "-1", "A_b-C", "é", *(n * "x" for n in (32, 33, 63, 64, 65))]
PATHS = ["a", "a/b", "_", "x" * 200, "/".join("x" * 32), "a..b", "./a", "a/.b", "a+b"]
LONGEST = 2048


def accepted(pipeline: str, parameter: str, values: list[str]) -> list[str]:
    """Those of the values that a run may start with."""
    found = []
    for value in values:
        with contextlib.suppress(ValueError):
            found.append(DECLARED[pipeline].parameters[parameter].canonical(value))
    assert found
    return found


@pytest.mark.parametrize(("pipeline", "name"), [("sales-close-prediction", "save_path"), ("model-refit", "model")])
def test_every_name_and_version_makes_a_version_id(pipeline: str, name: str) -> None:
    for first in accepted(pipeline, name, TRICKY):
        for version in accepted(pipeline, "model_version", TRICKY):
            assert names.version_id(f"{first}_v{version}_{RUN_ID}")
    if name == "model":
        assert all(map(names.model_name, accepted(pipeline, name, TRICKY)))


def test_every_path_names_a_stored_file() -> None:
    assert all(map(names.file_path, accepted("sales-close-prediction", "prediction_path", PATHS)))


def test_every_bucket_path_is_one() -> None:
    given = [
        "gs://abc",
        "gs://abc/d",
        f"gs://{'a' * 222}/{'b' * 200}",
        "gs://abc/" + "/".join("abcdefgh"),
        "gs://a/../b",
    ]
    assert all(map(names.BucketPath.parse, accepted("sales-close-prediction", "gcp_bucket_path", given)))
    assert all(map(names.BucketPath.parse, accepted("model-refit", "data_uri", given)))


@pytest.mark.parametrize("character", [",", "|", "'", "~", "(", "%", "A"])
def test_the_longest_address_is_recorded_whatever_is_in_it(character: str) -> None:
    start, end = "https://a.example/x?select=", "&design=q"
    address = start + character * (LONGEST - len(start + end)) + end
    assert accepted("sales-close-prediction", "data_url", [address]) == [address]
    script = "import { publicUrl } from './src/net.js'; process.stdout.write(publicUrl(process.argv[1]))"
    command = ["node", "--input-type=module", "--eval", script, "--", address]
    done = subprocess.run(command, cwd=CHECKOUT / "images/tensornode", capture_output=True, text=True, check=True)
    facts = {"uri": done.stdout, "sha256": "a" * 64, "rows": 1, "schema": []}
    assert validated(Data, json.loads(json.dumps(facts)), "the data").uri == done.stdout
