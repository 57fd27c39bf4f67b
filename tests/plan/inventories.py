"""Inventories as files: `tests/inventories/<stack>.yaml` says what a stack registers, and is reviewed like code.

`python -m tests.plan.inventories [STACK ...]` writes them. Staging and dev are written as what differs from prod, so
that a reviewer reads no more: prod's file with the stack's name in place of prod's, and on top of it what the stack's
own file names, as a JSON merge patch; null stands for what must not be there.

The count of every resource type is exact; of a resource's fields and of a map only what the file names is compared, of
a list all of it; `*` in a text stands for any. What a preview cannot know has a reference to another resource in it, or
a `*`.
"""

import fnmatch
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from infra.settings import ROOT, stacks
from inventory.recorder import record
from inventory.resources import SECRET, UNKNOWN, Inventory, Resource
from inventory.values import with_references

FOLDER = ROOT / "tests" / "inventories"
# What a job, a template or a program says is its file's, which tests compare.
_LEFT_OUT = {
    "gcp:storage/bucketObject:BucketObject": "source",
    "kubernetes:argoproj.io/v1alpha1:CronWorkflow": "spec",
    "kubernetes:argoproj.io/v1alpha1:WorkflowTemplate": "spec",
    "nomad:index/job:Job": "jobspec",
}
# Made-up outputs say nothing; references among the inputs say what comes from where.
_EXCLUDED = {"type", "name", "urn", "custom", "outputs", "dependencies", "property_dependencies"}
_LONG = 200
"""Characters of a text that are shown."""


_PATTERN = "prod"
_LIKE_IT = ("staging", "dev")


def path(stack: str) -> Path:
    """The inventory file of a stack."""
    return FOLDER / f"{stack}.yaml"


def expected(stack: str) -> dict[str, Any]:
    """What a stack's file says, with what it leaves to prod's."""
    own = yaml.load(path(stack).read_text(encoding="utf-8"), yaml.CSafeLoader)
    return _merged(_of_prod(stack), own) if stack in _LIKE_IT else own


def _of_prod(stack: str) -> dict[str, Any]:
    """What another stack would be, were it just as prod is."""
    text = path(_PATTERN).read_text(encoding="utf-8")
    return yaml.load(re.sub(rf"\b{_PATTERN}\b", stack, text), yaml.CSafeLoader)


def _merged(base: Any, patch: Any) -> Any:
    """A patched value; null stays, since what must not be there is compared too."""
    if isinstance(base, dict) and isinstance(patch, dict):
        return base | {key: _merged(base.get(key), value) for key, value in patch.items()}
    return patch


def _patch(base: Any, value: Any) -> Any:
    """What makes one value of another."""
    if isinstance(base, dict) and isinstance(value, dict):
        gone = dict.fromkeys(base.keys() - value.keys())
        return dict(sorted(gone.items())) | {
            key: _patch(base.get(key), inner) for key, inner in value.items() if base.get(key) != inner
        }
    return value


def describe(inventory: Inventory) -> dict[str, Any]:
    """An inventory as its file has it."""
    inventory = with_references(inventory)
    return {
        "counts": dict(sorted(Counter(resource.type for resource in inventory.resources).items())),
        "resources": {_key(resource): _described(resource) for resource in sorted(inventory.resources, key=_key)},
        "outputs": inventory.outputs,
    }


def differences(expected: dict[str, Any], inventory: Inventory) -> list[str]:
    """In what an inventory is not what its file says, a line each."""
    actual = describe(inventory)
    counts = dict.fromkeys(actual["counts"], 0) | expected["counts"]
    found = [
        f"counts.{kind}: {actual['counts'].get(kind, 0)}, expected {number or 0}"
        for kind, number in counts.items()
        if actual["counts"].get(kind, 0) != (number or 0)
    ]
    return (
        found
        + missing(expected["resources"], actual["resources"], "resources")
        + missing(expected["outputs"], actual["outputs"], "outputs")
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
    fields = resource.model_dump(exclude_defaults=True, exclude=_EXCLUDED)
    fields["inputs"] = {name: value for name, value in resource.inputs.items() if name != _LEFT_OUT.get(resource.type)}
    for name in ("parent", "provider", "deleted_with"):
        if name in fields:
            fields[name] = _short(fields[name])
    return fields


def _short(urn: str) -> str:
    """A URN without what it shares with all others: its last type and its name."""
    return "::".join(urn.rpartition("$")[2].split("::")[-2:])


def missing(expected: Any, actual: Any, where: str) -> list[str]:
    """In what a part of an inventory is not what its file says."""
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [line for index, (one, other) in pairs for line in missing(one, other, f"{where}.{index}")]
    if actual == UNKNOWN and _REFERENCE.search(str(expected)):
        return []
    if isinstance(expected, dict) and isinstance(actual, dict):
        return [line for key, value in expected.items() for line in missing(value, actual.get(key), f"{where}.{key}")]
    if isinstance(expected, str) and isinstance(actual, str) and "*" in expected:
        # Only `*` is special: names of types have brackets of their own.
        return [] if fnmatch.fnmatchcase(actual, expected.replace("[", "[[]")) else [_line(where, actual, expected)]
    return [] if expected == actual else [_line(where, actual, expected)]


_REFERENCE = re.compile(r"\$\{[\w.-]+\}|\*")
"""By which a text of a file says that a preview may not know it."""


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


def _shown(value: Any) -> Any:
    """What a reviewer is to see: an image's hash changes with every byte of it, which its own tests are about."""
    if isinstance(value, dict):
        return {key: _shown(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    if not isinstance(value, str):
        return value
    text = re.sub(r"(?<![0-9a-f])[0-9a-f]{20}(?![0-9a-f])", "*", value)
    first = text.splitlines()[0] if text else ""
    return f"{first[:_LONG]}*" if len(first) < len(text) or len(text) > _LONG else text


def _marked(value: Any, preview: Any) -> Any:
    """What a reviewer is to see, with a mark at what a preview does not know though it names no other resource."""
    if isinstance(value, dict) and isinstance(preview, dict):
        return {key: _marked(inner, preview.get(key)) for key, inner in value.items()}
    if isinstance(value, list) and isinstance(preview, list) and len(value) == len(preview):
        return [_marked(inner, other) for inner, other in zip(value, preview, strict=True)]
    unmarked = isinstance(value, str) and preview == UNKNOWN and not _REFERENCE.search(value)
    return f"{value}*" if unmarked else value


def main(*names: str) -> None:
    """Write the inventory files of stacks, or of all."""
    FOLDER.mkdir(exist_ok=True)
    # Prod first, which others are compared with.
    for stack in sorted(names or stacks(), key=_LIKE_IT.__contains__):
        described = _marked(_shown(describe(record(stack))), describe(record(stack, preview=True)))
        about = "registers"
        if stack in _LIKE_IT:
            described = _patch(_of_prod(stack), described)
            about = f"registers that {_PATTERN} does not, names aside"
        header = f"# What stack {stack} {about}. Written by: python -m tests.plan.inventories {stack}\n"
        path(stack).write_text(header + yaml.safe_dump(described, sort_keys=False, width=120), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
