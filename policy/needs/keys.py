"""What is encrypted needs someone who may use its key.

Owns: that a service of Google's holds a key before the first thing that it is to encrypt with it. Deliberately not:
which service that is.
"""

from collections.abc import Iterator
from itertools import chain

from policy.needs.kubernetes import RELEASE
from policy.needs.machines import MACHINES, groups
from policy.needs.supply import KEY, ON_KEY, Need, Supply, urns


def needs(supply: Supply) -> Iterator[Need]:
    """What everything that names a key needs."""
    keys = urns(supply.of(KEY))
    for resource in supply.inventory.resources:
        if not resource.custom or "IAMMember" in resource.type or resource.type == RELEASE:
            continue
        who = f"{resource.type.rpartition(':')[2]} {resource.name}"
        # What only names a key for others to use waits for these where they start.
        starts = list(groups(supply, resource)) if resource.type in MACHINES else [resource.urn]
        for key in sorted(keys.intersection(chain.from_iterable(resource.property_dependencies.values()))):
            met = urns(one for one in supply.of(ON_KEY) if key in one.property_dependencies.get("cryptoKeyId", []))
            for urn in starts:
                yield Need(who, urn, f"that someone may use the key {supply.by_urn[key].inputs.get('name')}", met)
