"""The parts of Google Cloud's resources: machines wherever they are described, grants, and ways in."""

from collections.abc import Iterator, Mapping
from typing import Any

from inventory.exposure import exposure
from inventory.permissions import permissions
from inventory.resources import Inventory, Resource
from policy.rule import Part, Stack, whole

INSTANCES = (
    "gcp:compute/instance:Instance",
    "gcp:compute/instanceTemplate:InstanceTemplate",
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate",
)
NODE_POOL = "gcp:container/nodePool:NodePool"
CLUSTER = "gcp:container/cluster:Cluster"
MACHINES = (*INSTANCES, NODE_POOL, CLUSTER)
FIREWALL = "gcp:compute/firewall:Firewall"
ACCOUNT = "gcp:serviceaccount/account:Account"


def machines(resource: Resource) -> Iterator[Part]:
    """Every description of machines in a resource: an instance template's own, a node pool's or a cluster's inside."""
    for part in whole(resource):
        yield from _machines(part, part.value)


def _machines(part: Part, value: Any, where: str = "") -> Iterator[Part]:
    if isinstance(value, Mapping):
        if "machineType" in value:
            yield part.inner(value, where) if where else part
        for key, below in value.items():
            yield from _machines(part, below, f"{where}.{key}" if where else key)
    elif isinstance(value, list):
        for below in value:
            yield from _machines(part, below, where)


def attached(stack: Stack) -> frozenset[str]:
    """The URNs of service accounts that machines act as."""
    found: set[str] = set()
    for resource in stack.inventory.resources:
        for key in ("serviceAccount", "nodeConfig"):
            found.update(resource.property_dependencies.get(key, []))
    return frozenset(found)


def grants(resource: Resource) -> Iterator[Part]:
    """Every grant that a resource makes: `principal`, `role`, `resource` and `condition`."""
    for grant in permissions(_alone(resource)):
        yield Part(resource, grant.model_dump())


def ways_in(resource: Resource) -> Iterator[Part]:
    """Every way in that a resource opens: `source`, `target`, `way` and `public`."""
    for way in exposure(_alone(resource)):
        yield Part(resource, way.model_dump())


def _alone(resource: Resource) -> Inventory:
    return Inventory(stack="", mode="preview", resources=[resource], outputs={})
