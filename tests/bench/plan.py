"""What planning and reviewing cost: each stack against the bare import of what it uses, the command, how stages grow.

In CPU seconds, children's included: what else a machine does at the time is no part of them.
"""

import argparse
import functools
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from infra.settings import ROOT
from infra.settings import stacks as all_stacks
from inventory.recorder import record
from inventory.resources import Inventory
from mlops_registry import confinement
from tests.bench import pools, stages
from tests.bench.clock import cpu

# The packages load a module only when a class of it is asked for.
_IMPORT = """
import importlib, json, sys
import pulumi
for module, kind in json.loads(sys.argv[1]):
    getattr(importlib.import_module(module), kind)
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--plans", type=int, default=3, help="how often each stack is planned (default: %(default)s)")
    parser.add_argument("--against", type=Path, help="another checkout that is set up: its plan is measured in turn")
    parser.add_argument("--pools", type=int, nargs="*", default=[1, 10, 100], help="pools, and jobs, of planned stacks")
    sizes = [10, 100, 1_000, 10_000]
    parser.add_argument("--resources", type=int, nargs="*", default=sizes, help="sizes of compared stacks")
    parser.add_argument("--steps", type=int, nargs="*", default=sizes, help="sizes of reviewed previews")


def measure(options: argparse.Namespace) -> None:
    """Measure all of it."""
    confine = confinement.problem() is None
    stacks(options.plans, confine=confine)
    commands(options.plans, options.against)
    pools.measure(options.pools, options.plans, confine=confine)
    stages.measure(options.resources, options.steps)


def stacks(times: int, *, confine: bool) -> None:
    """Planning each stack against importing the same provider packages, in turn; the medians."""
    print(f"planning a stack{', confined' if confine else ''}, and the bare import of its provider packages")
    for stack in all_stacks():
        used = json.dumps(classes(record(stack)))

        def imported(used: str = used) -> None:
            subprocess.run([sys.executable, "-c", _IMPORT, used], check=True)

        def planned(stack: str = stack) -> None:
            record(stack, confine=confine)

        plans: list[float] = []
        imports: list[float] = []
        for _ in range(times):
            for measured, run in ((imports, imported), (plans, planned)):
                start = cpu()
                run()
                measured.append(cpu() - start)
        plan, bare = statistics.median(plans), statistics.median(imports)
        goal = "   (goal: at most 1.50)" if stack == "prod" else ""
        print(f"  {stack:<10} {plan:6.2f} s  {bare:6.2f} s  ratio {plan / bare:5.2f}{goal}", flush=True)


def commands(times: int, against: Path | None) -> None:
    """`mlops plan --stack prod`, alone, with --base, and with the tests of a setting, in turn."""
    plan = ["-c", "from mlops.cli.main import main; main()", "plan", "--stack", "prod"]
    based = [*plan, "--base", "HEAD"]
    tests = ["-m", "pytest", "-q", "tests/infra/test_settings.py", "tests/plan/test_program.py", "-k", "prod or schema"]
    kept = tempfile.mkdtemp(prefix="mlops-bench-")
    # What is asked for, where, with which cache, and the goal beside the first.
    ways: dict[str, tuple[list[list[str]], Path, str, str]] = {
        "plan": ([plan], ROOT, "", ""),
        "plan --base, never planned": ([based], ROOT, "", "1.40 of seconds"),
        "plan --base, planned before": ([based], ROOT, kept, "1.40"),
        "a setting: plan --base, tests": ([based, tests], ROOT, kept, ""),
    }
    if against:
        ways["plan, of the other checkout"] = ([plan], against, "", "0.60, of this by that")
    figures: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    run = functools.partial(subprocess.run, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    run([sys.executable, *based], cwd=ROOT, env=os.environ | {"MLOPS_CACHE": kept})
    for turn in range(times):
        for way in list(ways)[:: 1 if turn % 2 else -1]:
            asked, folder, cache, _ = ways[way]
            start, started = cpu(), time.monotonic()
            for arguments in asked:
                python = str(folder / ".venv" / "bin" / "python")
                run([python, *arguments], cwd=folder, env=os.environ | {"MLOPS_CACHE": cache})
            figures[way].append((cpu() - start, time.monotonic() - started))
    shutil.rmtree(kept)
    print("mlops plan --stack prod: CPU seconds and seconds, median and least, and against the plan alone")
    first = [statistics.median(each) for each in zip(*figures["plan"], strict=True)]
    for way, measured in figures.items():
        columns = list(zip(*measured, strict=True))
        seconds = "  ".join(f"{statistics.median(each):6.2f} {min(each):6.2f}" for each in columns)
        ratios = " ".join(f"{statistics.median(each) / one:5.2f}" for each, one in zip(columns, first, strict=True))
        goal = f"   (goal: at most {ways[way][3]})" if ways[way][3] else ""
        print(f"  {way:<30} {seconds}  ratios {ratios}{goal}", flush=True)


def classes(inventory: Inventory) -> list[tuple[str, str]]:
    """Every class that a stack's resources are of: its module and its name."""
    found = set()
    for resource in inventory.resources:
        package, path, kind = resource.type.split(":")
        module, _, version = path.partition("/")
        if not resource.custom or package == "pulumi":
            continue
        if package != "kubernetes":
            found.add((f"pulumi_{package}" + ("" if module == "index" else f".{module}"), kind))
            continue
        # rbac.authorization.k8s.io/v1 is in pulumi_kubernetes.rbac.v1; what is nobody's there is a custom resource.
        home = f"pulumi_kubernetes.{module.partition('.')[0]}.{version}"
        found.add((home, kind) if _exists(home) else ("pulumi_kubernetes.apiextensions", "CustomResource"))
    return sorted(found)


def _exists(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
