"""What the command says without a platform."""

import re
from pathlib import Path

import typer

from mlops.cli import models, runs
from tests.conftest import Mlops


def test_the_help_of_a_group_names_its_commands() -> None:
    for app in (models.app, runs.app):
        group = typer.main.get_group(app)
        named = re.search(r": ([a-z, ]+)\.$", group.help or "")
        assert named
        assert named[1].split(", ") == list(group.commands)


def test_the_help_of_run_lists_every_pipelines_parameters_with_what_the_stack_gives(tmp_path: Path) -> None:
    done = Mlops(tmp_path)("run", "--help")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert any(line.startswith("sales-close-prediction: ") for line in lines)
    epochs = next(line for line in lines if line.strip().startswith("epochs"))
    assert "integer 1..1000" in epochs
    bucket = next(line for line in lines if line.strip().startswith("gcp_bucket_path"))
    assert "gs://hybrid-mlops-local-models/models" in bucket


def test_a_broken_declaration_spoils_only_its_own_pipeline(scratch_checkout: Path, tmp_path: Path) -> None:
    (scratch_checkout / "jobs" / "broken").mkdir()
    (scratch_checkout / "jobs" / "broken" / "parameters.yaml").write_text("description: x\nparameters: 7\n")
    (scratch_checkout / "jobs" / "broken" / "job.nomad.hcl").write_text("")
    mlops = Mlops(tmp_path / "state", scratch_checkout)
    shown = mlops("run", "--help")
    assert shown.returncode == 0
    assert "sales-close-prediction: " in shown.stdout
    assert "jobs/broken/parameters.yaml" in shown.stdout
    assert "mlops up" in mlops("run", "sales-close-prediction", "-p", "model_version=1").stderr
    up = mlops("up")
    assert up.returncode == 2
    assert "jobs/broken/parameters.yaml" in up.stderr
    assert len(up.stderr.strip().splitlines()) == 1


def test_a_name_that_is_nearly_one_is_suggested(tmp_path: Path) -> None:
    done = Mlops(tmp_path)("run", "sales_close_prediction")
    assert done.returncode == 2
    assert "did you mean 'sales-close-prediction'?" in done.stderr
