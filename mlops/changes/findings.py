"""What can hurt: what a reviewer must have seen before a change is applied, by name.

Owns the judgement over steps of any stack. It deliberately writes no Markdown: a finding is a sentence with its values
beside it, so that what comes from a resource stays apart from what is said of it. Grants and ways in are read as
`mlops plan` reads them; the two differ in where the resources come from, not in what counts.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

from inventory.exposure import exposure
from inventory.permissions import permissions
from inventory.resources import SECRET, UNKNOWN, Inventory, Resource
from inventory.stateful import LOST
from mlops.changes.preview import ABSENT, Change, Preview, ReviewError, Step, leaves, properties

KINDS = {
    "plan": "The plan is not what was previewed",
    "data": "Data at stake",
    "protection": "Protection",
    "permissions": "Wider permissions",
    "exposure": "Exposure",
    "capacity": "Machines and capacity",
    "images": "Images",
    "other": "Other replacements and deletions",
}
"""The kinds of findings, in the order in which they are told."""

_CAPACITY = re.compile(
    r"machineType|(?:total)?(?:[mM]in|[mM]ax)?(?:initial)?NodeCount|nodeCount|targetSize|(?:min|max)?[rR]eplicas"
    r"|instances|diskSizeGb|size|guestAccelerators?|acceleratorCount|mlops-(?:min|max)"
    r"|(?:\w+_)?(?:machine_type|count|cpu|cores|memory|memory_max)"
)
_IMAGE = re.compile(r"image|image_\w+|\w+_image|\w+Image")
_RUNS_AS = re.compile(r"serviceAccount|serviceAccountName|serviceAccountEmail|oauthScopes|scopes")
_GUARDS = {
    "deletionProtection": True,
    "deletionProtectionEnabled": True,
    "preventDestroy": True,
    "forceDestroy": False,
}
_LINE = re.compile(r"""^\s*"?(?P<key>[A-Za-z_-]+)"?\s*[=:]\s*(?P<value>\S.*?),?\s*$""", re.MULTILINE)
"""A setting in a jobspec, a template or a script: `image = "..."`, `cpu: 500`."""


@dataclass(frozen=True)
class Finding:
    """One thing that can hurt.

    Attributes:
        kind: One of `KINDS`.
        op: What happens to the resource.
        text: The sentence, with `{}` where a value goes. It holds nothing that comes from a resource.
        values: The values, as text.
        stacks: The stacks that it is true of.
    """

    kind: str
    op: str
    type: str
    name: str
    text: str
    values: tuple[str, ...] = ()
    stacks: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The sentence with its values, for programs."""
        return self.text.format(*self.values)


@dataclass(frozen=True)
class Review:
    """What a reviewer reads.

    Attributes:
        previews: Stack by stack, as they were given.
        findings: In the order of `KINDS`; what is true of several stacks is told once.
        planned: The stack whose plan was compared with its preview, if one was.
    """

    previews: Sequence[Preview]
    findings: Sequence[Finding]
    planned: str | None = None


def review(previews: Sequence[Preview], plan: Preview | None = None) -> Review:
    """Judge previews, and say where a plan differs from the preview of its stack.

    Raises:
        ReviewError: Two previews are of one stack, or none is of the plan's.
    """
    twice = [key for key, count in Counter((one.project, one.stack) for one in previews).items() if count > 1]
    if twice:
        raise ReviewError(f"two of the previews are of the stack {twice[0][1]}; give one of each stack")
    found = [(preview, _findings(preview)) for preview in previews]
    if plan:
        match = [one for one in previews if (one.project, one.stack) == (plan.project, plan.stack)]
        if not match:
            given = ", ".join(one.stack for one in previews)
            raise ReviewError(f"the plan is of the stack {plan.stack}, and none of the previews is (of {given})")
        found += [(match[0], _compared(match[0], plan))]
    return Review(previews, _merged(found), plan.stack if plan else None)


def described(change: Change) -> tuple[str, tuple[str, ...]]:
    """A change of a property as a sentence and its values."""
    if change.hidden:
        return "{} changes (the program hides it)", (change.path,)
    if change.old == ABSENT and change.new == ABSENT:
        # The provider names it, and neither state holds it.
        return "{} changes", (change.path,)
    if change.old == SECRET and change.new == SECRET:
        return "{} changes, a secret", (change.path,)
    if change.old == change.new and SECRET in shown(change.old):
        return "{} changes, in what is not shown of it", (change.path,)
    if change.old == ABSENT:
        return "{} is set to {}", (change.path, shown(change.new))
    if change.new == ABSENT:
        return "{} is removed, it was {}", (change.path, shown(change.old))
    return "{} changes from {} to {}", (change.path, *_apart(shown(change.old), shown(change.new)))


