"""What a change does to a stack: the difference of two inventories, with what may hurt first.

Owns how the comparisons come together; each is in the file of its subject.
"""

from collections.abc import Hashable
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field

from inventory.capacity import Capacity, PoolChange, capacity, pool_changes
from inventory.exposure import Exposure, exposure
from inventory.permissions import Grant, permissions
from inventory.resources import Inventory
from inventory.values import with_references
from mlops.changes.changes import Change, changes, is_told
from mlops.changes.headlines import Headline, headlines
from mlops.changes.properties import Property, properties


class Difference(BaseModel):
    """All that changes between two inventories of a stack."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack: str = Field(description="The stack's name.")
    headlines: list[Headline] = Field(description="What may hurt, worst first.")
    changes: list[Change] = Field(description="Every resource that changes, by type and name.")
    old_capacity: Capacity = Field(description="The capacity before.")
    new_capacity: Capacity = Field(description="The capacity after.")
    pools: list[PoolChange] = Field(description="Pools of which anything changes.")
    grants_added: list[Grant] = Field(description="Grants that there were not.")
    grants_removed: list[Grant] = Field(description="Grants that there are no more.")
    exposure_added: list[Exposure] = Field(description="Ways in that there were not.")
    exposure_removed: list[Exposure] = Field(description="Ways in that there are no more.")
    outputs: list[Property] = Field(description="The stack's outputs that change.")


def difference(before: Inventory, after: Inventory) -> Difference:
    """What changes from one inventory of a stack to another."""
    before, after = with_references(before), with_references(after)
    old_capacity, new_capacity = capacity(before), capacity(after)
    pools = pool_changes(old_capacity, new_capacity)
    grants = _new_and_gone(permissions(before), permissions(after))
    ways = _new_and_gone(exposure(before), exposure(after))
    machines = {(pool.old.machine_type, pool.new.machine_type) for pool in pools if pool.old and pool.new}
    found = [_marked(change, machines) for change in changes(before, after)]
    images = {image for change in found for image in change.images}
    outputs = properties(before.outputs, after.outputs)
    return Difference(
        stack=after.stack,
        headlines=headlines(found, {resource.urn: resource for resource in before.resources}, pools, grants, ways[0]),
        changes=found,
        old_capacity=old_capacity,
        new_capacity=new_capacity,
        pools=pools,
        grants_added=grants[0],
        grants_removed=grants[1],
        exposure_added=ways[0],
        exposure_removed=ways[1],
        outputs=[item.model_copy(update={"told": is_told(item, images)}) for item in outputs],
    )


def _marked(change: Change, machines: set[tuple[str | None, str | None]]) -> Change:
    """A change whose machine types are marked as told, where they are those of a pool that changes."""
    items = [
        item.model_copy(update={"told": True})
        if item.path.rpartition(".")[2] == "machineType" and (item.old, item.new) in machines
        else item
        for item in change.properties
    ]
    return change.model_copy(update={"properties": items})


_Row = TypeVar("_Row", Grant, Exposure)


def _new_and_gone(old: list[_Row], new: list[_Row]) -> tuple[list[_Row], list[_Row]]:
    """Rows that there were not, and that there are no more; who makes them is no difference."""

    def without(rows: list[_Row], others: list[_Row]) -> list[_Row]:
        known: set[Hashable] = {row.key for row in others}
        return list({row.key: row for row in rows if row.key not in known}.values())

    return without(new, old), without(old, new)
