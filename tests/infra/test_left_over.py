"""The program runs for what is left of a stack, too: `pulumi destroy --run-program` after an interrupted update."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import PROJECT, ROOT, read_config

# Pulumi's mocks for an update in which nothing is made: a resource has what the program sets, and no more. Such
# is what `pulumi destroy --run-program` answers for what is not in the state.
_PROGRAM = """
import json, runpy, sys
from pulumi.runtime import mocks, set_all_config, stack
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.sync_await import _sync_await

name, root = sys.argv[1:]

class Nothing(mocks.Mocks):
    def call(self, args):
        sys.stdout.write(f"{args.token}\\n")
        return {}

    def new_resource(self, args):
        return "", {}

task = json.load(sys.stdin)
set_all_config(task["config"], task["secret"])
mocks.set_mocks(Nothing(), project=task["project"], stack=name, preview=False)
set_root_resource(None)
sys.path.insert(0, root)
_sync_await(stack.run_in_stack(lambda: runpy.run_path(f"{root}/__main__.py", run_name="__main__")))
"""


@pytest.mark.parametrize("nomad", [None, "gone"])
def test_the_program_runs_to_its_end_where_nothing_was_made(nomad: str | None, tmp_path: Path) -> None:
    config, secret = read_config("dev", ROOT / "stacks")
    task = {
        "project": PROJECT,
        "config": {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()},
        "secret": sorted(secret),
    }
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **({"MLOPS_NOMAD": nomad} if nomad else {})}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "dev", str(ROOT)],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # What was never made cannot be asked: the provider of Nomad is unknown to the engine, which ends the destroy.
    assert "getJwks" not in done.stdout
