"""A review as one comment: Markdown for GitHub, found again by its first line, never longer than GitHub takes.

Owns form and length. Everything that comes from a resource goes into a code span or a fenced block, with what is
invisible or ends a line written as an escape: there it is text, whatever it says. It deliberately decides nothing about
what is important: the order is that of the review.
"""

import difflib
import html
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from mlops.changes.comment import LIMIT, block, code, cut
from mlops.changes.findings import KINDS, Finding, Review, described
from mlops.changes.preview import OPERATIONS, Change, Diagnostic, Preview, Step, properties
from mlops_registry.text import printable

MARKER = "<!-- mlops-review -->"
"""The first line, by which the comment is found again."""

# How much is shown of one thing, in characters, lines or items.
_PROPERTIES = 20
_DIFF = 60
_COMPARED = 400
_LAYERS = 60
_OPERATIONS = 12
_STEP = 400
_OPEN = 20
_WORDS = {
    "delete": ("delete", "deleted"),
    "replace": ("replace", "replaced"),
    "create": ("create", "created"),
    "import": ("import", "imported"),
    "update": ("update", "updated"),
    "same": ("keep", "only changed in protection"),
    "read": ("read", "read"),
}


def render(review: Review, limit: int = LIMIT) -> str:
    """The comment, at most `limit` bytes of UTF-8."""
    several = len(review.previews) > 1
    page = _Page(limit)
    page.add(MARKER)
    bullet = "- " if several else ""
    page.section("", [bullet + _headline(preview) for preview in review.previews], between="\n", share=0.1)
    if review.planned and not any(finding.kind == "plan" for finding in review.findings):
        page.add(f"The plan of {code(review.planned)} does what its preview shows.")
    failures = [(f"The preview of {code(one.stack)} failed", one) for one in review.previews if one.failed]
    for title, preview in failures:
        blocks = [_diagnostic(one) for one in preview.errors if _tells(one, preview)]
        blocks += [block(preview.output)] if preview.output else []
        blocks.append("What follows is what Pulumi had seen by then; more may change.")
        page.section(f"### {title}", blocks, share=0.25 / len(failures))
    groups = [(kind, [one for one in review.findings if one.kind == kind]) for kind in KINDS]
    groups = [(kind, found) for kind, found in groups if found]
    items = [[_finding(one, several) for one in found] for _, found in groups]
    rooms = _shares([sum(len(item.encode()) + 1 for item in each) for each in items], int(page.room * 0.6))
    for (kind, _), each, room in zip(groups, items, rooms, strict=True):
        page.section(f"### {KINDS[kind]}", each[:_OPEN], between="\n", size=room)
        if len(each) > _OPEN:
            left = room - sum(len(item.encode()) + 1 for item in each[:_OPEN])
            page.fold(f"{len(each) - _OPEN:,} more", each[_OPEN:], "finding", between="\n", size=left + 200)
    page.add(_layers(review.previews, page.room // 3))
    for place, preview in enumerate(review.previews):
        # Each of the stacks that are left gets the same of the room that is left.
        _fold(page, preview, several, share=0.95 / (len(review.previews) - place))
    return page.text()


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


class _Page:
    """Blocks of Markdown within a length; what does not fit is counted, and said to be missing."""

    def __init__(self, limit: int) -> None:
        self._blocks: list[str] = []
        self._dropped = 0
        # The last line, which says that something is missing, always fits.
        self.room = limit - 300

    def add(self, text: str) -> None:
        """Add a block whole, or not at all."""
        size = len(text.encode()) + 2
        if size > self.room:
            self._dropped += 1
        elif text:
            self._blocks.append(text)
            self.room -= size

    def section(
        self, title: str, items: Sequence[str], between: str = "\n\n", share: float = 1.0, size: int | None = None
    ) -> None:
        """Add a title and as many items as fit."""
        room = min(self.room, int(self.room * share) if size is None else size + 200) - len(title.encode()) - 60
        shown = _fitting(items, len(items), "finding", between, room)
        self.add("\n\n".join(filter(None, [title, shown])))

    def fold(
        self,
        title: str,
        items: Iterable[str],
        noun: str,
        between: str = "\n\n",
        number: int | None = None,
        size: int | None = None,
    ) -> None:
        """Add as many items as fit, folded away; `title` is HTML. They are rendered only as far as they are shown."""
        opening, closing = f"<details>\n<summary>{title}</summary>", "</details>"
        room = min(self.room, self.room if size is None else size) - len(opening.encode()) - 150
        number = len(list(items)) if number is None else number
        self.add("\n\n".join([opening, _fitting(items, number, noun, between, room), closing]))

    def text(self) -> str:
        """The whole."""
        missing = [_left_out(self._dropped, "section")] if self._dropped else []
        return "\n\n".join([*self._blocks, *missing]) + "\n"


def _fitting(items: Iterable[str], number: int, noun: str, between: str, room: int) -> str:
    shown: list[str] = []
    for item in items:
        room -= len(item.encode()) + len(between)
        if room < 0:
            break
        shown.append(item)
    missing = [_left_out(number - len(shown), noun)] if len(shown) < number else []
    return "\n\n".join([between.join(shown), *missing])


def _left_out(number: int, noun: str) -> str:
    return f"*… and {_count(number, noun)} left out, for length.*"


def _shares(sizes: Sequence[int], room: int) -> list[int]:
    """How much each gets: the small ones all that they need, the large ones the same."""
    given = [0] * len(sizes)
    for place, number in enumerate(sorted(range(len(sizes)), key=lambda number: sizes[number])):
        given[number] = min(sizes[number], room // (len(sizes) - place))
        room -= given[number]
    return given


def _headline(preview: Preview) -> str:
    counts = Counter(step.op for step in preview.steps)
    told = [f"{count:,} {_WORDS.get(op, ('', code(op)))[1]}" for op, count in _ordered(counts)]
    state = "**failed**; " if preview.failed else ""
    rest = f"{preview.unchanged:,} unchanged" if preview.unchanged else ""
    return f"**Stack {code(preview.stack)}**: {state}{', '.join([*told, *filter(None, [rest])]) or 'no changes'}"


def _ordered(counts: Counter[str]) -> list[tuple[str, int]]:
    order = {op: number for number, op in enumerate(OPERATIONS)}
    return sorted(counts.items(), key=lambda one: (order.get(one[0], len(order)), one[0]))


def _tells(diagnostic: Diagnostic, preview: Preview) -> bool:
    # The engine ends every failure with a line that says that it failed.
    return diagnostic.message != "preview failed" or len(preview.errors) == 1


def _diagnostic(diagnostic: Diagnostic) -> str:
    return "\n".join([*([f"{code(diagnostic.name)}:\n"] if diagnostic.name else []), block(diagnostic.message)])


def _finding(finding: Finding, several: bool) -> str:
    what = code(f"{finding.type.rpartition(':')[2]} {finding.name}")
    text = finding.text.format(*map(code, finding.values))
    stacks = f" ({', '.join(map(code, finding.stacks))})" if several else ""
    op = "" if finding.op == "same" else f"**{finding.op if finding.op in _WORDS else code(finding.op)}** "
    return f"- {op}{what}{': ' if text else ''}{text}{stacks}"


def _layers(previews: Sequence[Preview], room: int) -> str:
    """Counts by layer, the most changed ones where there are too many to show."""
    rows = Counter((preview.stack, step.layer) for preview in previews for step in preview.steps)
    if not rows:
        return ""
    counts = Counter((preview.stack, step.layer, step.op) for preview in previews for step in preview.steps)
    ops = [op for op, _ in _ordered(Counter(op for _, _, op in counts))][:_OPERATIONS]
    several = len(previews) > 1
    titles = [*(["Stack"] if several else []), "Layer", *(_WORDS[op][0] if op in _WORDS else _cell(op) for op in ops)]
    table = [_row(titles), _row(["---"] * (several + 1) + ["---:"] * len(ops))]
    room -= sum(map(len, table))
    lines: dict[tuple[str, str], str] = {}
    for stack, layer in (key for key, _ in rows.most_common(_LAYERS)):
        numbers = [str(counts[stack, layer, op] or "") for op in ops]
        line = _row([*([_cell(stack)] if several else []), _cell(layer) if layer else "(the stack)", *numbers])
        room -= len(line.encode()) + 1
        if room < 0:
            break
        lines[stack, layer] = line
    # In the order of the stacks given, then by name.
    place = {preview.stack: number for number, preview in enumerate(previews)}
    table += [lines[key] for key in sorted(lines, key=lambda key: (place[key[0]], key[1]))]
    missing = [_left_out(len(rows) - len(lines), "layer")] if len(lines) < len(rows) else []
    return "\n\n".join(["### Changes by layer", "\n".join(table), *missing])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return code(text, 60).replace("|", "\\|")


def _fold(page: _Page, preview: Preview, several: bool, share: float) -> None:
    stack = f" of <code>{html.escape(printable(cut(preview.stack, 60)))}</code>" if several else ""
    if number := len(preview.warnings):
        warnings = (_diagnostic(one) for one in preview.warnings)
        page.fold(
            f"{_count(number, 'warning')}{stack}", warnings, "warning", number=number, size=int(page.room * share * 0.3)
        )
    if number := len(preview.steps):
        title = f"{_count(number, 'change')}{stack}, property by property"
        size = int(page.room * share)
        blocks = _steps(preview.steps, size - 300)
        page.fold(title, blocks, "change", number=number, size=size)


def _steps(steps: Sequence[Step], room: int) -> Iterator[str]:
    """Each with as much of the room that is left as the others have, so that one long text hides no other resource."""
    for place, step in enumerate(steps):
        text = _step(step, max(_STEP, room // (len(steps) - place)))
        room -= len(text.encode()) + 2
        yield text


def _step(step: Step, room: int) -> str:
    """One resource: what happens to it, then its properties, then what changes within long texts, while they fit."""
    where = f", in {code(step.layer)}" if step.layer else ""
    moved = f", which was {code(step.moved.rpartition('::')[2])}" if step.moved else ""
    op = _WORDS[step.op][0] if step.op in _WORDS else code(step.op)
    title = f"**{op}** {code(step.name)}{moved}: {code(step.type)}{where}"
    lines = [f"- it is {'not protected any more' if step.released else 'protected from now on'}"]
    lines = lines if step.released or step.guarded else []
    changes = properties(step)
    texts: list[str] = []
    room -= len(title.encode())
    told = 0
    for change in changes[:_PROPERTIES]:
        if _long(change):
            part = "\n\n".join(_text(change))
        else:
            text, values = described(change)
            part = f"- {text.format(*map(code, values))}{_forces(change)}"
        room -= len(part.encode()) + 2
        if room < 0:
            break
        told += 1
        (texts if _long(change) else lines).append(part)
    if told < len(changes):
        texts.append(_left_out(len(changes) - told, "further change"))
    return "\n\n".join(filter(None, [title, "\n".join(lines), *texts]))


def _forces(change: Change) -> str:
    return " **(forces the replacement)**" if change.replaces else ""


def _long(change: Change) -> bool:
    return not change.hidden and any(isinstance(one, str) and "\n" in one for one in (change.old, change.new))


def _text(change: Change) -> Iterator[str]:
    """The lines of a text that differ. What both sides begin and end with goes first, since comparing is quadratic."""
    old, new = (one.split("\n") if isinstance(one, str) else [] for one in (change.old, change.new))
    yield f"{code(change.path)}{_forces(change)}:"
    start = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    stop = next(
        (n for n, (a, b) in enumerate(zip(old[start:][::-1], new[start:][::-1], strict=False)) if a != b),
        min(len(old), len(new)) - start,
    )
    first, last = max(0, start - 2), max(0, stop - 2)
    before, after = old[first : len(old) - last], new[first : len(new) - last]
    if max(len(before), len(after)) > _COMPARED:
        yield f"{_count(len(before), 'line')} become {_count(len(after), 'line')}, too many to compare here."
        return
    # The first two lines name files, of which there are none.
    shown = [line for line in list(difflib.unified_diff(before, after, n=2, lineterm=""))[2:] if line[:2] != "@@"]
    yield block("\n".join(shown[:_DIFF]), "diff", room=100_000)
    if len(shown) > _DIFF:
        yield _left_out(len(shown) - _DIFF, "line")
