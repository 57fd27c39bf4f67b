"""Fixtures: the trainer as a program in the image's own environment, and features of the real data."""

import os
import subprocess
from pathlib import Path

import pytest

IMAGE = Path(__file__).parent.parent
PYTHON = IMAGE / ".venv" / "bin" / "python"
DATA = IMAGE.parent.parent / ".cache" / "data" / "Caravan.csv"


class Trainer:
    """Runs the image's programs."""

    python = PYTHON

    def environment(self, **extra):
        """Give the least that a program needs, and `extra`."""
        return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **extra}

    def run(self, *arguments, **extra):
        """Run to the end."""
        command = [PYTHON, IMAGE / "src" / "train.py", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.environment(**extra), check=False)

    def start(self, *arguments, **extra):
        """Start, with both outputs as pipes."""
        command = [PYTHON, IMAGE / "src" / "train.py", *arguments]
        return subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment(**extra)
        )

    def code(self, program, *arguments):
        """Run a line of Python where the image's modules are importable."""
        command = [PYTHON, "-c", program, *arguments]
        return subprocess.run(command, cwd=IMAGE / "src", capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="session")
def trainer():
    assert PYTHON.exists(), f"{PYTHON} is missing: run `make setup`"
    return Trainer()


@pytest.fixture(scope="session")
def folders(trainer, tmp_path_factory):
    """Feature folders: `good`, and one for each way of being bad."""
    assert DATA.exists(), f"{DATA} is missing: run `make setup`"
    root = tmp_path_factory.mktemp("features")
    subprocess.run([trainer.python, Path(__file__).parent / "make_features.py", DATA, root], check=True)
    return root
