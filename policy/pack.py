"""The rules as Pulumi's policies, for `pulumi preview --policy-pack policy`.

Owns the translation alone: what the engine hands over becomes the same inventory that a plan is judged by. A mandatory
rule that looks at one resource stops its registration, also in an update without a preview. One across resources is
applied at the end, when all are known: it stops an update only through the preview before it.

At the end the engine hands over what providers answered, in a preview often nothing. What the program sent is
therefore kept from each registration until then.

Pulumi knows a pass, a violation and "not applicable", which it does not show. What is not decided is therefore no pass
of its rule, and is told by an advisory policy of its own at the end.
"""

import datetime
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pulumi_policy.policy as sdk
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
from pulumi_policy.deserialize import SPECIAL_SECRET_SIG, SPECIAL_SIG_KEY
from pulumi_policy.proxy import UnknownValueError

from inventory.resources import SECRET, UNKNOWN, Inventory, Resource
from policy.judge import EXPIRED, apply, judge, levels_of
from policy.rule import Level, Rule, Stack
from policy.settings import PolicySettings
from policy.verdicts import Verdict

UNDECIDED = "not-decided"
SEEN = "every-resource-seen"
_STACK = "pulumi:pulumi:Stack"
_NAMES = 3
"""So many resources are named of each rule that is not decided."""


@dataclass
class _Sent:
    """What the program sent, by URN, as far as it was registered."""

    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def policy(self) -> Policy:
        """Keeps it, and finds nothing wrong with it."""

        def keep(args: ResourceValidationArgs, _: ReportViolation) -> None:
            self.inputs[args.urn] = plain(args.props)

        return ResourceValidationPolicy(
            name=SEEN,
            description="Rules across resources judge every resource as the program sends it.",
            enforcement_level=EnforcementLevel.ADVISORY,
            validate=keep,
        )

    def resources(self, args: StackValidationArgs, *, answered: bool) -> list[Resource]:
        """The stack's resources, without the stack itself, as in a plan.

        Args:
            args: What the engine hands over at the end.
            answered: Add to their inputs what their providers answered, by which one knows another.
        """
        found = []
        for one in args.resources:
            if one.resource_type != _STACK:
                resource = _resource(one)
                sent = self.inputs.get(one.urn, resource.inputs)
                inputs = resource.inputs | sent if answered else sent
                found.append(resource.model_copy(update={"inputs": inputs}))
        return found


def policies(rules: Sequence[Rule], settings: PolicySettings, today: datetime.date) -> list[Policy]:
    """Every rule that is not disabled as a policy of its own, and what belongs to all of them."""
    levels = levels_of(rules, settings)
    used = [rule for rule in rules if levels[rule.id] is not Level.DISABLED]
    sent = _Sent()
    own = [_policy(rule, levels[rule.id], settings, today, sent) for rule in used]
    return [sent.policy(), *own, _expired(settings, today), _undecided(used, settings, sent)]


def _policy(rule: Rule, level: Level, settings: PolicySettings, today: datetime.date, sent: _Sent) -> Policy:
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
        "remediation_steps": rule.fix,
    }

    def tell(
        args: ResourceValidationArgs | StackValidationArgs, resources: Iterable[Resource], report: ReportViolation
    ) -> None:
        verdicts = [one for one in judge(_inventory(resources), own, [rule], today) if one.rule == rule.id]
        for verdict in verdicts:
            if verdict.state == "violated":
                place = f"{verdict.resource}{', ' if verdict.where else ''}{verdict.where}"
                report(f"{place}: {verdict.message}. {verdict.fix}", verdict.urn)
        states = {verdict.state for verdict in verdicts}
        if "not decided" in states and "violated" not in states:
            args.not_applicable("not decided")

    if _at_the_end(rule):

        def of_stack(args: StackValidationArgs, report: ReportViolation) -> None:
            tell(args, sent.resources(args, answered=True), report)

        return StackValidationPolicy(validate=of_stack, **about)

    def of_resource(args: ResourceValidationArgs, report: ReportViolation) -> None:
        if rule.looks_at(args.resource_type):
            tell(args, [_resource(args)], report)

    return ResourceValidationPolicy(validate=of_resource, **about)


