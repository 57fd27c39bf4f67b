"""What a stack may come to: machines, vCPU, memory and disk of every pool, at its smallest and at its largest.

Owns the arithmetic, over an inventory alone. It deliberately knows no price, and counts no machine that an update adds
for its own duration. Sizes are of n1, the only family that the platform uses; of another one machines and disks are
counted, and the rest is said to be unknown.

Between which numbers Nomad Autoscaler moves an instance group stands in no resource of Google's, since the group's
target size is then nobody's input. It is read from the labels `mlops-min` and `mlops-max`: of the group's
`allInstancesConfig`, which change without a new template, or else of its instance template.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from infra import machines
from inventory.resources import UNKNOWN, Inventory, Model, Resource
from inventory.values import at, every, number

# A local SSD of Compute Engine is 375 GB: https://cloud.google.com/compute/docs/disks/local-ssd.
_LOCAL_SSD = 375
# "Defaults to 100GB", says pulumi_gcp of NodePool's nodeConfig.diskSizeGb.
_NODE_DISK = 100
# A regional cluster runs nodes in three zones unless it is told which:
# https://cloud.google.com/kubernetes-engine/docs/concepts/regional-clusters.
_ZONES = 3

_TEMPLATES = (
    "gcp:compute/instanceTemplate:InstanceTemplate",
    "gcp:compute/regionInstanceTemplate:RegionInstanceTemplate",
)
_GROUPS = (
    "gcp:compute/instanceGroupManager:InstanceGroupManager",
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager",
)
_AUTOSCALERS = ("gcp:compute/autoscaler:Autoscaler", "gcp:compute/regionAutoscaler:RegionAutoscaler")
_CLUSTER = "gcp:container/cluster:Cluster"


class Amount(Model):
    """So much of everything; None where it is not known."""

    machines: int | None = Field(description="Machines.")
    vcpu: float | None = Field(description="vCPU.")
    memory_gb: float | None = Field(description="Memory in Google's GB, 2^30 bytes.")
    disk_gb: float | None = Field(description="Disks, boot disks and local SSDs among them, in GB.")


class Pool(Model):
    """Machines of one kind."""

    name: str = Field(description="The resource's logical name.")
    urn: str = Field(description="The URN of the group, node pool, machine or disk.")
    kind: Literal["instance group", "node pool", "machine", "disk"] = Field(description="What it is.")
    machine_type: str | None = Field(default=None, description="Machine type; None for a disk, or if unknown.")
    spot: bool = Field(default=False, description="Whether Google may take the machines away at any time.")
    scaled_by: Literal["Nomad Autoscaler", "Compute Engine", "GKE"] | None = Field(
        default=None, description="What moves it between minimum and maximum; None for a fixed size."
    )
    each: Amount = Field(description="One machine, or one disk.")
    minimum: Amount = Field(description="The whole pool at its smallest.")
    maximum: Amount = Field(description="The whole pool at its largest.")


class Capacity(Model):
    """A stack's pools and their sums."""

    pools: list[Pool] = Field(description="By kind and name.")
    minimum: Amount = Field(description="The sum of what is known of the pools' minimums.")
    maximum: Amount = Field(description="The sum of what is known of the pools' maximums.")
    unknown: list[str] = Field(description="Names of pools of which something is not known, so missing in the sums.")


class PoolChange(Model):
    """A pool before and after."""

    name: str = Field(description="The pool's name.")
    old: Pool | None = Field(description="None if it is added.")
    new: Pool | None = Field(description="None if it is removed.")


def capacity(inventory: Inventory) -> Capacity:
    """The capacity of a stack."""
    # Not in the order of registration, which is another one at each run.
    pools = sorted(_pools(inventory), key=lambda pool: (pool.kind, pool.name, pool.urn))
    unknown = [
        pool.name
        for pool in pools
        if any(value is None for amount in (pool.minimum, pool.maximum) for value in amount.model_dump().values())
    ]
    return Capacity(
        pools=pools,
        minimum=_sum(pool.minimum for pool in pools),
        maximum=_sum(pool.maximum for pool in pools),
        unknown=unknown,
    )


def pool_changes(old: Capacity, new: Capacity) -> list[PoolChange]:
    """Pools of which anything changes, by kind and name."""
    before = {(pool.kind, pool.name): pool for pool in old.pools}
    after = {(pool.kind, pool.name): pool for pool in new.pools}

    def figures(pool: Pool | None) -> object:
        return pool and pool.model_dump(exclude={"urn"})

    return [
        PoolChange(name=key[1], old=before.get(key), new=after.get(key))
        for key in sorted({*before, *after})
        if figures(before.get(key)) != figures(after.get(key))
    ]


