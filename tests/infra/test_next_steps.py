"""What a stack says to do next."""

import subprocess

from infra import settings
from infra.next_steps import next_steps
from infra.settings import ROOT


def test_a_stack_names_every_image_engine_and_first_run() -> None:
    steps = next_steps("dev", settings.load("dev"), ROOT)
    pushed = [line for line in steps if line.startswith("docker build")]
    assert len(pushed) == len(list(ROOT.glob("images/*/Dockerfile")))
    text = "\n".join(steps)
    assert "mlops tunnel --stack dev -- mlops run sales-close-prediction --stack dev" in text
    assert "get-credentials mlops-eu --dns-endpoint --location europe-west1" in text
    assert "port-forward --namespace mlops service/argo-workflows-server" in text
    assert "mlops run model-refit --stack dev" in text
    checked = subprocess.run(["sh", "-n"], input=text, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_a_stack_that_provisions_nothing_has_none() -> None:
    assert next_steps("local", settings.load("local"), ROOT) == []
