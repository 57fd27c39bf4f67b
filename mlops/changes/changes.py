"""Which resources a change adds, removes, changes and renames.

Owns the comparison of resources by URN. It deliberately does not say what is replaced: that is the providers'
knowledge, in a real preview. A value that is secret in both inventories cannot be compared.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from inventory.resources import Inventory, Resource
from mlops.changes.images import Image, image_changes
from mlops.changes.properties import Property, properties
from mlops.changes.renames import hints, predecessors

# Dependencies are not among them: they follow from the inputs.
_OPTIONS = (
    *("protect", "retain_on_delete", "delete_before_replace", "deleted_with", "ignore_changes"),
    *("replace_on_changes", "additional_secret_outputs", "import_id", "parent", "provider", "version"),
)


class Change(BaseModel):
    """One resource that changes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    action: Literal["added", "removed", "changed", "renamed"] = Field(description="What happens to it.")
    type: str = Field(description="Type token.")
    name: str = Field(description="Logical name.")
    urn: str = Field(description="URN; of a removed resource the one that it had.")
    old_urn: str | None = Field(default=None, description="Of a renamed resource, the URN that it had.")
    properties: list[Property] = Field(default=[], description="What changes of it.")
    images: list[Image] = Field(default=[], description="Images that change: name, tag or digest before and after.")
    hint: str | None = Field(default=None, description="Of an added one: the alias that would make it a rename.")


def changes(before: Inventory, after: Inventory) -> list[Change]:
    """Every resource that changes, by type and name; of components, which are nothing in a cloud, none."""
    old = {resource.urn: resource for resource in before.resources}
    was = predecessors(old, after.resources)
    kept = set(was.values())
    removed = [resource for resource in before.resources if resource.urn not in kept]
    added = [resource for resource in after.resources if resource.urn not in was]
    hint = hints(removed, added)
    found = [_change("removed", resource) for resource in removed]
    found += [_change("added", resource, hint=hint.get(resource.urn)) for resource in added]
    for resource in after.resources:
        if earlier := old.get(was.get(resource.urn, "")):
            found += _compared(earlier, resource, was)
    components = {resource.urn for resource in (*before.resources, *after.resources) if not resource.custom}
    found = [change for change in found if change.urn not in components]
    return sorted(found, key=lambda change: (change.urn.split("::")[2], change.name, change.action))


def _change(
    action: Literal["added", "removed", "changed", "renamed"], resource: Resource, hint: str | None = None
) -> Change:
    return Change(action=action, type=resource.type, name=resource.name, urn=resource.urn, hint=hint)


def _compared(old: Resource, new: Resource, was: dict[str, str]) -> Iterator[Change]:
    found = list(properties(old.inputs, new.inputs))
    images = image_changes(old.inputs, new.inputs) if found else []
    found = [item.model_copy(update={"told": is_told(item, images)}) for item in found]
    found += _options(old, new, was)
    renamed = old.urn != new.urn
    if found or renamed:
        change = _change("renamed" if renamed else "changed", new)
        yield change.model_copy(update={"properties": found, "images": images, "old_urn": old.urn if renamed else None})


def _options(old: Resource, new: Resource, was: dict[str, str]) -> Iterator[Property]:
    for option in _OPTIONS:
        before, after = getattr(old, option), getattr(new, option)
        # What is renamed itself is still the same parent, or provider.
        if before != after and not (isinstance(after, str) and was.get(after) == before):
            yield Property(path=f"({option})", old=before, new=after)


def is_told(item: Property, images: Iterable[Image]) -> bool:
    """Whether a change of images is all that a property's change is."""
    if item.text:
        lines = [line for line in item.text if not line.startswith("@@")]
        before = "\n".join(line[1:] for line in lines if line.startswith("-"))
        after = "\n".join(line[1:] for line in lines if line.startswith("+"))
    else:
        before, after = str(item.old), str(item.new)
    for name, old, new in images:
        for mark in (":", "@", "/"):
            before = before.replace(f"{name}{mark}{old}", f"{name}{mark}{new}")
    return before == after
