"""The changes and what catches each, as a table on a terminal and as a page of the docs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infra.settings import ROOT
from tests.mutations.catalogue import Mutation

PAGE = ROOT / "docs" / "reference" / "mutations.md"
NOBODY = "NOBODY"
NO_RULE = "neither settings nor a rule; tests were not asked"
_TOLD = 160


@dataclass(frozen=True)
class Caught:
    """What catches a change.

    Attributes:
        mutation: The change.
        settings: Why the program refuses it.
        rules: Rules that it breaks.
        tests: Tests that fail.
        asked: Whether tests were asked.
    """

    mutation: Mutation
    settings: str | None = None
    rules: tuple[str, ...] = ()
    tests: tuple[str, ...] = ()
    asked: bool = False

    @property
    def by_nobody(self) -> bool:
        """Whether nothing catches it."""
        return not (self.settings or self.rules or self.tests)

    def told(self) -> str:
        """By whom, in one line."""
        parts = []
        if self.settings:
            first = self.settings.splitlines()[0]
            parts.append(f"settings: {first if len(first) <= _TOLD else f'{first[: _TOLD - 3]}...'}")
        if self.rules:
            parts.append(f"rule {', '.join(self.rules)}")
        if self.tests:
            more = f" and {len(self.tests) - 2} more" if len(self.tests) > 2 else ""
            parts.append(f"test {', '.join(self.tests[:2])}{more}")
        return "; ".join(parts) or (NOBODY if self.asked else NO_RULE)


def counts(found: Sequence[Caught]) -> str:
    """How many are caught by what."""
    by_rules = sum(bool(one.rules) for one in found)
    by_tests = sum(bool(one.tests) for one in found)
    missed = [one for one in found if one.by_nobody]
    open_ = sum(not one.asked for one in missed)
    return (
        f"Of {len(found)} changes {sum(bool(one.settings) for one in found)} are refused by settings, {by_rules} break "
        f"a rule, {by_tests} fail a test ({sum(bool(one.rules and one.tests) for one in found)} do both), and "
        f"{len(missed) - open_} are caught by nobody"
        + (f"; about {open_} that neither settings nor rules catch, tests were not asked." if open_ else ".")
    )


def page(found: Sequence[Caught]) -> str:
    """The page, in Markdown."""
    missed = [one for one in found if one.by_nobody and one.asked]
    unasked = [one for one in found if one.by_nobody and not one.asked]
    lines = [
        "# What catches a change that a review must not miss",
        "",
        "Made by `python -m tests.mutations --write`, which makes each change of `tests/mutations/*.yaml` in a scratch",
        "copy of the checkout, one at a time, and sees who notices: the settings, which refuse it; the",
        "[rules](policies.md); and, where both are silent, a test of the room that it is in. The list was written",
        "before the rules, by someone who had not read them. That a stack's inventory (`tests/inventories`) is another",
        "than before does not count: it is for every change.",
        "",
        f"**{counts(found)}**",
        "",
        "## Caught by nobody",
        "",
    ]
    none = "None of those that tests were asked about." if unasked else "None."
    lines += ["What a reviewer has to see in `mlops plan` by themselves:" if missed else none, ""]
    lines += _missed(missed)
    if unasked:
        lines += ["## Caught by neither settings nor rules; tests were not asked", "", *_missed(unasked)]
    for theme in dict.fromkeys(one.mutation.theme for one in found):
        caught = [one for one in found if one.mutation.theme == theme and not one.by_nobody]
        if caught:
            lines += [f"## {theme.replace('-', ' ').capitalize()}", ""]
            lines += _table(
                ("change", "what would follow", "caught by"), [(*_named(one), _cell(one)) for one in caught]
            )
    return "\n".join(lines).rstrip("\n") + "\n"


def rows(text: str) -> dict[str, str]:
    """The changes that a page names, with what would follow."""
    return dict(re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ", text, flags=re.MULTILINE))


def write(found: Sequence[Caught], path: Path = PAGE) -> None:
    """Write the page."""
    path.write_text(page(found), encoding="utf-8")


def _missed(found: Sequence[Caught]) -> list[str]:
    head = ("change", "what would follow", "file")
    return _table(head, [(*_named(one), f"`{one.mutation.file}`") for one in found])


def _named(one: Caught) -> tuple[str, str]:
    return f"`{one.mutation.id}`", one.mutation.what


def _cell(one: Caught) -> str:
    parts = []
    if one.settings:
        parts.append("settings")
    parts += [f"[{rule}](policies.md#{rule})" for rule in one.rules]
    if one.tests:
        first, *more = one.tests
        parts.append(f"`{first}`{f' and {len(more)} more' if more else ''}")
    return ", ".join(parts)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    if not body:
        return []
    return [*(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)), ""]
