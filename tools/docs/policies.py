"""The generated references of policies: the catalogue of all rules, and the JSON Schema of `policy/stacks/*.yaml`."""

import importlib
import json
import pkgutil
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from infra.settings import stacks
from policy import rules
from policy.rule import Level, Rule
from policy.rules import ALL
from policy.settings import Parameters, PolicySettings, load

_HEADER = """\
<!-- Written by: python -m tools.docs -->
# Policies

What a stack may not be: {number} rules, each with its reason and its fix. `mlops plan`, the tests and `pulumi preview
--policy-pack policy` apply the same ones ([how a change is reviewed](../how-to/review-a-change.md)).

| level | what follows when a rule is broken |
| --- | --- |
| mandatory | `mlops plan` ends with exit code 1; with the policy pack, what breaks it is not registered |
| advisory | it is said |
| disabled | nothing: the rule is not applied |

A value that is known only when the resource is there, or is secret, decides nothing: the rule is then neither kept nor
broken, and that is said too. What each stack sets stands in `policy/stacks/<stack>.yaml`, which an editor completes and
checks by [policy.schema.json](policy.schema.json): other levels, parameters, and exemptions
([how to exempt](../how-to/exempt-a-resource.md), [how to add a rule](../how-to/add-a-policy-rule.md)).
"""


def schema() -> str:
    """The JSON Schema of a stack's policy settings, as text."""
    found = PolicySettings.model_json_schema()
    names = {"enum": sorted(rule.id for rule in ALL)}
    levels = found["properties"]["levels"]
    kinds = next(iter(levels.pop("patternProperties", {}).values()), levels.get("additionalProperties"))
    levels |= {"propertyNames": names, "additionalProperties": kinds}
    found["$defs"]["Exemption"]["properties"]["rule"] |= names
    about = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Policy settings of a stack"}
    return json.dumps({**found, **about}, indent=2) + "\n"


def catalogue() -> str:
    """The page with all rules, as Markdown."""
    parts = [_HEADER.format(number=len(ALL)), *_parameters(), *_levels(), *_exemptions()]
    for module in _subjects():
        title, _, rest = (module.__doc__ or "").strip().partition("\n")
        parts.append(f"\n## {_plain(title).removesuffix('.')}\n")
        if rest.strip():
            parts.append(f"\n{_plain(rest)}\n")
        parts += [_rule(rule) for rule in module.RULES]
    return "".join(parts)


def _subjects() -> Iterator[ModuleType]:
    for found in sorted(pkgutil.iter_modules(rules.__path__), key=lambda one: one.name):
        module = importlib.import_module(f"{rules.__name__}.{found.name}")
        if getattr(module, "RULES", None):
            yield module


def _rule(rule: Rule) -> str:
    seen = ", ".join("every resource" if kind == "*" else f"`{kind}`" for kind in rule.types) or "the stack as a whole"
    if rule.across:
        seen += "; together with the rest of the stack"
    lines = [
        f"**{rule.level}.** {_plain(rule.holds)}",
        _plain(rule.why),
        f"*Fix:* {_plain(rule.fix)}",
        f"*Looks at:* {seen}",
    ]
    return f"\n### {rule.id}\n\n" + "  \n".join(lines) + "\n"


def _parameters() -> Iterator[str]:
    yield "\n## Parameters\n\nWhat rules compare with; below `parameters`.\n\n"
    names = stacks()
    used = {name: load(name).parameters for name in names}
    rows = []
    for key, field in Parameters.model_fields.items():
        values = [_value(getattr(used[name], key), field.get_default(call_default_factory=True)) for name in names]
        default = f"`{json.dumps(field.get_default(call_default_factory=True))}`"
        rows.append([f"`{key}`", default, *values, _plain(field.description or "")])
    yield _table(["parameter", "default", *names, ""], rows)


def _levels() -> Iterator[str]:
    own = {rule.id: rule.level for rule in ALL}
    rows = [
        [name, f"`{rule}`", own.get(rule, Level.DISABLED), level]
        for name in stacks()
        for rule, level in sorted(load(name).levels.items())
    ]
    yield "\n## Levels other than a rule's own\n\n"
    yield _table(["stack", "rule", "its own", "in this stack"], rows) if rows else "There are none.\n"


def _exemptions() -> Iterator[str]:
    rows = [
        [name, f"`{one.rule}`", f"`{one.resource}`", str(one.until), _plain(one.reason)]
        for name in stacks()
        for one in load(name).exemptions
    ]
    yield "\n## Exemptions\n\n"
    yield _table(["stack", "rule", "resource", "until", "why"], rows) if rows else "There are none.\n"


def _value(value: Any, default: Any) -> str:
    return "" if value == default else f"`{json.dumps(value)}`"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _plain(text: str) -> str:
    """Text on one line; outside of code, what stands in angle brackets would be taken for HTML."""
    parts = " ".join(text.split()).split("`")
    return "`".join(part if index % 2 else part.replace("<", "&lt;") for index, part in enumerate(parts))
