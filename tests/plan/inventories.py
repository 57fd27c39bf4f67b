"""Inventories as files: `tests/inventories/<stack>.yaml` says what a stack registers, and is reviewed like code.

`python -m tests.plan.inventories STACK` writes a stack's. The count of every resource type is exact; of a resource's
fields and of a map only what the file names is compared, a list whole; `*` in a text stands for any.
"""

import fnmatch
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from infra.settings import ROOT
from mlops.plan import SECRET, UNKNOWN, Inventory, Resource, record

FOLDER = ROOT / "tests" / "inventories"
# What a job or a template says is its file's, which tests compare; made-up outputs say nothing.
_LEFT_OUT = ("jobspec", "spec")


def path(stack: str) -> Path:
    """The inventory file of a stack."""
    return FOLDER / f"{stack}.yaml"


def describe(inventory: Inventory) -> dict[str, Any]:
    """An inventory as its file has it."""
    return {
        "counts": dict(sorted(Counter(resource.type for resource in inventory.resources).items())),
        "resources": {_key(resource): _described(resource) for resource in inventory.resources},
        "outputs": inventory.outputs,
    }


def differences(expected: dict[str, Any], inventory: Inventory) -> list[str]:
    """In what an inventory is not what its file says, a line each."""
    actual = describe(inventory)
    counts = dict.fromkeys(actual["counts"], 0) | expected["counts"]
    found = [
        f"counts.{kind}: {actual['counts'].get(kind, 0)}, expected {number}"
        for kind, number in counts.items()
        if actual["counts"].get(kind, 0) != number
    ]
    return (
        found
        + _missing(expected["resources"], actual["resources"], "resources")
        + _missing(expected["outputs"], actual["outputs"], "outputs")
    )


def dishonesties(preview: Inventory, update: Inventory) -> list[str]:
    """In what a preview did not say what the update then did, or said what it could not know, a line each."""
    previewed = {resource.urn: resource for resource in preview.resources}
    updated = {resource.urn: resource for resource in update.resources}
    found = [f"{urn} is in the update only" for urn in sorted(updated.keys() - previewed.keys())]
    found += [f"{urn} is in the preview only" for urn in sorted(previewed.keys() - updated.keys())]
    for urn in sorted(previewed.keys() & updated.keys()):
        before, after = previewed[urn], updated[urn]
        if before.custom:
            computed = {name: value for name, value in before.outputs.items() if name not in before.inputs}
            found += [
                f"{urn}: output {name} is known in the preview: {value!r}"
                for name, value in computed.items()
                if value not in (UNKNOWN, SECRET)
            ]
        found += [f"{urn}: {line}" for line in _contradictions(before.inputs, after.inputs, "inputs")]
    return found


def _key(resource: Resource) -> str:
    return f"{resource.type}::{resource.name}"


def _described(resource: Resource) -> dict[str, Any]:
    fields = resource.model_dump(exclude_defaults=True, exclude={"type", "name", "urn", "custom", "outputs"})
    fields["inputs"] = {name: value for name, value in resource.inputs.items() if name not in _LEFT_OUT}
    for name in ("parent", "provider", "deleted_with"):
        if name in fields:
            fields[name] = _short(fields[name])
    for name in ("dependencies",):
        if name in fields:
            fields[name] = [_short(urn) for urn in fields[name]]
    return fields


def _short(urn: str) -> str:
    """A URN without what it shares with all others: its last type and its name."""
    return "::".join(urn.rpartition("$")[2].split("::")[-2:])


def _missing(expected: Any, actual: Any, where: str) -> list[str]:
    if isinstance(expected, dict) and isinstance(actual, dict):
        return [line for key, value in expected.items() for line in _missing(value, actual.get(key), f"{where}.{key}")]
    if isinstance(expected, str) and isinstance(actual, str) and "*" in expected:
        # Only `*` is special: names of types have brackets of their own.
        return [] if fnmatch.fnmatchcase(actual, expected.replace("[", "[[]")) else [_line(where, actual, expected)]
    return [] if expected == actual else [_line(where, actual, expected)]


def _line(where: str, actual: Any, expected: Any) -> str:
    return f"{where}: {actual!r}, expected {expected!r}"


def _contradictions(before: Any, after: Any, where: str) -> list[str]:
    if before == UNKNOWN:
        return []
    if isinstance(before, dict) and isinstance(after, dict) and before.keys() == after.keys():
        return [line for key in before for line in _contradictions(before[key], after[key], f"{where}.{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [line for index, (old, new) in pairs for line in _contradictions(old, new, f"{where}.{index}")]
    return [] if before == after else [f"{where} is {before!r} in the preview and {after!r} in the update"]


def _without_hashes(value: Any) -> Any:
    """An image's hash changes with every byte of it, which its own tests are about."""
    if isinstance(value, dict):
        return {
            key: f"{inner.rpartition(':')[0]}:*" if key.startswith("image_") else _without_hashes(inner)
            for key, inner in value.items()
        }
    return value


def main(stack: str) -> None:
    """Write a stack's inventory file."""
    described = _without_hashes(describe(record(stack)))
    header = f"# What stack {stack} registers. Written by: python -m tests.plan.inventories {stack}\n"
    text = header + yaml.safe_dump(described, sort_keys=False, width=120)
    FOLDER.mkdir(exist_ok=True)
    path(stack).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