def _at_the_end(rule: Rule) -> bool:
    return rule.across or not rule.types


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


def _undecided(rules: Sequence[Rule], settings: PolicySettings, sent: _Sent) -> Policy:
    def check(args: StackValidationArgs, report: ReportViolation) -> None:
        found: list[Verdict] = []
        for at_the_end in (False, True):
            inventory = _inventory(sent.resources(args, answered=at_the_end))
            for rule in rules:
                if _at_the_end(rule) is at_the_end:
                    stack = Stack(inventory, settings.parameters)
                    found += [one for one in apply(rule, rule.level, stack) if one.state == "not decided"]
        by_rule = groupby(sorted(found, key=lambda one: one.rule), key=lambda one: one.rule)
        if lines := [f"{rule}: {_named(list(group))}" for rule, group in by_rule]:
            report("\n".join(lines), None)

    return StackValidationPolicy(
        name=UNDECIDED,
        description="Rules that need what is known only later, or is secret: neither kept nor broken so far.",
        enforcement_level=EnforcementLevel.ADVISORY,
        validate=check,
    )


def _named(verdicts: Sequence[Verdict]) -> str:
    told = dict.fromkeys(f"{one.resource} ({one.message})" for one in verdicts)
    more = f" and {len(told) - _NAMES} more" if len(told) > _NAMES else ""
    return f"{', '.join(list(told)[:_NAMES])}{more}"


def _inventory(resources: Iterable[Resource]) -> Inventory:
    listed = list(resources)
    stack = listed[0].urn.split(":")[2] if listed else "none"
    return Inventory(stack=stack, mode="preview", resources=listed, outputs={})


def _resource(args: ResourceValidationArgs | PolicyResource) -> Resource:
    parent = getattr(args, "parent", None)
    return Resource(
        type=args.resource_type,
        name=args.name,
        urn=args.urn,
        custom=not args.resource_type.startswith(f"{args.urn.split(':')[4]}:"),
        inputs=plain(args.props),
        outputs={},
        parent=parent.urn if parent and parent.resource_type != _STACK else None,
        provider=args.provider.urn if args.provider else None,
        dependencies=[one.urn for one in getattr(args, "dependencies", [])],
        property_dependencies={
            key: [one.urn for one in found] for key, found in getattr(args, "property_dependencies", {}).items()
        },
        protect=bool(args.opts.protect),
    )


def mark_secrets() -> None:
    """Let rules see a mark where a secret is, as in a plan, and not its value.

    The engine says which values are secret, and Pulumi's package opens them for policies before they are asked.
    """
    # The package has no setting for it.
    opened: Callable[..., dict[str, Any]] = sdk.deserialize_properties  # pyright: ignore[reportPrivateImportUsage]

    def marked(properties: dict[str, Any], *more: Any) -> dict[str, Any]:
        return opened(_marked(properties), *more)

    sdk.deserialize_properties = marked  # pyright: ignore[reportPrivateImportUsage]


def _marked(value: Any) -> Any:
    if isinstance(value, dict):
        secret = value.get(SPECIAL_SIG_KEY) == SPECIAL_SECRET_SIG
        return SECRET if secret else {key: _marked(inner) for key, inner in value.items()}
    return [_marked(inner) for inner in value] if isinstance(value, list) else value


def plain(value: Any) -> Any:
    """What Pulumi hands over, as plain data in which UNKNOWN stands for what is not known."""
    if isinstance(value, Mapping):
        return {key: _known(value, key) for key in value}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_known(value, index) for index in range(len(value))]
    # The engine sends every number as a float.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _known(value: Any, key: Any) -> Any:
    try:
        return plain(value[key])
    except UnknownValueError:
        return UNKNOWN
