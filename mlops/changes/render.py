"""How a plan looks: for a terminal, and as Markdown for a pull request.

Owns the words and their order. What a program says is hostile: it is shown without control characters, and in Markdown
as code only, so that it can neither command a terminal nor pass for a part of the report.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text
from rich.tree import Tree

from infra.credentials import without_address_credentials
from inventory.capacity import Capacity
from inventory.exposure import Exposure
from inventory.permissions import Grant
from mlops.changes.changes import Change
from mlops.changes.comment import LIMIT, code
from mlops.changes.diff import Difference
from mlops.changes.figures import amounts, kind, pairs, pool_change, span
from mlops.changes.headlines import short_type, some
from mlops.changes.properties import Property
from mlops.changes.report import Entry, Plan
from mlops_registry.text import printable
from policy.verdicts import Policies, PolicyChange, Verdict

_HEADLINES = 5
"""So many headlines of a kind are told; the sections below have all."""
_VERDICTS = 20
"""So many verdicts of rules are told in a section; JSON has all."""
_DIFF_LINES = 40
"""So many lines of a text's diff are shown; JSON has all."""
_LINE = 1_000
"""So many characters of each."""
_LEFT_OUT = 600
"""Bytes that are kept free for naming what does not fit: six sections at the most."""
_VALUE = 120
"""So many characters of a value."""

_STYLES = {"+": "green", "-": "red", "~": "yellow", ">": "cyan", "!": "bold red"}


