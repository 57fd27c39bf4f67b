"""What tests share: the command as a person runs it, and one real platform on this machine."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from inventory import kept
from tests import stack_inventories

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_configure(config: pytest.Config) -> None:
    """Give the workers, if there are any, a folder to share, and what tests start an interrupt that it can receive."""
    # A shell that starts a command in the background has it ignore interrupts, and so would all that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        folder = tempfile.mkdtemp(prefix="mlops-tests-")
        os.environ[stack_inventories.FOLDER] = folder
        os.environ[kept.FOLDER] = folder
        config.add_cleanup(lambda: shutil.rmtree(folder))


@dataclass(frozen=True)
class Mlops:
    """The `mlops` command of a checkout, with a state folder of its own."""

    state: Path
    checkout: Path = CHECKOUT
    environment: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, timeout: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.argv(*arguments),
            env=self.env(**environment),
            cwd=self.checkout,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def json(self, *arguments: str, timeout: float = 300) -> Any:
        """Run it with --json; it must succeed."""
        done = self(*arguments, "--json", timeout=timeout)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def argv(self, *arguments: str) -> list[str]:
        """Its command line."""
        return [sys.executable, "-c", "from mlops.cli.main import main; main()", *arguments]

    def env(self, **more: str) -> dict[str, str]:
        """Its environment: nothing of a real cloud or cluster that the developer may have set."""
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("NOMAD_", "PULUMI_", "GOOGLE_", "STORAGE_", "MLOPS_"))
        }
        return {**kept, "MLOPS_STATE": str(self.state), "PYTHONPATH": str(self.checkout), **self.environment, **more}


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlops]:
    """A real platform on this machine, shared by the tests that only add versions to it."""
    mlops = Mlops(tmp_path_factory.mktemp("platform") / "state")
    yield from _running(mlops)


@pytest.fixture
def own_platform(tmp_path: Path) -> Iterator[Mlops]:
    """A real platform of a test's own, to be killed."""
    yield from _running(Mlops(tmp_path / "state"))


@pytest.fixture
def scratch_checkout(tmp_path: Path) -> Path:
    """A copy of the project, as it is on disk, to be edited; installed dependencies are shared with the original."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    copy = tmp_path / "checkout"
    for name in filter(None, listed.stdout.split("\0")):
        if (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, copy / name)
    for installed in [
        CHECKOUT / ".venv",
        CHECKOUT / ".cache",
        *CHECKOUT.glob("images/*/node_modules"),
        *CHECKOUT.glob("images/*/.venv"),
    ]:
        if installed.exists():
            (copy / installed.relative_to(CHECKOUT)).symlink_to(installed)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t.invalid", "commit", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=copy, check=True)
    return copy


def _running(mlops: Mlops) -> Iterator[Mlops]:
    up = mlops("up")
    assert up.returncode == 0, up.stdout + up.stderr
    try:
        yield mlops
    finally:
        down = mlops("down")
        assert down.returncode == 0, down.stderr
