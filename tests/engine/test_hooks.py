"""What the program asks Nomad in the middle of an update, on the real `pulumi`: it does ask, and says what is wrong.

What is asked and answered is tried on a real Nomad in `test_inside.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.stack import ENGINES, Stack, initialised, needs_pulumi

pytestmark = [pytest.mark.engine, pytest.mark.whole, needs_pulumi]

NOBODY = {key: value for key, value in ENGINES.items() if key != "MLOPS_NOMAD"}


@pytest.fixture
def stack(scratch_checkout: Path, tmp_path: Path) -> Iterator[Stack]:
    """Stack `dev`, initialised and empty."""
    with initialised("dev", scratch_checkout, tmp_path) as one:
        yield one


@pytest.mark.timeout(900)
def test_an_update_waits_for_nomad_and_a_destroy_drains_it(stack: Stack) -> None:
    stopped = stack.pulumi("up", "--yes", "--skip-preview", **NOBODY)
    assert stopped.returncode != 0
    assert 'before hook "nomad-gate-eu" failed: Nomad region eu is not ready at https://127.0.0.1:' in stopped.stdout
    assert "update by `mlops tunnel --stack dev -- pulumi up --stack dev`" in stopped.stdout
    asked = {urn.rpartition("$")[2].partition(":")[0] for method, urn in stack.provider.calls if method == "Create"}
    assert "gcp" in asked
    assert "nomad" not in asked, "nothing is put into a Nomad that is not ready"

    stack.run("up")
    refused = stack.pulumi("destroy", "--yes", "--skip-preview", **NOBODY)
    assert refused.returncode != 0
    assert "--run-program" in refused.stdout + refused.stderr

    stack.provider.calls.clear()
    undrained = stack.pulumi("destroy", "--yes", "--skip-preview", "--run-program", **NOBODY)
    assert undrained.returncode != 0
    assert 'before hook "nomad-drain" failed: Nomad region eu does not tell of the runs of ' in undrained.stdout
    assert "set MLOPS_NOMAD=gone if it never will" in undrained.stdout
    deleted = {urn.rpartition("$")[2].partition("::")[0] for method, urn in stack.provider.calls if method == "Delete"}
    assert "gcp:compute/instanceGroupManager:InstanceGroupManager" not in deleted, (
        "the servers stay until it is drained"
    )

    stack.provider.calls.clear()
    gone = stack.pulumi("destroy", "--yes", "--skip-preview", "--run-program", **NOBODY, MLOPS_NOMAD="gone")
    assert gone.returncode == 0, gone.stdout + gone.stderr
    assert stack.state() == {}
    assert not [urn for _, urn in stack.provider.calls if "nomad:index/" in urn], (
        "a Nomad that is gone is asked nothing"
    )
