"""How each stage of planning and reviewing grows: analyses, difference, rendering, and `mlops review`.

Of stack prod, over and over under other names until it has so many resources, of which a tenth changes; and of a
preview by the real engine, in the same way. Of fewer resources than prod has, many refer to none that is there, and a
resource costs less: from a thousand on the figures can be compared.
"""

import gc
import json
import math
import tempfile
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from infra.settings import ROOT
from inventory.capacity import capacity
from inventory.exposure import exposure
from inventory.permissions import permissions
from inventory.recorder import record
from inventory.resources import Inventory, Resource
from inventory.values import with_references
from mlops.changes import findings, markdown, render
from mlops.changes.diff import difference
from mlops.changes.preview import read_preview
from mlops.changes.report import Comparison, Plan, entries
from tests.bench.clock import repeated

_STACK = "prod"
_CHANGE_EVERY = 10
_PREVIEW = ROOT / "tests" / "review" / "previews" / "change.json"


def measure(resources: list[int], steps: list[int]) -> None:
    """Time every stage at each size, and print by what ten times the size multiplies it; linear is 10."""
    pattern = record(_STACK)
    # What else this process holds is no part of what is measured, and is not searched for garbage over and over.
    gc.freeze()
    print(f"stages of planning so many resources, of which every {_CHANGE_EVERY}th changes")
    _table(resources, {count: _stages(pattern, count) for count in resources})
    print("mlops review of a preview with so many steps")
    with tempfile.TemporaryDirectory() as folder:
        _table(steps, {count: _review(Path(folder), count) for count in steps})


def _stages(pattern: Inventory, count: int) -> dict[str, Callable[[], object]]:
    before, after = _grown(pattern, count), _grown(pattern, count, change=True)
    named = with_references(after)
    plan = Plan(
        stack=after.stack,
        unconfined=None,
        resources=entries(named),
        capacity=capacity(named),
        permissions=permissions(named),
        exposure=exposure(named),
        policies=None,
        comparison=None,
    )
    found = Comparison(
        base="main", commit="0" * 40, new_stack=False, difference=difference(before, after), policies=None
    )
    compared = plan.model_copy(update={"comparison": found})

    def analyses() -> None:
        again = with_references(after)
        for analysis in (capacity, permissions, exposure, entries):
            analysis(again)

    def rendering() -> None:
        render.markdown(plan)
        render.markdown(compared)

    return {
        "analyses": analyses,
        "difference": lambda: difference(before, after),
        "rendering": rendering,
    }


def _review(folder: Path, count: int) -> dict[str, Callable[[], object]]:
    preview = json.loads(_PREVIEW.read_text(encoding="utf-8"))
    file = folder / f"{count}.json"
    file.write_text(json.dumps({**preview, "steps": _repeated(preview["steps"], count)}), encoding="utf-8")
    read = read_preview(file)
    found = findings.review([read])
    return {
        "reading": lambda: read_preview(file),
        "judging": lambda: findings.review([read]),
        "rendering": lambda: markdown.render(found),
    }


def _repeated(steps: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Steps over and over, each time of resources with other names."""
    names = [step["urn"].rpartition("::")[2] for step in steps]
    texts = [json.dumps(step) for step in steps]
    found = []
    for number in range(count):
        name, text = names[number % len(names)], texts[number % len(names)]
        found.append(json.loads(text.replace(f"::{name}", f"::{name}-{number}")))
    return found


def _grown(pattern: Inventory, count: int, *, change: bool = False) -> Inventory:
    """A recorded stack, over and over until it has so many resources, or some of all its parts."""
    every = max(1, len(pattern.resources) // count)
    chosen = pattern.resources[::every]
    resources: list[Resource] = []
    while len(resources) < count:
        again = f"-{len(resources)}"
        for place, resource in enumerate(chosen[: count - len(resources)]):
            # A copy refers to what is copied with it.
            copied: dict[str, Any] = {
                "urn": resource.urn + again,
                "name": resource.name + again,
                "inputs": dict(resource.inputs),
                "parent": resource.parent and resource.parent + again,
                "dependencies": [urn + again for urn in resource.dependencies],
                "property_dependencies": {
                    key: [urn + again for urn in urns] for key, urns in resource.property_dependencies.items()
                },
            }
            # In every copy the same ones, which take as long as in any other.
            if change and place % _CHANGE_EVERY == 0:
                copied["inputs"] |= {"description": "changed", "machineType": "n1-standard-64"}
            resources.append(resource.model_copy(update=copied))
    return pattern.model_copy(update={"resources": resources})


def _table(counts: list[int], stages: Mapping[int, Mapping[str, Callable[[], object]]]) -> None:
    print(f"  {'':<12}" + "".join(f"{count:>13,}" for count in counts) + "   ten times as many")
    for stage in stages[counts[0]]:
        seconds = [repeated(stages[count][stage]) for count in counts]
        growth = [
            (later / earlier) ** (1 / math.log10(more / fewer))
            for (fewer, more), (earlier, later) in zip(pairwise(counts), pairwise(seconds), strict=True)
        ]
        row = "".join(f"{each * 1e3:>10.2f} ms" for each in seconds)
        print(f"  {stage:<12}{row}   " + ", ".join(f"x {each:.1f}" for each in growth), flush=True)