def machine(machine_type: Any) -> tuple[float, float] | None:
    """How many vCPU and GB of memory an n1 machine type has; None if it is no such type, or not known."""
    if not isinstance(machine_type, str):
        return None
    # A type may be given by its URL, whose last part is its name.
    name = machine_type.rpartition("/")[2]
    if found := machines.machine(name):
        return found.vcpu, round(found.memory_mb / 1024, 2)
    if match := re.fullmatch(r"(?:n1-)?custom-(\d+)-(\d+)(?:-ext)?", name):
        return int(match[1]), int(match[2]) / 1024
    return None


def _pools(inventory: Inventory) -> Iterator[Pool]:
    by_urn = {resource.urn: resource for resource in inventory.resources}
    scalers = _by_target(inventory, by_urn)
    for resource in inventory.resources:
        if resource.type in _GROUPS:
            yield _group(resource, _template(resource, by_urn), scalers.get(resource.urn))
        elif resource.type == "gcp:container/nodePool:NodePool":
            yield _node_pool(resource, resource.inputs, _cluster(resource, by_urn), resource.name)
        elif resource.type == _CLUSTER:
            yield from _cluster_pools(resource)
        elif resource.type == "gcp:compute/instance:Instance":
            yield _pool(resource, "machine", resource.inputs, _instance_disks(resource.inputs), (1, 1))
        elif resource.type in ("gcp:compute/disk:Disk", "gcp:compute/regionDisk:RegionDisk"):
            size = number(resource.inputs.get("size"))
            # A regional disk is stored twice, and counts twice against a quota.
            each = size * (len(every(resource.inputs, "replicaZones")) or 1) if size is not None else None
            amount = Amount(machines=0, vcpu=0, memory_gb=0, disk_gb=each)
            yield Pool(name=resource.name, urn=resource.urn, kind="disk", each=amount, minimum=amount, maximum=amount)


def _pool(
    resource: Resource,
    kind: Literal["instance group", "node pool", "machine"],
    config: Mapping[str, Any],
    disk: float | None,
    size: tuple[float | None, float | None],
    scaled_by: Literal["Nomad Autoscaler", "Compute Engine", "GKE"] | None = None,
    name: str | None = None,
) -> Pool:
    machine_type = at(config, "machineType")
    vcpu, memory = machine(machine_type) or (None, None)
    each = Amount(machines=1, vcpu=vcpu, memory_gb=memory, disk_gb=disk)
    scheduling = at(config, "scheduling")
    return Pool(
        name=name or resource.name,
        urn=resource.urn,
        kind=kind,
        machine_type=machine_type if machine_type != UNKNOWN else None,
        spot=at(config, "spot") is True
        or at(config, "preemptible") is True
        or at(scheduling, "preemptible") is True
        or at(scheduling, "provisioningModel") == "SPOT",
        scaled_by=scaled_by,
        each=each,
        minimum=_times(each, size[0]),
        maximum=_times(each, size[1]),
    )


def _group(group: Resource, template: Resource | None, scaler: Resource | None) -> Pool:
    config = template.inputs if template else {}
    labels = next(
        (
            found
            for found in (at(group.inputs, "allInstancesConfig", "labels"), at(config, "labels"))
            if at(found, "mlops-max") is not None
        ),
        None,
    )
    disk = _disks(every(config, "disks"), "diskSizeGb") if template else None
    if labels is not None:
        size = number(at(labels, "mlops-min")), number(at(labels, "mlops-max"))
        return _pool(group, "instance group", config, disk, size, "Nomad Autoscaler")
    if scaler:
        policy = at(scaler.inputs, "autoscalingPolicy")
        size = number(at(policy, "minReplicas")), number(at(policy, "maxReplicas"))
        return _pool(group, "instance group", config, disk, size, "Compute Engine")
    # What the program does not manage says nothing of what there is.
    unmanaged = "targetSize" in group.ignore_changes
    target = None if unmanaged else number(group.inputs.get("targetSize"))
    return _pool(group, "instance group", config, disk, (target, target))


def _template(group: Resource, by_urn: Mapping[str, Resource]) -> Resource | None:
    """The instance template of a group's version that takes the rest of its size."""
    versions = every(group.inputs, "versions")
    main = next((version for version in versions if not at(version, "targetSize")), None)
    wanted = str(at(main, "instanceTemplate"))
    depended = [by_urn[urn] for urn in group.property_dependencies.get("versions", []) if urn in by_urn]
    templates = [resource for resource in depended if resource.type in _TEMPLATES]
    if len(templates) == 1:
        return templates[0]
    others = templates or [resource for resource in by_urn.values() if resource.type in _TEMPLATES]
    names = {name: resource for resource in others for name in _names(resource)}
    return next((names[name] for name in names if wanted == name or wanted.endswith(f"/{name}")), None)


def _names(template: Resource) -> Iterator[str]:
    if isinstance(name := template.inputs.get("name"), str):
        yield name
    for output in ("id", "selfLink", "selfLinkUnique"):
        yield f"${{{template.name}.{output}}}"
        yield f"{template.name}-{output}"


