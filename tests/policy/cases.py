"""A failing case of a rule: a real stack with one thing changed, and what the rule then says."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from inventory.resources import Inventory, Resource
from policy.judge import Verdict, judge
from policy.rules import ALL
from policy.settings import load
from tests.policy.conftest import TODAY, stack


@dataclass(frozen=True)
class Case:
    """One failing case.

    Attributes:
        rule: The rule that is broken.
        resource: The logical name of the resource that is changed; `stack` for the stack's outputs.
        edit: Changes the resource's inputs, or the stack's outputs, in place; or returns the attributes of the resource
            to replace.
        says: What is in the verdict's place or message.
        of: The stack.
        also: Other rules that the same change breaks; what follows from it across resources is not told here.
        verdict: The name of what is told, where it is not the resource: `stack`.
    """

    rule: str
    resource: str
    edit: Callable[[dict[str, Any]], object]
    says: str
    of: str = "prod"
    also: tuple[str, ...] = ()
    verdict: str | None = None

    def __str__(self) -> str:
        """The name of the test."""
        return f"{self.rule}: {self.resource}"


def put(*path: str | int, to: Any) -> Callable[[dict[str, Any]], object]:
    """An edit that sets one value; None takes the key away."""

    def edit(inputs: dict[str, Any]) -> None:
        place: Any = inputs
        for key in path[:-1]:
            place = place.setdefault(key, {}) if isinstance(place, dict) else place[key]
        if to is None:
            del place[path[-1]]
        else:
            place[path[-1]] = to

    return edit


def becomes(**attributes: Any) -> Callable[[dict[str, Any]], object]:
    """An edit of the resource's options, or of its type."""
    return lambda _: attributes


def check(case: Case) -> None:
    """The stack as it is keeps the rule, the changed one breaks it, and what is told is the changed thing."""
    before = _as_it_is(case.of)
    assert case.rule not in {verdict.rule for verdict in before}
    found = [verdict for verdict in _broken(_changed(stack(case.of), case)) if verdict not in before]
    told = [verdict for verdict in found if verdict.rule == case.rule]
    assert {verdict.resource for verdict in told} == {case.verdict or case.resource}, told
    assert any(case.says in f"{verdict.where}: {verdict.message}" for verdict in told), told
    across = {rule.id for rule in ALL if rule.across}
    assert {verdict.rule for verdict in found} - across - {case.rule} == set(case.also), found


@cache
def _as_it_is(name: str) -> list[Verdict]:
    return _broken(stack(name))


def _broken(inventory: Inventory) -> list[Verdict]:
    found = judge(inventory, load(inventory.stack), ALL, TODAY)
    return [verdict for verdict in found if verdict.state == "violated" and not verdict.rule.startswith("exemption-")]


def _changed(inventory: Inventory, case: Case) -> Inventory:
    if case.resource == "stack":
        outputs = copy.deepcopy(inventory.outputs)
        case.edit(outputs)
        assert outputs != inventory.outputs, "the edit changes nothing"
        return inventory.model_copy(update={"outputs": outputs})

    def changed(resource: Resource) -> Resource:
        if resource.name != case.resource or not resource.custom:
            return resource
        inputs = copy.deepcopy(resource.inputs)
        attributes = case.edit(inputs)
        new = resource.model_copy(update={"inputs": inputs, **(attributes if isinstance(attributes, dict) else {})})
        assert new != resource, "the edit changes nothing"
        return new

    resources = [changed(resource) for resource in inventory.resources]
    assert resources != inventory.resources, f"there is no {case.resource} in {case.of}"
    return inventory.model_copy(update={"resources": resources})
