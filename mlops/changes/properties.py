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

from infra.credentials import masked
from inventory.resources import SECRET
from mlops.changes.secrets import bare, by_name, sent, sides, told, told_apart

_FEW = 2


class Property(BaseModel):
    """One property that changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(description="Where it is, such as disks[0].diskSizeGb; of an option of Pulumi's, (protect).")
    old: Any = Field(default=None, description="Its value before; None if there was none.")
    new: Any = Field(default=None, description="Its value after; None if there is none.")
    text: list[str] = Field(default=[], description="Of a long text instead: its unified diff, line by line.")
    told: bool = Field(default=False, description="Whether headlines say all of it: a machine type, or images.")


def properties(old: Any, new: Any) -> Iterator[Property]:
    """Every property in which two values differ, without secrets and credentials."""
    return _properties(told(old), told(new), "")


def _properties(old: Any, new: Any, path: str) -> Iterator[Property]:
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            if _is_definition(path, old, new, key):
                before, after = (bare(side) for side in sides(old.get(key), new.get(key)))
                if text := _unified(_yaml(before), _yaml(after)):
                    yield Property(path=key, text=text)
                elif old.get(key) != new.get(key):
                    # Nothing else of it changes.
                    yield Property(path=key, old=SECRET, new=SECRET)
            else:
                yield from _properties(old.get(key), new.get(key), _join(path, key))
        return
    if isinstance(old, list) and isinstance(new, list) and not told_apart(old, new):
        yield _property(path, old, new)
        return
    if isinstance(old, list) and isinstance(new, list) and _all_maps(old) and _all_maps(new):
        before, after = _keyed(old), _keyed(new)
        safe = sides(old, new)
        gone, come = dict(zip(before, safe[0], strict=True)), dict(zip(after, safe[1], strict=True))
        for key in [*before, *(key for key in after if key not in before)]:
            both = key in before and key in after
            pair = (before[key], after[key]) if both else (gone.get(key), come.get(key))
            yield from _properties(*pair, f"{path}[{key}]")
        return
    if isinstance(old, list) and isinstance(new, list) and _all_texts(old) and _all_texts(new) and len(old) > 1:
        text = _unified(*("\n".join(bare(side)) for side in (old, new)))
        yield Property(path=path, text=text) if text else Property(path=path, old=SECRET, new=SECRET)
        return
    if isinstance(old, str) and isinstance(new, str) and SECRET not in (bare(old), bare(new)):
        inner = _embedded(sent(old)), _embedded(sent(new))
        if None not in inner and (found := list(_properties(told(inner[0]), told(inner[1]), path))):
            yield from found
            return
        if "\n" in old.strip() or "\n" in new.strip():
            yield Property(path=path, text=_unified(sent(old), sent(new)))
            return
    yield _property(path, old, new)


def _property(path: str, old: Any, new: Any) -> Property:
    old, new = sides(old, new)
    return Property(path=path, old=bare(old), new=bare(new))


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
    return by_name(items) or {str(place): item for place, item in enumerate(items)}


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
    """The unified diff of two texts without their credentials. A line of which only a credential changes is in it."""
    before, after = _lines(old), _lines(new)
    lines = [line.partition("\0")[0] for line in list(difflib.unified_diff(before, after, lineterm="", n=2))[2:]]
    changed = [line for line in lines if line[:1] in ("-", "+")]
    # A few lines say enough without those around them.
    return changed if len(changed) <= _FEW else lines


def _lines(text: str) -> list[str]:
    """The lines of a text as they are shown; after a NUL comes what tells two apart that are shown as the same."""
    plain = text.removesuffix("\n").replace("\0", "\\0")
    raw, safe = ([line.rstrip("\r") for line in side.split("\n")] for side in (plain, masked(plain)))
    return [one if one == two else f"{two}\0{one}" for one, two in zip(raw, safe, strict=True)] if text else []
