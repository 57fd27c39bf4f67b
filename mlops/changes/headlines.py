"""What of a change may hurt, a line each: what a reviewer reads first.

Owns what counts as that, and its order: data and identities that go, ways in from outside, wider permissions, machines,
images. It judges by what the program says alone; rules of the project are policies.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from inventory.capacity import PoolChange
from inventory.exposure import Exposure
from inventory.permissions import Grant
from inventory.resources import Resource
from inventory.stateful import LOST
from mlops.changes.changes import Change
from mlops.changes.figures import pool_change


class Headline(BaseModel):
    """Something that may hurt."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["deletion", "protection", "exposure", "permission", "machine type", "capacity", "image"] = Field(
        description="In which way."
    )
    text: str = Field(description="One line.")
    covers: list[tuple[str, ...]] = Field(
        default=[], exclude=True, description="Keys of the rows (grants, ways in, pools) that it says all of."
    )


def headlines(
    changes: Sequence[Change],
    old: dict[str, Resource],
    pools: Iterable[PoolChange],
    grants: tuple[Sequence[Grant], Sequence[Grant]],
    ways: Iterable[Exposure],
) -> list[Headline]:
    """What may hurt, worst first.

    Args:
        changes: Every resource that changes.
        old: The resources before, by URN.
        pools: Pools that change.
        grants: Grants that there were not, and that there are no more.
        ways: Ways in that there were not.
    """
    return [
        *_deletions(changes, old),
        *(_way(row) for row in ways if row.public is not False),
        *_wider(*grants),
        *_machines(pools),
        *_images(changes),
    ]


def _deletions(changes: Iterable[Change], old: dict[str, Resource]) -> Iterator[Headline]:
    for change in changes:
        what = f"{short_type(change.type)} {change.name}"
        if change.action == "removed":
            resource = old[change.urn]
            if resource.protect or change.type in LOST:
                lost = f", and with it {LOST[change.type]}" if change.type in LOST else ""
                refused = "; it is protected, so Pulumi refuses" if resource.protect else ""
                kept = f"{what} leaves the stack, and stays in the cloud"
                yield Headline(
                    kind="deletion", text=kept if resource.retain_on_delete else f"{what} is deleted{lost}{refused}"
                )
        if any(item.path == "(protect)" and item.old is True for item in change.properties):
            yield Headline(kind="protection", text=f"{what} is protected no more")


def _way(row: Exposure) -> Headline:
    verb = "can" if row.public else "may"
    return Headline(
        kind="exposure", text=f"{row.target} {verb} be reached from {row.source}: {row.way}", covers=[row.key]
    )


# How much a role allows, by the last word of its name; what is not here is not compared.
_RANKS = {
    **dict.fromkeys(("viewer", "reader", "accessor", "browser", "read"), 1),
    **dict.fromkeys(("user", "creator", "writer", "write"), 2),
    **dict.fromkeys(("editor", "developer"), 3),
    **dict.fromkeys(("admin", "owner"), 4),
}


def _rank(role: str) -> int | None:
    words = re.findall(r"[A-Z]?[a-z]+", role)
    return _RANKS.get(words[-1].lower()) if words else None


def _wider(added: Iterable[Grant], removed: Iterable[Grant]) -> Iterator[Headline]:
    """Grants that there were not; one in another's place is told with it, and not at all if it allows less."""
    freed: dict[tuple[str, str], list[Grant]] = {}
    for grant in removed:
        freed.setdefault((grant.principal, grant.resource), []).append(grant)
    for grant in added:
        earlier = freed.get((grant.principal, grant.resource))
        if not earlier:
            covers = [grant.key]
            condition = f" if {grant.condition}" if grant.condition else ""
            text = f"{grant.principal} gets {grant.role} on {grant.resource}{condition}"
        else:
            old = earlier.pop(0)
            covers = [grant.key, old.key]
            before, after = _rank(old.role), _rank(grant.role)
            if before is not None and after is not None and after < before:
                continue
            if old.role == grant.role:
                change = f"{grant.role}, condition {old.condition or 'none'} -> {grant.condition or 'none'},"
            else:
                change = f"{old.role} -> {grant.role}"
                if old.condition != grant.condition:
                    change += f", condition {old.condition or 'none'} -> {grant.condition or 'none'},"
            text = f"{grant.principal}: {change} on {grant.resource}"
        yield Headline(kind="permission", text=text, covers=covers)


def _machines(pools: Iterable[PoolChange]) -> Iterator[Headline]:
    for pool in pools:
        old, new = pool.old, pool.new
        if old and new and old.machine_type != new.machine_type:
            yield Headline(kind="machine type", text=pool_change(pool), covers=[(pool.name,)])
        elif new and (new.maximum.machines or 0) > ((old.maximum.machines or 0) if old else 0):
            yield Headline(kind="capacity", text=pool_change(pool), covers=[(pool.name,)])


def _images(changes: Iterable[Change]) -> Iterator[Headline]:
    users: dict[tuple[str, str, str], list[str]] = {}
    for change in changes:
        for image in change.images:
            users.setdefault(image, []).append(f"{short_type(change.type)} {change.name}")
    for (name, old, new), names in sorted(users.items()):
        yield Headline(kind="image", text=f"{name}: {old} -> {new} in {some(names)}")


def short_type(token: str) -> str:
    """A type as people call it: `compute.InstanceTemplate`, `Job`."""
    if token.startswith("pulumi:providers:"):
        return "Provider"
    package, _, rest = token.partition(":")
    kind = rest.rpartition(":")[2]
    return f"{rest.partition('/')[0]}.{kind}" if package == "gcp" else kind or token


def some(names: Sequence[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
