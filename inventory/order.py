"""What each resource of a stack waits for. Owns the order that Pulumi goes by, and judges none."""

from collections.abc import Mapping

from inventory.resources import Inventory, Resource


def ancestors(inventory: Inventory) -> Mapping[str, frozenset[str]]:
    """What each resource waits for, through whatever is between."""
    by_urn = {resource.urn: resource for resource in inventory.resources}
    found: dict[str, frozenset[str]] = {}
    for urn in by_urn:
        stack = [urn]
        while stack:
            current = stack[-1]
            direct = _direct(by_urn[current]) & by_urn.keys()
            if missing := [other for other in direct if other not in found and other not in stack]:
                stack.append(missing[0])
                continue
            found[current] = frozenset(direct).union(*(found.get(other, frozenset()) for other in direct))
            stack.pop()
    return found


def _direct(resource: Resource) -> set[str]:
    # A child is registered when its parent is, and that is when what the parent depends on is there.
    above = {urn for urn in (resource.provider, resource.parent) if urn}
    return above.union(resource.dependencies, *resource.property_dependencies.values())