@dataclass(frozen=True)
class Table:
    """Rows under headings; the columns named in `right` hold figures."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    right: Sequence[str] = ()


@dataclass(frozen=True)
class Item:
    """A line with a mark before it, and a text's diff below it."""

    mark: str
    text: str
    label: str = ""
    diff: Sequence[str] = ()
    more: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A heading and what is below it."""

    title: str
    blocks: Sequence[Table | Item]
    folded: bool = False
    branches: Sequence["Section"] = field(default=())


def sections(plan: Plan) -> list[Section]:
    """What a plan says, in order: the whole stack, or against another commit the difference alone."""
    change = plan.comparison.policies if plan.comparison else None
    found = [*_broken(plan.policies, change)] if plan.policies else []
    found += _difference(plan.comparison.difference) if plan.comparison else _stack(plan)
    if change:
        found += _policy_change(change)
    elif plan.policies:
        found.append(_policies(plan.policies))
    return found


def title(plan: Plan) -> str:
    """The first line."""
    if not plan.comparison:
        kept = sum(entry.protect for entry in plan.resources)
        return f"Stack {plan.stack}: {len(plan.resources)} resources, {kept} of them protected"
    comparison = plan.comparison
    against = f"Stack {plan.stack} against {comparison.base} ({comparison.commit[:7]})"
    new = "; the stack is new" if comparison.new_stack else ""
    changes = comparison.difference.changes
    counts = [
        f"{number} {action}"
        for action in ("added", "changed", "renamed", "removed")
        if (number := sum(change.action == action for change in changes))
    ]
    return f"{against}: {', '.join(counts) or 'no resource changes'}{new}"


def unconfined(plan: Plan) -> str:
    """That the program could have done more than register resources; empty where it could not."""
    reason = plan.unconfined
    return f"the program ran unconfined, with files and network in reach: {reason}" if reason else ""


def terminal(plan: Plan) -> RenderableType:
    """A plan for a terminal."""
    parts: list[RenderableType] = [Text(_plain(title(plan)), style="bold")]
    if plan.unconfined:
        parts.append(Text(_plain(unconfined(plan)), style="yellow"))
    for section in sections(plan):
        if section.title:
            parts.append(Text(section.title, style="bold"))
        if section.branches:
            parts += [_tree(branch) for branch in section.branches]
        for each in section.blocks:
            parts.append(_rich_table(each) if isinstance(each, Table) else _rich_item(each))
    return Group(*parts)


def markdown(plan: Plan, limit: int = LIMIT) -> str:
    """A plan as Markdown, never longer than so many bytes: a section that does not fit is named instead."""
    start = f"### {_code(title(plan))}\n"
    end = f"\n{_code(unconfined(plan))}\n" if plan.unconfined else ""
    parts = []
    room = limit - len((start + end).encode())
    for section in sections(plan):
        text = _markdown_section(section)
        if len(text.encode()) > room - _LEFT_OUT:
            text = f"\n**{section.title or 'What may hurt'}** is too long to be shown here: `mlops plan` prints it.\n"
        room -= len(text.encode())
        parts.append(text)
    return "".join([start, *parts, end])


def _markdown_section(section: Section) -> str:
    lines = [""]
    if section.folded:
        lines += ["<details>", f"<summary>{section.title}</summary>", ""]
    elif section.title:
        lines += [f"**{section.title}**", ""]
    for branch in section.branches:
        lines.append(f"- {_code(branch.title)}")
        for inner in branch.branches:
            lines.append(f"  - {_code(inner.title)}")
            lines += [f"    - {_code(each.text)}" for each in inner.blocks if isinstance(each, Item)]
    for each in section.blocks:
        lines += _markdown_table(each) if isinstance(each, Table) else _markdown_item(each)
    if section.folded:
        lines += ["", "</details>"]
    return "\n".join([*lines, ""])


# A whole stack


def _stack(plan: Plan) -> Iterator[Section]:
    layers = [
        Section(
            layer,
            [],
            branches=[
                Section(component or "without a component", [Item("", _entry(entry)) for entry in inner])
                for component, inner in groupby(entries, key=lambda entry: entry.component)
            ],
        )
        for layer, entries in groupby(plan.resources, key=lambda entry: entry.layer)
    ]
    yield Section("Resources", [], folded=True, branches=layers)
    if plan.capacity.pools:
        yield Section("Capacity", [_capacity(plan.capacity)])
    if plan.permissions:
        rows = [[grant.resource, grant.role, _grantee(grant)] for grant in plan.permissions]
        yield Section("Permissions", [Table(["resource", "role", "principal"], rows)], folded=True)
    if plan.exposure:
        rows = [[row.target, row.source, row.way, _public(row)] for row in plan.exposure]
        yield Section("Exposure", [Table(["what", "from", "how", "public"], rows)])


def _entry(entry: Entry) -> str:
    return f"{short_type(entry.type)} {entry.name}{' (protected)' if entry.protect else ''}"


def _grantee(grant: Grant) -> str:
    return f"{grant.principal} if {grant.condition}" if grant.condition else grant.principal


def _public(row: Exposure) -> str:
    return "not known" if row.public is None else "yes" if row.public else "no"


def _capacity(found: Capacity) -> Table:
    figures = ("machines", "vCPU", "memory GB", "disk GB")
    rows = [
        [pool.name, kind(pool), *(span(low, high) for low, high in pairs(pool.minimum, pool.maximum))]
        for pool in found.pools
    ]
    total = [span(low, high) for low, high in pairs(found.minimum, found.maximum)]
    note = f"all but what is not known of {some(found.unknown)}" if found.unknown else ""
    return Table(["pool", "kind", *figures], [*rows, ["all", note, *total]], right=figures)


# Policies


def _broken(found: Policies, change: PolicyChange | None) -> Iterator[Section]:
    """What is said before all else: with it nothing is deployed, whoever brought it."""
    if found.broken:
        old = "" if change is None else " (as before)"
        new = found.broken if change is None else change.new
        items = [
            Item("!", _place(one) + ("" if one in new else old), label=one.rule, more=[one.fix])
            for one in sorted(found.broken, key=lambda one: one not in new)
        ]
        yield Section(f"Policies: {_rules(found.broken)} broken, so nothing of this may be deployed", _some(items))


def _policies(found: Policies) -> Section:
    applied = sum(level != "disabled" for level in found.levels.values())
    counts = {
        "broken": len(found.broken),
        "advisory": sum(one.level == "advisory" and one.state == "violated" for one in found.verdicts),
        "exempt": sum(one.state == "exempt" for one in found.verdicts),
        "not decided": sum(one.state == "not decided" for one in found.verdicts),
    }
    told = ", ".join(f"{number} {what}" for what, number in counts.items() if number)
    rest = [one for one in found.verdicts if one not in found.broken]
    items = [Item("-", _verdict(one), label=_label(one)) for one in rest]
    return Section(f"Policies: {applied} rules, {told or 'all of them kept'}", _some(items), folded=bool(items))


def _policy_change(found: PolicyChange) -> Iterator[Section]:
    """What was not said before all else."""
    items = [Item("~", f"{rule}: {old} -> {new}", label="level") for rule, (old, new) in sorted(found.levels.items())]
    items += [Item("-", _verdict(one), label=_label(one)) for one in found.gone]
    items += [Item("+", _verdict(one), label=_label(one)) for one in found.new if _label(one) != "broken"]
    if items or found.new:
        title = f"Policies: {len(found.new)} new, {len(found.gone)} gone, {found.unchanged} as before"
        yield Section(title, _some(items))


def _label(verdict: Verdict) -> str:
    if verdict.state != "violated":
        return verdict.state
    return "broken" if verdict.level == "mandatory" else "advisory"


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.rule}: {_place(verdict)}"


def _place(verdict: Verdict) -> str:
    return f"{verdict.resource}{', ' if verdict.where else ''}{verdict.where}: {verdict.message}"


def _rules(verdicts: Sequence[Verdict]) -> str:
    number = len({one.rule for one in verdicts})
    return "1 rule is" if number == 1 else f"{number} rules are"


def _some(items: Sequence[Item]) -> list[Item]:
    more = len(items) - _VERDICTS
    return [*items[:_VERDICTS], *([Item("", f"and {more} more: --json has all")] if more > 0 else [])]


# A difference


def _difference(found: Difference) -> Iterator[Section]:
    items: list[Item] = []
    covered: set[tuple[str, ...]] = set()
    for kind_, group in groupby(found.headlines, key=lambda headline: headline.kind):
        lines = list(group)
        for headline in lines[:_HEADLINES]:
            items.append(Item("!", headline.text, label=kind_))
            covered.update(headline.covers)
        if len(lines) > _HEADLINES:
            items.append(Item("!", f"and {len(lines) - _HEADLINES} more, below", label=kind_))
    if items:
        yield Section("", items)
    pools = [pool_change(pool) for pool in found.pools if (pool.name,) not in covered]
    if found.pools:
        totals = [
            f"{word} {change}"
            for word, old, new in (
                ("minimum", found.old_capacity.minimum, found.new_capacity.minimum),
                ("maximum", found.old_capacity.maximum, found.new_capacity.maximum),
            )
            if (change := amounts(old, new))
        ]
        yield Section(f"Capacity: {'; '.join(totals) or 'the same in sum'}", [Item("~", text) for text in pools])
    grants = [Item("-", _grant(grant)) for grant in found.grants_removed if grant.key not in covered]
    grants += [Item("+", _grant(grant)) for grant in found.grants_added if grant.key not in covered]
    if grants:
        yield Section("Permissions", grants)
    ways = [Item("-", _way(row)) for row in found.exposure_removed if row.key not in covered]
    ways += [Item("+", _way(row)) for row in found.exposure_added if row.key not in covered]
    if ways:
        yield Section("Exposure", ways)
    if found.changes:
        grantors = {grant.urn for grant in (*found.grants_added, *found.grants_removed)}
        yield Section("Resources", list(_changes(found.changes, grantors)))
    if outputs := [item for item in found.outputs if not item.told]:
        yield Section("Outputs", [Item("~", _value_change(item), diff=_cut(item.text)) for item in outputs])


def _grant(grant: Grant) -> str:
    condition = f" if {grant.condition}" if grant.condition else ""
    return f"{grant.principal}: {grant.role} on {grant.resource}{condition}"


def _way(row: Exposure) -> str:
    return f"{row.target} from {row.source}: {row.way}{' (public)' if row.public else ''}"


_MARKS = {"added": "+", "removed": "-", "changed": "~", "renamed": ">"}


def _changes(changes: Sequence[Change], grantors: set[str]) -> Iterator[Item]:
    said = []
    for change in changes:
        rest = [item for item in change.properties if not item.told]
        name = f"{short_type(change.type)} {change.name}"
        if change.action == "changed" and not rest:
            said.append(name)
            continue
        if change.action in ("added", "removed") and change.urn in grantors and not change.hint:
            said.append(f"{_MARKS[change.action]} {name}")
            continue
        if change.old_urn:
            name += f", which was {change.old_urn.split('::', 3)[3]}"
        if change.hint:
            name += f": {change.hint}"
        texts = [item for item in rest if item.text]
        values = [_value_change(item) for item in rest if not item.text]
        if len(values) == 1 and not texts:
            yield Item(_MARKS[change.action], f"{name}: {values[0]}")
        elif len(texts) == 1 and not values:
            yield Item(_MARKS[change.action], f"{name}: {texts[0].path}", diff=_cut(texts[0].text))
        else:
            yield Item(_MARKS[change.action], name, more=values)
            for item in texts:
                yield Item(_MARKS[change.action], f"{name}: {item.path}", diff=_cut(item.text))
    if said:
        yield Item("~", f"what is said above, and nothing else, of {some(said, 5)}")


def _value_change(item: Property) -> str:
    if item.text:
        return item.path
    if item.old is None:
        return f"{item.path}: set to {_value(item.new)}"
    if item.new is None:
        return f"{item.path}: no more {_value(item.old)}"
    return f"{item.path}: {_value(item.old)} -> {_value(item.new)}"


def _value(value: Any) -> str:
    text = value if isinstance(value, str) and value else json.dumps(value)
    return text if len(text) <= _VALUE else f"{text[: _VALUE - 3]}..."


def _cut(lines: Sequence[str]) -> list[str]:
    shown = [line if len(line) <= _LINE else f"{line[:_LINE]}..." for line in lines[:_DIFF_LINES]]
    return [*shown, f"... {len(lines) - len(shown)} more lines"] if len(lines) > len(shown) else shown


# Rich


def _plain(text: str) -> str:
    """Text on one line."""
    return printable(without_address_credentials(text.replace("\n", " ")))


def _tree(section: Section) -> Tree:
    tree = Tree(Text(_plain(section.title), style="cyan"))
    for inner in section.branches:
        branch = tree.add(Text(_plain(inner.title)))
        for each in inner.blocks:
            if isinstance(each, Item):
                branch.add(Text(_plain(each.text)))
    return tree


def _rich_table(table: Table) -> RichTable:
    grid = RichTable(box=None, pad_edge=False, header_style="dim")
    for column in table.columns:
        grid.add_column(column, justify="right" if column in table.right else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(Text(_plain(cell)) for cell in row))
    return grid


def _rich_item(item: Item) -> RenderableType:
    label = f"{item.label:<13} " if item.label else ""
    text = Text.assemble((f"{item.mark} ", _STYLES.get(item.mark, "")), (label, "bold"), _plain(item.text))
    lines: list[RenderableType] = [text, *(Text(f"    {_plain(line)}") for line in item.more)]
    lines += [Text(f"    {_plain(line)}", style=_STYLES.get(line[:1], "dim")) for line in item.diff]
    return Group(*lines)


# Markdown


def _code(text: str) -> str:
    # Grants are long: a principal of a workload identity pool alone has over 100 characters.
    return code(_plain(text), 500)


def _cell(text: str) -> str:
    # A table's cells end at a bar, in code too.
    return _code(text).replace("|", "\\|") if text else ""


def _markdown_table(table: Table) -> list[str]:
    bars = ["---:" if column in table.right else "---" for column in table.columns]
    rows = ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in table.rows]
    return [f"| {' | '.join(table.columns)} |", f"| {' | '.join(bars)} |", *rows]


def _markdown_item(item: Item) -> list[str]:
    label = f"**{item.label}** " if item.label else ""
    mark = "" if item.mark == "!" else f"{_code(item.mark)} "
    lines = [f"- {mark}{label}{_code(item.text)}", *(f"  - {_code(line)}" for line in item.more)]
    if item.diff:
        plain = [_plain(line) for line in item.diff]
        fence = "`" * max(3, 1 + max(len(run) for run in re.findall("`*", "\n".join(plain))))
        lines += ["", f"  {fence}diff", *(f"  {line}" for line in plain), f"  {fence}", ""]
    return lines