def _by_target(inventory: Inventory, by_urn: Mapping[str, Resource]) -> dict[str, Resource]:
    """Compute Engine's autoscalers by the URN of the group that they move."""
    found = {}
    for scaler in inventory.resources:
        if scaler.type in _AUTOSCALERS:
            for urn in scaler.property_dependencies.get("target", []):
                if urn in by_urn and by_urn[urn].type in _GROUPS:
                    found[urn] = scaler
    return found


def _cluster(pool: Resource, by_urn: Mapping[str, Resource]) -> Mapping[str, Any]:
    for urn in pool.property_dependencies.get("cluster", []):
        if urn in by_urn and by_urn[urn].type == _CLUSTER:
            return by_urn[urn].inputs
    name = pool.inputs.get("cluster")
    clusters = [resource for resource in by_urn.values() if resource.type == _CLUSTER]
    return next((cluster.inputs for cluster in clusters if name and cluster.inputs.get("name") == name), {})


def _cluster_pools(cluster: Resource) -> Iterator[Pool]:
    """The pools that a cluster has by itself: those in its own inputs, or the one that GKE makes."""
    if at(cluster.inputs, "enableAutopilot") is True:
        nothing = Amount(machines=None, vcpu=None, memory_gb=None, disk_gb=None)
        yield Pool(
            name=cluster.name,
            urn=cluster.urn,
            kind="node pool",
            scaled_by="GKE",
            each=nothing,
            minimum=nothing,
            maximum=nothing,
        )
        return
    for position, pool in enumerate(every(cluster.inputs, "nodePools")):
        yield _node_pool(cluster, pool, cluster.inputs, f"{cluster.name}/{at(pool, 'name') or position}")
    if at(cluster.inputs, "removeDefaultNodePool") is not True and not every(cluster.inputs, "nodePools"):
        yield _node_pool(cluster, cluster.inputs, cluster.inputs, f"{cluster.name}/default-pool")


def _node_pool(resource: Resource, pool: Mapping[str, Any], cluster: Mapping[str, Any], name: str) -> Pool:
    config = at(pool, "nodeConfig")
    zones = _zones(pool, cluster)
    scaling = at(pool, "autoscaling")
    scaled_by = None
    if at(scaling, "totalMaxNodeCount") is not None:
        size = number(at(scaling, "totalMinNodeCount") or 0), number(at(scaling, "totalMaxNodeCount"))
        scaled_by = "GKE"
    elif scaling is not None:
        low, high = number(at(scaling, "minNodeCount") or 0), number(at(scaling, "maxNodeCount"))
        size = _product(low, zones), _product(high, zones)
        scaled_by = "GKE"
    else:
        fixed = _product(number(at(pool, "nodeCount") or at(pool, "initialNodeCount")), zones)
        size = fixed, fixed
    return _pool(resource, "node pool", config or {}, _node_disk(config), size, scaled_by, name)


def _zones(pool: Mapping[str, Any], cluster: Mapping[str, Any]) -> int | None:
    """In how many zones a node pool has nodes: its counts are for one."""
    for found in (every(pool, "nodeLocations"), every(cluster, "nodeLocations")):
        if UNKNOWN in found:
            return None
        if found:
            # A zonal cluster's list is of its further zones.
            return len({*found, *([location] if _is_zone(location := at(cluster, "location")) else [])})
    location = at(pool, "location") or at(cluster, "location")
    if not isinstance(location, str) or location == UNKNOWN:
        return None
    return 1 if _is_zone(location) else _ZONES


def _is_zone(location: Any) -> bool:
    return isinstance(location, str) and re.search(r"-[a-z]$", location) is not None


def _node_disk(config: Any) -> float | None:
    size = at(config, "bootDisk", "sizeGb") or at(config, "diskSizeGb") or _NODE_DISK
    local = number(at(config, "ephemeralStorageLocalSsdConfig", "localSsdCount") or at(config, "localSsdCount") or 0)
    boot = number(size)
    return None if boot is None or local is None else boot + local * _LOCAL_SSD


def _disks(disks: list[Any], key: str) -> float | None:
    sizes = [number(at(disk, key)) for disk in disks]
    return None if not sizes or None in sizes else sum(filter(None, sizes))


def _instance_disks(inputs: Mapping[str, Any]) -> float | None:
    # Attached disks are resources of their own.
    boot = number(at(inputs, "bootDisk", "initializeParams", "size"))
    return None if boot is None else boot + _LOCAL_SSD * len(every(inputs, "scratchDisks"))


def _product(count: float | None, each: float | None) -> float | None:
    # None of whatever is nothing.
    if count == 0:
        return 0
    return None if count is None or each is None else count * each


def _times(each: Amount, count: float | None) -> Amount:
    total = {name: _product(count, value) for name, value in each if name != "machines"}
    return Amount(machines=None if count is None else int(count), **total)


def _sum(amounts: Iterator[Amount]) -> Amount:
    parts = list(amounts)
    return Amount.model_validate(
        {name: sum(getattr(part, name) or 0 for part in parts) for name in Amount.model_fields}
    )
