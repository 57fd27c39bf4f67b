"""Applying rules to a stack's resources: every verdict that is not a plain pass.

Owns levels, exemptions, and what becomes of a value that is not known or is no such thing as a rule expects: a change
that is judged may hold anything. It deliberately knows no rule.
"""

import datetime
from collections.abc import Iterable, Iterator, Sequence

from inventory.resources import Inventory
from policy.rule import Level, Part, Rule, Stack, UndecidedError
from policy.settings import Exemption, PolicyError, PolicySettings
from policy.verdicts import Verdict

EXPIRED = "exemption-expired"
UNUSED = "exemption-unused"
FAILED = "the rule cannot read it: "
"""What a verdict's message begins with where the rule failed; in a real stack that is the rule's mistake."""


def judge(inventory: Inventory, settings: PolicySettings, rules: Sequence[Rule], today: datetime.date) -> list[Verdict]:
    """Apply rules to a stack.

    Returns:
        What is broken, not decided or exempt: mandatory ones first, then by rule and resource. Nothing for a pass.

    Raises:
        PolicyError: The settings name a rule that there is not.
    """
    levels = levels_of(rules, settings)
    stack = Stack(inventory, settings.parameters)
    found = [verdict for rule in rules for verdict in apply(rule, levels[rule.id], stack)]
    found = [*_excused(found, settings.exemptions, today), *_exemptions(found, settings.exemptions, today)]
    return sorted(
        found,
        key=lambda each: (each.level != "mandatory", each.state != "violated", each.rule, each.resource, each.where),
    )


def levels_of(rules: Sequence[Rule], settings: PolicySettings) -> dict[str, Level]:
    """The level of each rule in a stack.

    Raises:
        PolicyError: The settings name a rule that there is not.
    """
    known = {rule.id: rule.level for rule in rules}
    named = {*settings.levels, *(exemption.rule for exemption in settings.exemptions)}
    if strange := sorted(named - known.keys()):
        raise PolicyError(
            f"there is no rule {', '.join(strange)}, so no policy was applied; docs/reference/policies.md has them all"
        )
    return known | {rule: Level(level) for rule, level in settings.levels.items()}


def apply(rule: Rule, level: Level, stack: Stack) -> Iterator[Verdict]:
    """What one rule says of a stack, exemptions aside."""
    if level is Level.DISABLED:
        return
    for part, problem in _problems(rule, stack):
        yield Verdict(
            rule=rule.id,
            level="mandatory" if level is Level.MANDATORY else "advisory",
            state="violated" if isinstance(problem, str) else "not decided",
            resource=part.resource.name if part.resource else "stack",
            urn=part.resource.urn if part.resource else None,
            where=part.where,
            message=problem if isinstance(problem, str) else _undecided(problem),
            fix=rule.fix,
        )


def _undecided(error: Exception) -> str:
    if isinstance(error, UndecidedError):
        return f"{str(error) or 'a value'} is not known yet"
    return f"{FAILED}{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _problems(rule: Rule, stack: Stack) -> Iterator[tuple[Part, str | Exception]]:
    if not rule.types:
        yield from _of_part(rule, Part(None, stack.inventory.outputs), stack)
    for resource in stack.inventory.resources:
        if rule.looks_at(resource.type):
            try:
                parts = list(rule.parts(resource))
            except Exception as error:  # noqa: BLE001  whatever a change holds, the other rules are applied
                yield Part(resource, resource.inputs), error
                continue
            for part in parts:
                yield from _of_part(rule, part, stack)


def _of_part(rule: Rule, part: Part, stack: Stack) -> Iterator[tuple[Part, str | Exception]]:
    # A problem that was found before the unknown value is one all the same.
    try:
        for message in rule.check(part, stack):
            yield part, message
    except Exception as error:  # noqa: BLE001  whatever a change holds, the other rules are applied
        yield part, error


def _excused(found: Iterable[Verdict], exemptions: Sequence[Exemption], today: datetime.date) -> Iterator[Verdict]:
    valid = {(one.rule, one.resource): one for one in exemptions if one.until >= today}
    for verdict in found:
        exemption = valid.get((verdict.rule, verdict.resource))
        if exemption is None or verdict.state != "violated":
            yield verdict
        else:
            excuse = f"{verdict.message} (until {exemption.until}: {exemption.reason})"
            yield verdict.model_copy(update={"state": "exempt", "message": excuse})


def _exemptions(found: Sequence[Verdict], exemptions: Sequence[Exemption], today: datetime.date) -> Iterator[Verdict]:
    broken = {(verdict.rule, verdict.resource): verdict for verdict in found if verdict.state != "not decided"}
    undecided = {(verdict.rule, verdict.resource) for verdict in found if verdict.state == "not decided"}
    for one in exemptions:
        urn = broken[one.rule, one.resource].urn if (one.rule, one.resource) in broken else None
        about = f"the exemption of {one.resource} from {one.rule}"
        if one.until < today:
            yield Verdict(
                rule=EXPIRED,
                level="mandatory",
                state="violated",
                resource=one.resource,
                urn=urn,
                where="",
                message=f"{about} ended on {one.until}",
                fix="Mend the resource and remove the exemption, or give it a new date and reason.",
            )
        elif (one.rule, one.resource) not in broken and (one.rule, one.resource) not in undecided:
            yield Verdict(
                rule=UNUSED,
                level="advisory",
                state="violated",
                resource=one.resource,
                urn=urn,
                where="",
                message=f"{about} excuses nothing",
                fix="Remove it from policy/stacks.",
            )
