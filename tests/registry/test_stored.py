"""What earlier commits stored is still listed, shown, verified, promoted, used and reproducible."""

import json
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlops import parameters, paths
from mlops.engines.embedded import platform
from mlops_registry import Registry, reproduction
from tests.conftest import Mlops

STORED = sorted((Path(__file__).parent / "stored").glob("*.tar.xz"))
BUCKET = "hybrid-mlops-local-models"
PRIMED = paths.CHECKOUT / "images/mojo-packager/target/m2/runtime"
MODELS = ["model-refit", "sales-close-prediction"]
_XATTR = "SCHILY.xattr."


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a state folder, extended attributes included."""
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        for member in tar:
            for name, value in member.pax_headers.items():
                if name.startswith(_XATTR):
                    os.setxattr(folder / member.name, name.removeprefix(_XATTR), value.encode())


@pytest.fixture(scope="module", params=STORED, ids=lambda archive: archive.name.partition(".")[0])
def old(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlops]:
    """A platform on a state folder that an earlier commit wrote."""
    state = tmp_path_factory.mktemp("old") / "state"
    state.mkdir(mode=0o700)
    unpack(request.param, state)
    platform.up(state, [BUCKET], feed=False)
    yield Mlops(state)
    platform.down(state)


def test_old_versions_are_listed_and_shown(old: Mlops) -> None:
    listed = old.json("models", "list")
    assert [(one["model"], one["verified"], one["differing"], one["aliases"]) for one in listed] == [
        (model, "passed", 0, ["champion"]) for model in MODELS
    ]
    for one in listed:
        shown = old.json("models", "show", f"{one['model']}/champion")
        assert shown["manifest"]["version_id"] == one["version_id"]
        assert shown["verifications"][0]["passed"]
        assert shown["aliases"] == ["champion"]


@pytest.mark.parametrize("model", MODELS)
def test_old_versions_are_verified_promoted_and_used(old: Mlops, model: str, tmp_path: Path) -> None:
    if model == "model-refit" and not PRIMED.exists():
        pytest.skip(f"{PRIMED} is missing: run `make setup`")
    verified = old.json("models", "verify", f"{model}/champion")
    assert (verified["passed"], verified["examples"], verified["differing"]) == (True, 200, 0)
    assert old.json("models", "promote", f"{model}/champion", "candidate")["version_id"] == verified["version_id"]
    folder = old.state / "bucket" / BUCKET / "models" / model / verified["version_id"]
    examples = json.loads((folder / "examples.json").read_text())["examples"][:5]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one["input"]) + "\n" for one in examples))
    done = old("models", "predict", f"{model}/candidate", str(tmp_path / "rows.jsonl"), "--json")
    assert done.returncode == 0, done.stderr
    predicted = [json.loads(line)["prediction"] for line in done.stdout.splitlines()]
    assert predicted == pytest.approx([one["prediction"] for one in examples], abs=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_a_run_that_makes_an_old_version_again_would_start(
    old: Mlops, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = platform.find(old.state)
    assert found
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", found.storage_address)
    manifest = Registry(f"gs://{BUCKET}/models").show(f"{model}/champion").manifest
    declared = parameters.load(parameters.files(paths.CHECKOUT / "jobs")[model])
    asked = declared.check(reproduction.request(manifest, declared.parameters))
    assert asked["seed"] == str(manifest.seed)
    assert {"data_uri", "data_url"} & asked.keys()


def test_old_versions_are_listed_from_a_copy_that_lost_all_metadata(old: Mlops, tmp_path: Path) -> None:
    before = old.json("models", "list")
    lost = Mlops(tmp_path / "state")
    shutil.copytree(old.state / "bucket", lost.state / "bucket", copy_function=shutil.copyfile)
    lost.state.chmod(0o700)
    platform.up(lost.state, [BUCKET], feed=False)
    try:
        assert lost.json("models", "list") == before
    finally:
        platform.down(lost.state)
