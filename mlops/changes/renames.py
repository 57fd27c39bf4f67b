"""Which resource is the successor of which: by URN, or by an alias, as Pulumi's engine resolves them.

Owns aliases. Without one a resource of another name is another resource, deleted and created; `hints` says which alias
would keep it.
"""

import json
import re
from collections.abc import Hashable, Iterator, Sequence

from inventory.resources import Resource


def predecessors(old: dict[str, Resource], resources: Sequence[Resource]) -> dict[str, str]:
    """The URN that each resource had before, for those that there were: the same one, or one that an alias names."""
    was = {resource.urn: resource.urn for resource in resources if resource.urn in old}
    taken = set(was)
    renamed: dict[str, set[str]] = {}
    for resource in resources:
        if resource.urn in was:
            continue
        earlier = _aliases(resource, renamed)
        renamed[resource.urn] = earlier
        if found := next((urn for urn in sorted(earlier) if urn in old and urn not in taken), None):
            was[resource.urn] = found
            taken.add(found)
    return was


def _aliases(resource: Resource, renamed: dict[str, set[str]]) -> set[str]:
    """Every URN that a resource may have had: by its own aliases, and by those of what it is in."""
    stack = resource.urn.rpartition("::")[0].rsplit("::", 1)[0]
    parents = {resource.parent, *renamed.get(resource.parent or "", ())}

    def urn(parent: str | None, kind: str, name: str) -> str:
        chain = parent.split("::")[2] + "$" if parent and not _is_stack(parent) else ""
        return f"{stack}::{chain}{kind}::{name}"

    def names(name: str, parent: str | None) -> str:
        # A child that is named after its parent was named after the parent's earlier name.
        own = _name(resource.parent)
        return _name(parent) + name[len(own) :] if own and parent and name.startswith(own) else name

    found = {urn(parent, resource.type, names(resource.name, parent)) for parent in parents}
    for alias in resource.aliases:
        if alias.startswith("urn:"):
            found.add(alias)
            continue
        spec = json.loads(alias)
        if spec.get("noParent"):
            above: set[str | None] = {None}
        else:
            above = {spec["parentUrn"]} if spec.get("parentUrn") else parents
        found |= {
            urn(parent, spec.get("type") or resource.type, spec.get("name") or names(resource.name, parent))
            for parent in above
        }
    return found - {resource.urn}


def _is_stack(urn: str) -> bool:
    return urn.split("::")[2] == "pulumi:pulumi:Stack"


def _name(urn: str | None) -> str:
    return urn.split("::", 3)[3] if urn else ""


def hints(removed: list[Resource], added: list[Resource]) -> dict[str, str]:
    """For what looks like a rename without an alias, the alias to add, by the new URN."""
    moved = {(resource.type, resource.name): resource for resource in removed}
    alike = {likeness: resource for resource in removed for likeness in _likenesses(resource)}
    found = {}
    for resource in added:
        if earlier := moved.get((resource.type, resource.name)):
            parent = repr(earlier.parent) if earlier.parent else "pulumi.ROOT_STACK_RESOURCE"
            alias = f"pulumi.Alias(parent={parent})"
        elif earlier := next(filter(None, map(alike.get, _likenesses(resource))), None):
            alias = f"pulumi.Alias(name={earlier.name!r})" if earlier.parent == resource.parent else repr(earlier.urn)
        else:
            continue
        found[resource.urn] = f"deletes {earlier.name} and creates this; if it is the same one, add aliases=[{alias}]"
    return found


def _likenesses(resource: Resource) -> Iterator[Hashable]:
    """What two resources share that differ in nothing but their name, whether their inputs repeat it or not."""
    if resource.inputs:
        text = json.dumps(resource.inputs, sort_keys=True)
        yield resource.type, text
        # As a word: a short name is in many others.
        yield resource.type, re.sub(rf"(?<![A-Za-z0-9]){re.escape(resource.name)}(?![A-Za-z0-9])", "\0", text)