def shown(value: Any) -> str:
    """A value as one reads it: text as it is, the rest as JSON writes it."""
    import json

    if isinstance(value, str):
        return value or '""'
    try:
        return json.dumps(value, ensure_ascii=False)
    except ValueError:
        # Python refuses to print an integer of more than 4,300 digits.
        return "a number of thousands of digits"


def _apart(old: str, new: str, room: int = 100) -> tuple[str, str]:
    """Two long values without what they begin with in common: the difference must not be what is cut off."""
    if max(len(old), len(new)) <= room or old == new:
        return old, new
    same = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    cut = max(0, same - room // 3)
    return (old, new) if not cut else ("…" + old[cut:], "…" + new[cut:])


def _merged(found: Iterable[tuple[Preview, Iterable[Finding]]]) -> list[Finding]:
    stacks: dict[Finding, list[str]] = {}
    for preview, findings in found:
        for finding in findings:
            stacks.setdefault(finding, []).append(preview.stack)
    rank = {kind: number for number, kind in enumerate(KINDS)}
    merged = (replace(finding, stacks=tuple(dict.fromkeys(names))) for finding, names in stacks.items())
    return sorted(merged, key=lambda one: (rank[one.kind], one.op != "delete", one.op != "replace"))


def _findings(preview: Preview) -> Iterator[Finding]:
    for step in preview.steps:
        for kind, text, values in _of(step):
            yield Finding(kind, step.op, step.type, step.name, text, values)


_Found = tuple[str, str, tuple[str, ...]]


def _of(step: Step) -> Iterator[_Found]:
    told = [*_protection(step), *_access(step), *_settings(step)]
    if step.op in ("delete", "replace"):
        loss = _loss(step)
        # A grant is replaced whenever its role changes; that it is wider is what there is to know.
        if loss[0] != "other" or not told:
            yield loss
    yield from told


def _loss(step: Step) -> _Found:
    lost = LOST.get(step.type)
    kind = "data" if (lost and not step.retained) or step.protected or step.released else "other"
    after = "It stays where it is: Pulumi only forgets it." if step.retained else f"Lost: {lost}." if lost else ""
    if step.op == "delete":
        return kind, after, ()
    reasons = [change for change in step.changes if change.replaces]
    if not reasons:
        return kind, f"No property is named as the reason. {after}".strip(), ()
    told = [described(change) for change in reasons[:3]]
    text = "; ".join(text for text, _ in told)
    if len(reasons) > len(told):
        text += f"; and {len(reasons) - len(told)} more"
    if any(change.new == UNKNOWN for change in reasons):
        text += " (known only when it is applied, so it may stay as it is)"
    return kind, f"{text}. {after}".strip(), tuple(value for _, values in told for value in values)


def _protection(step: Step) -> Iterator[_Found]:
    if step.released:
        yield "protection", "It is protected now, and will not be any more.", ()
    elif step.protected and step.op in ("delete", "replace"):
        yield "protection", f"It is protected, so Pulumi refuses to {step.op} it.", ()
    for change in step.changes:
        guarded = _GUARDS.get(_last(change.path))
        if guarded is not None and (change.new is not guarded) and (guarded or change.new is not ABSENT):
            yield "protection", *_sentence(change)


def _access(step: Step) -> Iterator[_Found]:
    if step.op in ("delete", "same", "read", "import"):
        return
    before, after = (_resource(step, inputs) for inputs in (step.old, step.new))
    had = {grant.key for grant in permissions(before)}
    for grant in permissions(after):
        if grant.key not in had:
            had.add(grant.key)
            text = "{} gets {} on {}" + (", under the condition {}." if grant.condition else ".")
            values = (grant.principal, grant.role, grant.resource)
            yield "permissions", text, values + ((grant.condition,) if grant.condition else ())
    open_ = {row.key for row in exposure(before)} if step.old else set()
    for row in exposure(after):
        if row.public is not False and row.key not in open_:
            open_.add(row.key)
            text = "{} is open to {}: {}." if row.public else "{} may become open to {}: {}."
            yield "exposure", text, (row.target, row.source, row.way)


def _resource(step: Step, inputs: Mapping[str, Any]) -> Inventory:
    resource = Resource.model_construct(
        type=step.type, name=step.name, urn=step.urn, custom=True, inputs=dict(inputs), outputs={}
    )
    return Inventory.model_construct(stack="", mode="preview", resources=[resource] if inputs else [], outputs={})


def _settings(step: Step) -> Iterator[_Found]:
    """Machines, capacity, images, and what something runs as: properties that are the same in every provider."""
    for change in step.changes:
        for kind, part in _telling(change):
            yield kind, *_sentence(part)
    if step.op == "create":
        for change in properties(step):
            if _last(change.path) == "machineType":
                yield "capacity", "{} is {}.", (change.path, shown(change.new))


def _telling(change: Change) -> Iterator[tuple[str, Change]]:
    texts = [value if isinstance(value, str) and "\n" in value else "" for value in (change.old, change.new)]
    if any(texts) and not change.hidden:
        for key, old, new in _lines(*texts):
            yield from _telling(Change(f"{change.path}: {key}", old, new))
        return
    for path, old, new in _pairs(change):
        last = _last(path)
        for kind, pattern in (("capacity", _CAPACITY), ("images", _IMAGE), ("permissions", _RUNS_AS)):
            if pattern.fullmatch(last):
                yield kind, Change(path, old, new, hidden=change.hidden)


def _pairs(change: Change) -> Iterator[tuple[str, Any, Any]]:
    """The leaves of a block that comes or goes as a whole; otherwise the change itself."""
    if isinstance(change.new, Mapping) and change.old is ABSENT:
        yield from ((path, ABSENT, value) for path, value in leaves(change.path, change.new))
    elif isinstance(change.old, Mapping) and change.new is ABSENT:
        yield from ((path, value, ABSENT) for path, value in leaves(change.path, change.old))
    else:
        yield change.path, change.old, change.new


def _lines(old: str, new: str) -> Iterator[tuple[str, Any, Any]]:
    """The settings that differ between two texts, paired by their names in order."""
    before, after = (
        Counter((one["key"], one["value"].strip('"')) for one in _LINE.finditer(text)) for text in (old, new)
    )
    found: dict[str, tuple[list[str], list[str]]] = {}
    for side, counts in enumerate((before - after, after - before)):
        for key, value in counts.elements():
            if _CAPACITY.fullmatch(key) or _IMAGE.fullmatch(key):
                found.setdefault(key, ([], []))[side].append(value)
    for key, pairs in sorted(found.items()):
        yield from ((key, *pair) for pair in zip_longest(*pairs, fillvalue=ABSENT))


def _last(path: str) -> str:
    """The last key of a path, without the number of a list's item."""
    return re.split(r"\.|: ", re.sub(r"\[\d+\]$", "", path))[-1]


def _sentence(change: Change) -> tuple[str, tuple[str, ...]]:
    text, values = described(change)
    return f"{text}.", values


def _compared(preview: Preview, plan: Preview) -> Iterator[Finding]:
    """Where a plan would do something else than the preview shows."""
    seen, meant = ({urn: steps for urn, steps in _by_urn(one).items() if steps} for one in (preview, plan))
    for urn in sorted({*seen, *meant}):
        shown_, planned = seen.get(urn, {}), meant.get(urn, {})
        step = next(iter((planned or shown_).values()))
        if set(shown_) != set(planned):
            values = (", ".join(sorted(planned)) or "nothing", ", ".join(sorted(shown_)) or "nothing")
            yield Finding("plan", step.op, step.type, step.name, "The plan is to {}, the preview says {}.", values)
            continue
        for op, wanted in planned.items():
            for key, value in wanted.sent.items():
                if value != shown_[op].sent.get(key, ABSENT):
                    text = "The plan sets {} otherwise than the preview."
                    yield Finding("plan", op, step.type, step.name, text, (key,))


def _by_urn(preview: Preview) -> dict[str, dict[str, Step]]:
    found: dict[str, dict[str, Step]] = {}
    for step in preview.steps:
        if step.op not in ("same", "read"):
            found.setdefault(step.urn, {})[step.op] = step
    return found


def summary(review: Review) -> dict[str, Any]:
    """The same for programs: everything, whatever its length."""
    return {
        "stacks": [
            {
                "project": preview.project,
                "stack": preview.stack,
                "failed": preview.failed,
                "finished": preview.finished,
                "errors": [{"resource": one.name, "message": one.message} for one in preview.errors],
                "output": preview.output,
                "warnings": [{"resource": one.name, "message": one.message} for one in preview.warnings],
                "counts": Counter(step.op for step in preview.steps),
                "unchanged": preview.unchanged,
                "layers": _layers(preview),
                "changes": [_change(step) for step in preview.steps],
            }
            for preview in review.previews
        ],
        "planned": review.planned,
        "findings": [
            {
                "kind": one.kind,
                "op": one.op,
                "type": one.type,
                "name": one.name,
                "message": one.message,
                "stacks": one.stacks,
            }
            for one in review.findings
        ],
    }


def _layers(preview: Preview) -> dict[str, Counter[str]]:
    counts: dict[str, Counter[str]] = {}
    for step in preview.steps:
        counts.setdefault(step.layer, Counter())[step.op] += 1
    return dict(sorted(counts.items()))


def _change(step: Step) -> dict[str, Any]:
    return {
        "op": step.op,
        "urn": step.urn,
        "type": step.type,
        "name": step.name,
        "layer": step.layer,
        "moved_from": step.moved or None,
        "properties": [
            {
                "path": change.path,
                "replaces": change.replaces,
                "hidden": change.hidden,
                **({} if change.hidden or change.old is ABSENT else {"old": change.old}),
                **({} if change.hidden or change.new is ABSENT else {"new": change.new}),
            }
            for change in properties(step)
        ],
    }
