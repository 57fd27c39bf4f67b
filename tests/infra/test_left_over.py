"""The program runs for what is left of a stack, too: `pulumi destroy --run-program` after an interrupted update."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from infra.settings import PROJECT, ROOT, read_config

# Pulumi's mocks for an update in which nothing is made: a resource has what the program sets, and no more. Such
# is what `pulumi destroy --run-program` answers for what is not in the state. What is there has an id besides.
_PROGRAM = """
import json, runpy, sys
from pulumi.runtime import mocks, set_all_config, stack
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import set_root_resource
from pulumi.runtime.sync_await import _sync_await

name, root, identity = sys.argv[1:]

class Monitor(mocks.MockMonitor):
    # As the engine: the SDK leaves it to it to hold back a call, whose provider it looks for first.
    def GetDeploymentInfo(self, request):
        info = super().GetDeploymentInfo(request)
        info.supportedFeatures.append(resource_pb2.RESOURCE_MONITOR_FEATURE_INVOKE_DEPENDS_ON)
        return info

class Nothing(mocks.Mocks):
    def call(self, args):
        sys.stdout.write(f"{args.token}\\n")
        return {}

    def new_resource(self, args):
        return identity, {}

task = json.load(sys.stdin)
set_all_config(task["config"], task["secret"])
mocks.set_mocks(Nothing(), project=task["project"], stack=name, preview=False, monitor=Monitor(Nothing()))
set_root_resource(None)
sys.path.insert(0, root)
_sync_await(stack.run_in_stack(lambda: runpy.run_path(f"{root}/__main__.py", run_name="__main__")))
"""


@pytest.mark.parametrize(
    ("identity", "nomad", "asked"),
    [("", None, False), ("", "gone", False), ("id", None, True), ("id", "gone", False)],
    ids=["never made", "never made and gone", "there", "there and gone"],
)
def test_the_program_runs_to_its_end_for_what_is_left(
    identity: str, nomad: str | None, asked: bool, tmp_path: Path
) -> None:
    config, secret = read_config("dev", ROOT / "stacks")
    task = {
        "project": PROJECT,
        "config": {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()},
        "secret": sorted(secret),
    }
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), **({"MLOPS_NOMAD": nomad} if nomad else {})}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, "dev", str(ROOT), identity],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    # A Nomad that was never made cannot be asked, since the engine does not know its provider; nor can one that is
    # gone. Either would end the destroy.
    assert ("getJwks" in done.stdout) is asked
