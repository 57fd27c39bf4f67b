"""How two values differ: property by property, and texts as readable diffs.

Owns the comparison of whatever a resource is given. It knows no resource type, beside which objects people write and
read as YAML: there a changed line says more than a path.
"""

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field

from mlops.plan.values import at

_FEW = 2


class Property(BaseModel):
    """One property that changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="Where it is, such as disks[0].diskSizeGb; of an option of Pulumi's, (protect).")
    old: Any = Field(default=None, description="Its value before; None if there was none.")
    new: Any = Field(default=None, description="Its value after; None if there is none.")
    text: list[str] = Field(default=[], description="Of a long text instead: its unified diff, line by line.")
    told: bool = Field(default=False, description="Whether headlines say all of it: a machine type, or images.")


def properties(old: Any, new: Any, path: str = "") -> Iterator[Property]:
    """Every property in which two values differ."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if _is_definition(path, old, new, key):
                text = _unified(_yaml(old.get(key)), _yaml(new.get(key)))
                if text:
                    yield Property(path=key, text=text)
            else:
                yield from properties(old.get(key), new.get(key), _join(path, key))
        return
    if isinstance(old, list) and isinstance(new, list) and _all_maps(old) and _all_maps(new):
        before, after = _keyed(old), _keyed(new)
        for key in [*before, *(key for key in after if key not in before)]:
            yield from properties(before.get(key), after.get(key), f"{path}[{key}]")
        return
    if isinstance(old, list) and isinstance(new, list) and _all_texts(old) and _all_texts(new) and len(old) > 1:
        yield Property(path=path, text=_unified("\n".join(old), "\n".join(new)))
        return
    if isinstance(old, str) and isinstance(new, str):
        inner = _embedded(old), _embedded(new)
        if None not in inner and (found := list(properties(*inner, path))):
            yield from found
            return
        if "\n" in old.strip() or "\n" in new.strip():
            yield Property(path=path, text=_unified(old, new))
            return
    yield Property(path=path, old=old, new=new)


def _is_definition(path: str, old: dict[str, Any], new: dict[str, Any], key: str) -> bool:
    """Whether a value is what people write and read as YAML: the spec of a workflow, a schedule, a SparkApplication."""
    return (
        path == ""
        and key == "spec"
        and all(
            str(side.get("apiVersion", "")).startswith(("argoproj.io/", "sparkoperator.k8s.io/")) for side in (old, new)
        )
    )


def _join(path: str, key: str) -> str:
    key = key if re.fullmatch(r"[\w-]+", key) else json.dumps(key)
    if key.startswith('"'):
        return f"{path}[{key}]"
    return f"{path}.{key}" if path else key


def _all_maps(items: list[Any]) -> bool:
    return all(isinstance(item, dict) for item in items)


def _all_texts(items: list[Any]) -> bool:
    return all(isinstance(item, str) for item in items)


def _keyed(items: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The maps of a list by their names, if each has one of its own; otherwise by their places."""
    names = [at(item, "name") for item in items]
    if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
        return dict(zip(names, items, strict=True))
    return {str(place): item for place, item in enumerate(items)}


def _embedded(text: str) -> Any:
    """What a text is that holds JSON; None for any other."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


class _Dumper(yaml.CSafeDumper):
    """YAML as people write it: a text of several lines is a block, not one line with escapes."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  YAML's
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _named_first(value: Any) -> Any:
    """Maps as people write them, as far as that can be known: an inventory has their keys in alphabetical order."""
    if isinstance(value, dict):
        return {key: _named_first(value[key]) for key in sorted(value, key=lambda key: (key != "name", key))}
    return [_named_first(inner) for inner in value] if isinstance(value, list) else value


def _yaml(value: Any) -> str:
    return yaml.dump(_named_first(value), Dumper=_Dumper, sort_keys=False, width=10_000) if value is not None else ""


def _unified(old: str, new: str) -> list[str]:
    before, after = old.splitlines(), new.splitlines()
    lines = list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]
    changed = [line for line in lines if line[:1] in ("-", "+")]
    # A few lines say enough without those around them.
    return changed if len(changed) <= _FEW else lines
