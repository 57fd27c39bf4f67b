"""Reading what a program set: values that may be unknown, secret or absent at any depth.

Owns how such a value is reached, and by what name a value of another resource is shown. It knows no resource type.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from inventory.resources import SECRET, UNKNOWN, Inventory


def at(value: Any, *path: str) -> Any:
    """The value below a path of keys; None where there is none, UNKNOWN where something above it is not known."""
    for key in path:
        if value in (UNKNOWN, SECRET):
            return UNKNOWN
        value = value.get(key) if isinstance(value, Mapping) else None
    return UNKNOWN if value == SECRET else value


def every(value: Any, *path: str) -> list[Any]:
    """The items of the list below a path; UNKNOWN is one item, and what is no list is one too."""
    found = at(value, *path)
    if found is None:
        return []
    return found if isinstance(found, list) else [found]


def number(value: Any) -> float | None:
    """A number that is known, also where it was written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def with_references(inventory: Inventory) -> Inventory:
    """An inventory whose inputs name the outputs that they come from, `${nomad-client.email}`.

    What the recorder makes up for an output in update mode, `nomad-client-email`, could be read as a real value.
    """
    made_up: dict[str, dict[str, str]] = {}
    for resource in inventory.resources:
        if resource.custom and not resource.type.startswith("pulumi:providers:"):
            names = ["id", *(key for key in resource.outputs if key not in resource.inputs)]
            made_up[resource.urn] = {f"{resource.name}-{key}": f"${{{resource.name}.{key}}}" for key in names}

    @cache
    def pattern(urns: tuple[str, ...]) -> tuple[re.Pattern[str], dict[str, str]] | None:
        known = {text: name for urn in urns for text, name in made_up.get(urn, {}).items()}
        # The longest first: one resource's name may be another's ending.
        longest = sorted(known, key=len, reverse=True)
        return (re.compile("|".join(map(re.escape, longest))), known) if known else None

    def named(value: Any, found: tuple[re.Pattern[str], dict[str, str]]) -> Any:
        if isinstance(value, str):
            return found[0].sub(lambda match: found[1][match[0]], value)
        if isinstance(value, dict):
            return {key: named(inner, found) for key, inner in value.items()}
        return [named(inner, found) for inner in value] if isinstance(value, list) else value

    resources = []
    for resource in inventory.resources:
        inputs = dict(resource.inputs)
        for key, urns in resource.property_dependencies.items():
            if key in inputs and (found := pattern(tuple(urns))):
                inputs[key] = named(inputs[key], found)
        resources.append(resource.model_copy(update={"inputs": inputs}))
    return inventory.model_copy(update={"resources": resources})
