"""The rules as Pulumi's policies, for `pulumi preview --policy-pack policy`.

Owns the translation alone: what the engine hands over becomes the same inventory that a plan is judged by. A rule that
looks at one resource stops its registration; one across resources is applied when all are known.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from pulumi_policy import (
    EnforcementLevel,
    Policy,
    PolicyResource,
    ReportViolation,
    ResourceValidationArgs,
    ResourceValidationPolicy,
    StackValidationArgs,
    StackValidationPolicy,
)
from pulumi_policy.proxy import UnknownValueError

from mlops.plan.inventory import UNKNOWN, Inventory, Resource
from policy.judge import EXPIRED, Verdict, judge, levels_of
from policy.rule import Level, Rule
from policy.settings import PolicySettings


def policies(rules: Sequence[Rule], settings: PolicySettings, today: datetime.date) -> list[Policy]:
    """Every rule that is not disabled as a policy of its own, and one for exemptions that have ended."""
    levels = levels_of(rules, settings)
    used = [rule for rule in rules if levels[rule.id] is not Level.DISABLED]
    return [*(_policy(rule, levels[rule.id], settings, today) for rule in used), _expired(settings, today)]


def _policy(rule: Rule, level: Level, settings: PolicySettings, today: datetime.date) -> Policy:
    own = settings.model_copy(
        update={
            "levels": {rule.id: level.value},
            "exemptions": [one for one in settings.exemptions if one.rule == rule.id],
        }
    )
    about: dict[str, Any] = {
        "name": rule.id,
        "description": f"{rule.holds} {rule.why}",
        "enforcement_level": EnforcementLevel[level.name],
    }

    def verdicts(resources: Iterable[Resource]) -> list[Verdict]:
        listed = list(resources)
        stack = listed[0].urn.split(":")[2] if listed else "none"
        inventory = Inventory(stack=stack, mode="preview", resources=listed, outputs={})
        return [one for one in judge(inventory, own, [rule], today) if one.rule == rule.id]

    if rule.across or not rule.types:

        def of_stack(args: StackValidationArgs, report: ReportViolation) -> None:
            for verdict in verdicts(_resource(one) for one in args.resources):
                _tell(verdict, report)

        return StackValidationPolicy(validate=of_stack, **about)

    def of_resource(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if rule.looks_at(args.resource_type):
            for verdict in verdicts([_resource(args)]):
                _tell(verdict, report)

    return ResourceValidationPolicy(validate=of_resource, **about)


def _expired(settings: PolicySettings, today: datetime.date) -> Policy:
    ended = [one for one in settings.exemptions if one.until < today]

    def check(_: StackValidationArgs, report: ReportViolation) -> None:
        for one in ended:
            report(f"the exemption of {one.resource} from {one.rule} ended on {one.until}", None)

    return StackValidationPolicy(
        name=EXPIRED,
        description="No exemption is older than its end date.",
        enforcement_level=EnforcementLevel.MANDATORY,
        validate=check,
    )


def _tell(verdict: Verdict, report: Callable[[str, str | None], None]) -> None:
    # Pulumi knows no "not decided": the update, in which the value is known, applies the rule again.
    if verdict.state == "violated":
        place = f"{verdict.resource}{', ' if verdict.where else ''}{verdict.where}"
        report(f"{place}: {verdict.message}. {verdict.fix}", verdict.urn)


def _resource(args: ResourceValidationArgs | PolicyResource) -> Resource:
    options = args.opts
    parent = getattr(args, "parent", None)
    return Resource(
        type=args.resource_type,
        name=args.name,
        urn=args.urn,
        custom="::" in args.urn and not args.resource_type.startswith("hybrid-mlops:"),
        inputs=plain(args.props),
        outputs={},
        parent=parent.urn if parent else None,
        provider=args.provider.urn if args.provider else None,
        dependencies=[one.urn for one in getattr(args, "dependencies", [])],
        property_dependencies={
            key: [one.urn for one in found] for key, found in getattr(args, "property_dependencies", {}).items()
        },
        protect=bool(options.protect),
    )


def plain(value: Any) -> Any:
    """What Pulumi hands over, as plain data in which UNKNOWN stands for what is not known."""
    if isinstance(value, Mapping):
        return {key: _known(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_known(value, index) for index in range(len(value))]
    return value


def _known(value: Any, key: Any) -> Any:
    try:
        return plain(value[key])
    except UnknownValueError:
        return UNKNOWN
