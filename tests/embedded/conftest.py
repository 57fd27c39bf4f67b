"""A platform of its own for these tests: temporary checkout with a tiny image, temporary state, real processes."""

import contextlib
import json
import os
import signal
import subprocess
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests

from infra.images import name as image_name
from mlops.engines.embedded import platform

T = TypeVar("T")
PATIENCE = 60.0
"""How long something may take before a test says that it never happens. No test measures time by it."""


def eventually(check: Callable[[], T], what: str) -> T:
    """Wait until a check gives something true."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if found := check():
            return found
        time.sleep(0.02)
    pytest.fail(f"never happened: {what}")


def task(name: str, script: str, *, hook: str = "", more: str = "") -> str:
    """A task of the exec driver that runs a shell script."""
    lifecycle = f'lifecycle {{ hook = "{hook}" }}' if hook else ""
    return textwrap.dedent(
        f"""
        task "{name}" {{
          driver = "exec"
          config {{
            command = "sh"
            args    = ["-c", {json.dumps(script)}]
          }}
          {lifecycle}
          {more}
        }}
    """
    )


def job(
    name: str,
    *tasks: str,
    group: str = "",
    required: str = "[]",
    optional: str = "[]",
    top: str = "",
    restart: str = "attempts = 0",
) -> str:
    """A parameterized job with one group."""
    return f"""
{top}
job "{name}" {{
  type = "batch"
  parameterized {{
    meta_required = {required}
    meta_optional = {optional}
  }}
  group "work" {{
    restart {{
      {restart}
    }}
    reschedule {{
      attempts = 0
    }}
    {group}
    {"".join(tasks)}
  }}
}}
"""


class Engine:
    """A platform and what tests ask of it."""

    def __init__(self, state: Path, checkout: Path) -> None:
        self.state = state
        self.checkout = checkout
        self.platform = platform.up(state, checkout=checkout, feed=False)

    def url(self, path: str) -> str:
        """Of a path of the API."""
        return self.platform.nomad_address + path

    def get(self, path: str, **parameters: str) -> Any:
        """What the API answers."""
        answer = requests.get(self.url(path), params=parameters, timeout=PATIENCE)
        assert answer.ok, answer.text
        return answer.json()

    def register(self, source: str, **variables: str) -> str:
        """Register a job; its id."""
        return platform.register(self.platform, source, variables)

    def dispatch(self, job_id: str, meta: Mapping[str, str] | None = None, token: str | None = None) -> str:
        """Dispatch a job; the id of its run."""
        answer = requests.post(
            self.url(f"/v1/job/{job_id}/dispatch"),
            json={"Meta": meta or {}},
            params={"idempotency_token": token} if token else {},
            timeout=PATIENCE,
        )
        assert answer.ok, answer.text
        return answer.json()["DispatchedJobID"]

    def allocations(self, run: str) -> list[dict[str, Any]]:
        """A run's allocations as they are now."""
        return self.get(f"/v1/job/{run}/allocations")

    def finished(self, run: str) -> list[dict[str, Any]]:
        """The run's allocations when everything has ended, poststop tasks included."""

        def dead() -> list[dict[str, Any]]:
            found = self.allocations(run)
            ended = all(state["State"] == "dead" for each in found for state in each["TaskStates"].values())
            return found if ended and self.get(f"/v1/job/{run}")["Status"] == "dead" else []

        return eventually(dead, f"the end of {run}")

    def run(self, source: str, meta: Mapping[str, str] | None = None, **variables: str) -> dict[str, Any]:
        """Register, dispatch, wait; the one allocation."""
        (allocation,) = self.finished(self.dispatch(self.register(source, **variables), meta))
        return allocation

    def log(self, allocation: Mapping[str, Any], name: str, stream: str = "stdout") -> str:
        """A task's output."""
        answer = requests.get(
            self.url(f"/v1/client/fs/logs/{allocation['ID']}"),
            params={"task": name, "type": stream, "plain": "true"},
            timeout=PATIENCE,
        )
        assert answer.ok, answer.text
        return answer.text


def events(allocation: Mapping[str, Any], name: str) -> list[str]:
    """A task's event types in order."""
    return [event["Type"] for event in allocation["TaskStates"][name]["Events"]]


def alive(pid: int) -> bool:
    """Whether a process runs."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    return False


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git checkout with one image, `toy`, whose program is a shell script."""
    root = tmp_path_factory.mktemp("checkout")
    folder = root / "images" / "toy"
    folder.mkdir(parents=True)
    (folder / "Dockerfile").write_text(
        'ARG BASE=debian\nFROM ${BASE} AS build\nENTRYPOINT ["wrong"]\nFROM debian\nWORKDIR /app\nCOPY images/toy'
        ' /app\nENV COLOUR=blue PLACE=/app/data\nENTRYPOINT ["sh", "main.sh"]\nCMD ["default"]\n'
    )
    (folder / "main.sh").write_text('echo "toy $*"\nenv\n')
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "toy"],
    ):
        subprocess.run(["git", *command], cwd=root, check=True)
    return root


@pytest.fixture(scope="session")
def toy(checkout: Path) -> str:
    """The full name of the image `toy`."""
    return image_name(checkout, "toy", "tests.local")


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Iterator[Engine]:
    """One platform for every test that leaves it as it was."""
    state = tmp_path_factory.mktemp("state")
    # What the caller of `up` has in the environment is not for tasks.
    os.environ["TEST_CALLERS_SECRET"] = "hunter2-of-the-caller"  # noqa: S105
    try:
        yield Engine(state, checkout)
    finally:
        os.environ.pop("TEST_CALLERS_SECRET", None)  # tests of another folder have a platform of their own
        platform.down(state)


@pytest.fixture
def own(tmp_path: Path, checkout: Path) -> Iterator[Engine]:
    """A platform that the test may break."""
    engine = Engine(tmp_path / "state", checkout)
    yield engine
    platform.down(engine.state)
    with contextlib.suppress(ProcessLookupError):
        if alive(engine.platform.pid):
            os.kill(engine.platform.pid, signal.SIGKILL)
