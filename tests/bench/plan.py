"""What planning costs: each stack against the bare import of what it uses, and how comparing and rendering grow.

In CPU seconds, children's included: what else a machine does at the time is no part of them.
"""

import argparse
import importlib.util
import io
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from infra.settings import stacks as all_stacks
from mlops.plan import Inventory, Resource, confinement, record, render
from mlops.plan.capacity import capacity
from mlops.plan.diff import difference
from mlops.plan.exposure import exposure
from mlops.plan.permissions import permissions
from mlops.plan.report import Comparison, Plan, entries
from tests.plan.google import recorded

# The packages load a module only when a class of it is asked for.
_IMPORT = """
import importlib, json, sys
import pulumi
for module, kind in json.loads(sys.argv[1]):
    getattr(importlib.import_module(module), kind)
"""


def options(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--resources", type=int, nargs="*", default=[10, 100, 1_000], help="sizes of compared stacks")


def measure(options: argparse.Namespace) -> None:
    """Measure both."""
    stacks()
    sizes(options.resources)


def stacks() -> None:
    """Planning each stack against importing the same provider packages, in turn (A B B A)."""
    confine = confinement.problem() is None
    print(f"planning a stack{', confined' if confine else ''}, and the bare import of its provider packages")
    for stack in all_stacks():
        classes = json.dumps(_classes(record(stack)))

        def imported(classes: str = classes) -> None:
            subprocess.run([sys.executable, "-c", _IMPORT, classes], check=True)

        def planned(stack: str = stack) -> None:
            record(stack, confine=confine)

        bare, plan = [], []
        for measure, times in ((imported, bare), (planned, plan), (planned, plan), (imported, bare)):
            times.append(_seconds(measure))
        goal = "   (goal: at most 1.50)" if stack == "prod" else ""
        ratio = sum(plan) / sum(bare)
        print(f"  {stack:<10} {sum(plan) / 2:6.2f} s  {sum(bare) / 2:6.2f} s  ratio {ratio:5.2f}{goal}")


def sizes(counts: list[int]) -> None:
    """Capacity, permissions, exposure, difference and rendering as a stack grows; a tenth of it changes."""
    with tempfile.TemporaryDirectory() as folder:
        pattern = recorded(Path(folder))
    print("comparing and rendering a stack of which a tenth changes")
    for count in counts:
        before, after = _grown(pattern, count), _grown(pattern, count, change_every=10)
        seconds = _seconds(lambda before=before, after=after: _report(before, after))
        print(f"  {count:>6} resources {seconds:8.3f} s  {seconds / count * 1e3:8.3f} ms a resource")


def _seconds(measure: Callable[[], object]) -> float:
    start = os.times()
    measure()
    return sum(os.times()[:4]) - sum(start[:4])


def _classes(inventory: Inventory) -> list[tuple[str, str]]:
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


def _grown(pattern: Inventory, count: int, change_every: int = 0) -> Inventory:
    """A recorded stack, over and over until it has so many resources; of some a property is another one."""
    resources: list[Resource] = []
    while len(resources) < count:
        again = f"-{len(resources)}"
        for resource in pattern.resources[: count - len(resources)]:
            # A copy refers to what is copied with it.
            copied = {
                "urn": resource.urn + again,
                "name": resource.name + again,
                "inputs": dict(resource.inputs),
                "property_dependencies": {
                    key: [urn + again for urn in urns] for key, urns in resource.property_dependencies.items()
                },
            }
            if change_every and len(resources) % change_every == 0:
                copied["inputs"] |= {"description": "changed", "machineType": "n1-standard-64"}
            resources.append(resource.model_copy(update=copied))
    return pattern.model_copy(update={"resources": resources})


def _report(before: Inventory, after: Inventory) -> None:
    plan = Plan(
        stack=after.stack,
        unconfined=None,
        resources=entries(after),
        capacity=capacity(after),
        permissions=permissions(after),
        exposure=exposure(after),
        comparison=None,
    )
    found = Comparison(base="main", commit="0" * 40, new_stack=False, difference=difference(before, after))
    for one in (plan, plan.model_copy(update={"comparison": found})):
        render.markdown(one)
        Console(file=io.StringIO(), width=10_000).print(render.terminal(one))
        one.model_dump_json()
