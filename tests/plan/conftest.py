"""What the tests of program and recorder share: a small checkout to edit."""

import shutil
import subprocess
from pathlib import Path

import pytest

from infra.settings import ROOT


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """The program with one job and a small image, in a checkout of its own."""
    copy = tmp_path / "tree"
    for name in ("stacks", "infra", "jobs/sales_close_prediction"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Pulumi.yaml", "__main__.py"):
        shutil.copy2(ROOT / name, copy / name)
    image = copy / "images" / "tensornode"
    image.mkdir(parents=True)
    (image / "Dockerfile").write_text("ARG BASE=node:22\nFROM ${BASE}\nCOPY images/tensornode ./\n")
    subprocess.run(["git", "init", "-q"], cwd=copy, check=True)
    return copy
