"""What the tests of program and recorder share: a small checkout to edit."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.settings import ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The program with one job and a small image, in a checkout of its own."""
    copy = tmp_path / "tree"
    for name in ("stacks", "definitions", "infra", "jobs/sales_close_prediction"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copy2(ROOT / name, copy / name)
    for path in (copy / "stacks").glob("Pulumi.*.yaml"):
        stack = yaml.safe_load(path.read_text())
        jobs = stack["config"]["hybrid-mlops:jobs"]
        # What the stack sets for other jobs would be refused: they are not in this checkout.
        stack["config"]["hybrid-mlops:jobs"] = {name: jobs[name] for name in jobs if name == "sales-close-prediction"}
        path.write_text(yaml.safe_dump(stack))
    image = copy / "images" / "tensornode"
    image.mkdir(parents=True)
    (image / "Dockerfile").write_text("ARG BASE=node:22\nFROM ${BASE}\nCOPY images/tensornode ./\n")
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
    return copy
