"""What the rules' tests share: each stack as it is, recorded once, and a copy of a resource with one thing changed."""

import copy
import datetime
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from inventory.resources import Inventory, Resource
from inventory.values import with_references
from policy.judge import judge
from policy.rules import ALL
from policy.settings import PolicySettings
from policy.verdicts import Verdict
from tests.stack_inventories import inventory

TODAY = datetime.date(2026, 1, 1)


@cache
def stack(name: str, *, preview: bool = False) -> Inventory:
    """A stack's resources, as a plan judges them."""
    return with_references(inventory(name, preview=preview))


def changed(inventory: Inventory, type_token: str, name: str, edit: Callable[[dict[str, Any]], object]) -> Inventory:
    """The inventory with the inputs of one resource edited; `name` is its logical name."""

    def edited(resource: Resource) -> Resource:
        if (resource.type, resource.name) != (type_token, name):
            return resource
        inputs = copy.deepcopy(resource.inputs)
        edit(inputs)
        assert inputs != resource.inputs, "the edit changes nothing"
        return resource.model_copy(update={"inputs": inputs})

    resources = [edited(resource) for resource in inventory.resources]
    assert resources != inventory.resources, f"there is no {type_token} {name}"
    return inventory.model_copy(update={"resources": resources})


def violated(inventory: Inventory, rule: str, settings: PolicySettings | None = None) -> list[Verdict]:
    """What one rule finds broken."""
    found = judge(inventory, settings or PolicySettings(), ALL, TODAY)
    return [verdict for verdict in found if verdict.rule == rule and verdict.state == "violated"]


@pytest.fixture(scope="session", params=["local", "dev", "staging", "prod"])
def each_stack(request: pytest.FixtureRequest) -> Inventory:
    """Every real stack."""
    return stack(request.param)
