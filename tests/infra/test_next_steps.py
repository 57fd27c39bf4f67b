"""What a stack says to do next."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra import images, settings
from infra.next_steps import next_steps
from infra.settings import ROOT
from mlops import parameters


def test_a_stack_names_every_image_engine_and_first_run() -> None:
    steps = next_steps("dev", settings.load("dev"), ROOT)
    text = "\n".join(steps)
    assert ".venv/bin/mlops tunnel --stack dev -- .venv/bin/mlops run sales-close-prediction --stack dev" in text
    assert "get-credentials mlops-eu --dns-endpoint --location europe-west1" in text
    assert "port-forward --namespace mlops service/argo-workflows-server" in text
    assert "mlops run model-refit --stack dev" in text
    checked = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize("stack", [stack for stack in settings.stacks() if settings.load(stack).gcp])
def test_the_first_runs_give_all_that_a_run_must_give(stack: str) -> None:
    """Otherwise the first command that a person is told to type is refused."""
    files, jobs = parameters.files(ROOT / "jobs"), settings.load(stack).jobs
    runs = [line.partition("mlops run ")[2].split() for line in next_steps(stack, settings.load(stack), ROOT)]
    told = {words[0]: {word.partition("=")[0] for word in words if "=" in word} for words in runs if words}
    assert set(told) == {"sales-close-prediction", "model-refit"}
    for job, given in told.items():
        of_the_stack = set(jobs[job].parameters) if job in jobs else set()
        required = {name for name, one in parameters.load(files[job]).parameters.items() if one.required}
        assert required <= given | of_the_stack
        assert given.isdisjoint(of_the_stack), "what the stack says is not asked again"


def test_the_first_refit_is_of_raw_data_whatever_other_workflow_there_is(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "jobs", tmp_path / "jobs")
    shutil.copytree(
        ROOT / "images", tmp_path / "images", ignore=shutil.ignore_patterns("node_modules", ".venv", "target")
    )
    other = tmp_path / "jobs" / "aaa_first"
    shutil.copytree(tmp_path / "jobs" / "model_refit", other)
    (other / "parameters.yaml").write_text("parameters: {count: {type: integer}}")
    runs = [line for line in next_steps("dev", settings.load("dev"), tmp_path) if "mlops run" in line]
    assert any("mlops run model-refit" in line for line in runs)
    assert not any("aaa-first" in line for line in runs)


def test_a_stack_that_provisions_nothing_has_none() -> None:
    assert next_steps("local", settings.load("local"), ROOT) == []


def test_the_images_to_push_are_those_that_the_stack_names() -> None:
    command = [sys.executable, "-m", "infra.images", "example.com/images"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = sorted(path.parent.name for path in ROOT.glob("images/*/Dockerfile"))
    assert printed.splitlines() == [f"{folder} {images.name(ROOT, folder, 'example.com/images')}" for folder in folders]
