"""The program of every stack against its inventory, and whether its previews are honest."""

import ast
import copy
import functools
import operator
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.settings import ROOT, load, stacks
from inventory.recorder import record
from tests.plan import inventories
from tests.stack_inventories import inventory

STACKS = stacks()


@pytest.mark.parametrize("preview", [False, True], ids=["update", "preview"])
@pytest.mark.parametrize("stack", STACKS)
def test_a_stack_registers_its_inventory(stack: str, preview: bool) -> None:
    found = inventories.differences(inventories.expected(stack), inventory(stack, preview=preview))
    assert not found, "\n".join([*found, f"If this is meant: python -m tests.plan.inventories {stack}, and review it."])


@pytest.mark.parametrize("stack", STACKS)
def test_a_change_of_any_property_is_a_difference(stack: str) -> None:
    expected = inventories.expected(stack)["resources"]
    unnoticed = []
    for key, registered in inventories.describe(inventory(stack))["resources"].items():
        for path in _paths(registered):
            changed = copy.deepcopy(registered)
            *outer, last = path
            within = functools.reduce(operator.getitem, outer, changed)
            within[last] = f"another {within[last]}"
            # The hash of an image changes with every byte of it, and is `*`.
            if (
                not inventories.missing(expected[key], changed, key)
                and functools.reduce(operator.getitem, path, expected[key]) != "*"
            ):
                unnoticed.append((key, path))
    assert unnoticed == []


def _paths(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Where a value has one that is no map and no list."""
    if not isinstance(value, dict | list):
        yield above
        return
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _paths(inner, *above, key)


def test_what_prod_has_and_dev_must_not_is_a_difference() -> None:
    dev = inventory("dev")
    protected = [each.model_copy(update={"protect": True}) for each in dev.resources]
    found = inventories.differences(inventories.expected("dev"), dev.model_copy(update={"resources": protected}))
    key = "resources.gcp:kms/keyRing:KeyRing::foundation-keys-europe-west1.protect"
    assert f"{key}: True, expected None" in found


@pytest.mark.parametrize("stack", STACKS)
def test_a_preview_says_what_the_update_does(stack: str) -> None:
    assert inventories.dishonesties(inventory(stack, preview=True), inventory(stack)) == []


@pytest.mark.parametrize("stack", STACKS)
def test_jobs_are_registered_as_they_are_written(stack: str) -> None:
    registered = [job.inputs["jobspec"] for job in inventory(stack, preview=True).of_type("nomad:index/job:Job")]
    regions = len(load(stack).nomad.regions) or 1
    for path in ROOT.glob("jobs/*/job.nomad.hcl"):
        assert registered.count(path.read_text(encoding="utf-8")) == regions, path


def test_the_program_is_composition_only() -> None:
    """It makes what `infra` has, and decides at most whether: no function, class or comprehension of its own."""
    tree = ast.parse((ROOT / "__main__.py").read_text(encoding="utf-8"))
    imported = {
        each.module if isinstance(each, ast.ImportFrom) else each.names[0].name
        for each in ast.walk(tree)
        if isinstance(each, ast.Import | ast.ImportFrom)
    }
    assert {str(name).partition(".")[0] for name in imported} == {"infra", "pathlib", "pulumi"}
    kinds = {type(each) for each in ast.walk(tree)}
    assert kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.While, ast.Try, ast.ListComp, ast.DictComp} == set()


def test_a_resource_that_waits_for_an_output_is_found_dishonest(tree: Path) -> None:
    # Were computed outputs known in previews, the resource would be there too, and `dishonesties` would stay silent.
    program = tree / "__main__.py"
    program.write_text(
        program.read_text()
        + "\nimport pulumi_nomad\n"
        + "first = pulumi_nomad.Namespace('first', name='first', opts=pulumi.ResourceOptions(provider=nomad))\n"
        + "first.id.apply(lambda _: pulumi_nomad.Namespace('late', name='late',"
        + " opts=pulumi.ResourceOptions(provider=nomad)))\n"
    )
    preview, update = record("local", preview=True, root=tree), record("local", root=tree)
    assert [line for line in inventories.dishonesties(preview, update) if line.endswith("is in the update only")] == [
        "urn:pulumi:local::hybrid-mlops::nomad:index/namespace:Namespace::late is in the update only"
    ]


def test_an_output_that_is_known_too_early_is_found_dishonest(tree: Path) -> None:
    preview, update = record("local", preview=True, root=tree), record("local", root=tree)
    assert inventories.dishonesties(preview, update) == []
    job = preview.of_type("nomad:index/job:Job")[0]
    job.outputs["status"] = "running"
    assert inventories.dishonesties(preview, update) == [f"{job.urn}: output status is known in the preview: 'running'"]


def test_an_inventory_file_is_compared_by_what_it_names(tree: Path) -> None:
    inventory = record("local", root=tree)
    expected = copy.deepcopy(inventories.describe(inventory))
    assert inventories.differences(expected, inventory) == []
    job = expected["resources"]["nomad:index/job:Job::sales-close-prediction"]
    del job["inputs"]["hcl2"]["vars"]["restart_delay"]
    job["inputs"]["hcl2"]["vars"]["image_tensornode"] = "hybrid-mlops.local/tensornode:*"
    assert inventories.differences(expected, inventory) == []
    job["inputs"]["hcl2"]["vars"]["train_cpu"] = "3054"
    expected["counts"]["nomad:index/job:Job"] = 2
    del expected["counts"]["pulumi:providers:nomad"]
    assert inventories.differences(expected, inventory) == [
        "counts.nomad:index/job:Job: 1, expected 2",
        "counts.pulumi:providers:nomad: 1, expected 0",
        "resources.nomad:index/job:Job::sales-close-prediction.inputs.hcl2.vars.train_cpu: '1000', expected '3054'",
    ]
