"""What a stack says to do next."""

import subprocess
import sys

from infra import images, settings
from infra.next_steps import next_steps
from infra.settings import ROOT


def test_a_stack_names_every_image_engine_and_first_run() -> None:
    steps = next_steps("dev", settings.load("dev"), ROOT)
    text = "\n".join(steps)
    assert ".venv/bin/mlops tunnel --stack dev -- .venv/bin/mlops run sales-close-prediction --stack dev" in text
    assert "get-credentials mlops-eu --dns-endpoint --location europe-west1" in text
    assert "port-forward --namespace mlops service/argo-workflows-server" in text
    assert "mlops run model-refit --stack dev" in text
    checked = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_a_stack_that_provisions_nothing_has_none() -> None:
    assert next_steps("local", settings.load("local"), ROOT) == []


def test_the_images_to_push_are_those_that_the_stack_names() -> None:
    command = [sys.executable, "-m", "infra.images", "example.com/images"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    folders = sorted(path.parent.name for path in ROOT.glob("images/*/Dockerfile"))
    assert printed.splitlines() == [f"{folder} {images.name(ROOT, folder, 'example.com/images')}" for folder in folders]
