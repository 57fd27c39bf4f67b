"""What no single setting can know: whether the settings of a stack go together. Pure functions.

A problem is told as `<key>: <what is wrong>, so <what follows>; <what to do>`. Whether the jobs of a checkout fit a
stack is not here but in `infra.workloads`: settings know no jobs.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Network

from infra.credentials import in_address
from infra.machines import machine
from infra.settings.google import BucketSettings
from infra.settings.kubernetes import ClusterSettings, KubernetesSettings
from infra.settings.nomad import ClientPoolSettings, NomadRegionSettings, NomadSettings, ScalingSettings
from infra.settings.tree import Settings

SYSTEM = "system"
"""The node pool of a cluster that runs what is the platform's own."""
_REPLACED = {
    "models": "no alias could be moved; remove it: no version is ever overwritten, and what is deleted can be restored "
    "(storage.noncurrent_days, storage.soft_delete_days)",
    "artifacts": "Spark could not clear away what it writes on its way; remove it",
}
"""Buckets in which the platform replaces or deletes objects, and what a retention policy would come to there."""


def problems(settings: Settings) -> list[str]:
    """Everything in which the settings contradict each other, a line each."""
    found = [*_credentials(settings.model_dump())]
    found += [*_needed(settings), *_existing_or_provisioned(settings), *_networks(settings), *_buckets(settings)]
    found += [*_federation(settings.nomad), *_without_regions(settings.nomad)]
    for name, region in settings.nomad.regions.items():
        path = f"nomad.regions.{name}"
        found += [*_place(region, path, settings), *_nomad_pools(region, path)]
    if settings.kubernetes:
        found += _roles(settings.kubernetes)
        for name, cluster in settings.kubernetes.clusters.items():
            path = f"kubernetes.clusters.{name}"
            found += [*_place(cluster, path, settings), *_cluster_network(cluster, path, settings)]
            found += _node_pools(cluster, path)
    return found


def _credentials(value: object, path: str = "") -> Iterator[str]:
    """Addresses with a credential in them. What is encrypted in the stack file is no text here."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _credentials(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _credentials(inner, f"{path}.{number}")
    elif isinstance(value, str) and "://" in value and (where := in_address(value)):
        yield (
            f"{path}: holds a credential ({where}), so whoever may read the file, a plan or a run has it; give an "
            "address that needs none, and have the credential withdrawn"
        )


def _needed(settings: Settings) -> Iterator[str]:
    if settings.kubernetes and not settings.buckets.artifacts:
        yield (
            "buckets.artifacts: is missing, so steps of a workflow cannot hand anything on; add it, or remove "
            "hybrid-mlops:kubernetes"
        )
    if not settings.gcp and not settings.images.repository:
        yield "images.repository: is missing, so images have no names; add it, or let the stack provision one by `gcp`"
    if settings.gcp:
        if not settings.network:
            yield "network: is missing, so nothing of `gcp` has a place; add its subnets"
        for use in ("artifacts", "logs"):
            if not getattr(settings.buckets, use) and not (use == "artifacts" and settings.kubernetes):
                yield f"buckets.{use}: is missing, so the platform has no place for them; add a name"
    elif settings.network:
        yield "network: there is no project to provision it in, so it would do nothing; add hybrid-mlops:gcp, or remove"
    if settings.ci and not settings.gcp:
        yield "ci: there is no project to make identities in, so it would do nothing; add hybrid-mlops:gcp, or remove"
    if settings.nomad.regions and not settings.nomad.release:
        yield "nomad.release: is missing, so machines have no Nomad to run; add version and sha256"


def _existing_or_provisioned(settings: Settings) -> Iterator[str]:
    if settings.nomad.regions:
        if settings.nomad.address:
            yield "nomad.address: names an existing Nomad beside `regions`, so it is open which is meant; remove either"
        if not settings.gcp:
            yield "nomad.regions: has no project, so nothing can be provisioned; add hybrid-mlops:gcp, or remove them"
    if settings.nomad.ca_pem and not settings.nomad.address:
        yield "nomad.ca_pem: no existing Nomad is named, so it would do nothing; add nomad.address, or remove it"
    if settings.kubernetes and settings.kubernetes.clusters:
        if settings.kubernetes.context:
            yield (
                "kubernetes.context: names an existing cluster beside `clusters`, so it is open which is meant; "
                "remove either"
            )
        if not settings.gcp:
            yield (
                "kubernetes.clusters: has no project, so nothing can be provisioned; add hybrid-mlops:gcp, or remove "
                "them"
            )


def _networks(settings: Settings) -> Iterator[str]:
    ranges: list[tuple[str, IPv4Network]] = []
    for region, subnet in settings.network.subnets.items() if settings.network else ():
        for use in ("nodes", "pods", "services"):
            if not (text := getattr(subnet, use)):
                continue
            path = f"network.subnets.{region}.{use}"
            try:
                network = IPv4Network(text)
            except ValueError as error:
                yield f"{path}: {error}, so no subnet can have it; write a network, such as 10.10.0.0/20"
                continue
            for other_path, other in ranges:
                if network.overlaps(other):
                    yield f"{path}: {network} overlaps {other_path}, {other}, so the VPC refuses it; choose another"
            ranges.append((path, network))


def _buckets(settings: Settings) -> Iterator[str]:
    buckets = settings.buckets
    for use in sorted(buckets.more.keys() & BucketSettings.model_fields.keys()):
        yield f"buckets.more.{use}: is the name of a setting, so two buckets would have one use; choose another name"
    for name, uses in _alike((name, use) for use, name in buckets.by_use().items()):
        yield f"buckets.{uses[-1]}: {name} is buckets.{uses[0]} too, so one would overwrite the other; choose another"
    storage = settings.storage
    for rule in ("retention_days", "delete_after_days"):
        for use in getattr(storage, rule).keys() - buckets.by_use().keys():
            known = ", ".join(buckets.by_use())
            yield f"storage.{rule}.{use}: there is no such bucket, so it would do nothing; use one of: {known}"
    # https://cloud.google.com/storage/docs/bucket-lock: an object is deleted or replaced only once it is older.
    for use in sorted(storage.retention_days.keys() & _REPLACED.keys() & buckets.by_use().keys()):
        yield f"storage.retention_days.{use}: under it no object is replaced or deleted, so {_REPLACED[use]}"
    for use, days in storage.delete_after_days.items():
        if days < storage.retention_days.get(use, 0):
            yield (
                f"storage.delete_after_days.{use}: {days} days are fewer than storage.retention_days.{use}, so nothing "
                "can be deleted by then; raise it, or lower that"
            )


def _federation(nomad: NomadSettings) -> Iterator[str]:
    names = ", ".join(nomad.regions)
    if len(nomad.regions) > 1 and not nomad.authoritative_region:
        yield (
            "nomad.authoritative_region: is missing, so federated regions have no common ACLs; set it to one of: "
            f"{names}"
        )
    if nomad.regions and nomad.authoritative_region and nomad.authoritative_region not in nomad.regions:
        yield (
            f"nomad.authoritative_region: there is no region {nomad.authoritative_region}, so ACLs would be kept "
            f"nowhere; set it to one of: {names}"
        )
    for port, regions in _alike((region.local_port, name) for name, region in nomad.regions.items()):
        yield (
            f"nomad.regions.{regions[-1]}.local_port: {port} is {regions[0]}'s too, so only one could be reached; "
            "choose another"
        )


def _without_regions(nomad: NomadSettings) -> Iterator[str]:
    for name in ("access", "release", "authoritative_region") if not nomad.regions else ():
        if name in nomad.model_fields_set and getattr(nomad, name) is not None:
            yield f"nomad.{name}: is of regions that a stack provisions, so it would do nothing; add some, or remove it"


def _place(engine: NomadRegionSettings | ClusterSettings, path: str, settings: Settings) -> Iterator[str]:
    """Where a Nomad region or a cluster is."""
    if settings.network and engine.region not in settings.network.subnets:
        yield (
            f"{path}.region: {engine.region} has no subnet, so machines have no addresses; add "
            f"network.subnets.{engine.region}, or use one of: {', '.join(settings.network.subnets)}"
        )
    for index, zone in enumerate(engine.zones):
        if zone.rpartition("-")[0] != engine.region:
            yield f"{path}.zones.{index}: {zone} is not in {engine.region}, so it has no subnet; correct it"
        if zone in engine.zones[:index]:
            yield f"{path}.zones.{index}: {zone} is there twice, so nothing would be spread by it; remove it"


def _nomad_pools(region: NomadRegionSettings, path: str) -> Iterator[str]:
    yield from _machine_type(region.servers.machine_type, f"{path}.servers")
    scaling = []
    for name, pool in region.pools.items():
        at = f"{path}.pools.{name}"
        yield from _machine_type(pool.machine_type, at)
        if isinstance(pool.size, ScalingSettings):
            yield from _least_and_most(pool.size.min, pool.size.max, f"{at}.size")
            scaling.append(name)
        if pool.system and _least(pool) == 0:
            yield f"{at}.size.min: is 0, so nothing would start what scales the region; set at least 1"
        if pool.system and pool.spot:
            yield f"{at}.spot: Google may take the system pool back, so nothing would scale; remove spot or system"
    if scaling and not any(pool.system for pool in region.pools.values()):
        yield (
            f"{path}.pools: {scaling[0]} scales and no pool is a system pool, so nothing would scale it; add a pool "
            "with `system: true`, or give a fixed size"
        )
    if all(pool.system for pool in region.pools.values()):
        yield f"{path}.pools: has system pools only, so no training has a place; add a pool without `system`"


def _least(pool: ClientPoolSettings) -> int:
    return pool.size.min if isinstance(pool.size, ScalingSettings) else pool.size


def _cluster_network(cluster: ClusterSettings, path: str, settings: Settings) -> Iterator[str]:
    subnet = settings.network.subnets.get(cluster.region) if settings.network else None
    for use in ("pods", "services"):
        if subnet and not getattr(subnet, use):
            yield (
                f"network.subnets.{cluster.region}.{use}: is missing, so {path} has no addresses for its {use}; add "
                "them, such as 10.20.0.0/16"
            )


def _node_pools(cluster: ClusterSettings, path: str) -> Iterator[str]:
    for name, pool in cluster.node_pools.items():
        yield from _machine_type(pool.machine_type, f"{path}.node_pools.{name}")
        yield from _least_and_most(pool.min, pool.max, f"{path}.node_pools.{name}")
    system = cluster.node_pools.get(SYSTEM)
    if not system:
        yield f"{path}.node_pools.{SYSTEM}: is missing, so operators have no place; add it, with min of at least 1"
    elif system.min == 0:
        yield f"{path}.node_pools.{SYSTEM}.min: is 0, so operators may have no place; set at least 1"


def _machine_type(machine_type: str, path: str) -> Iterator[str]:
    if not machine(machine_type):
        yield (
            f"{path}.machine_type: there is no {machine_type}, so no machine can be made; write one that there is, "
            "such as n1-standard-4"
        )


def _least_and_most(least: int, most: int, path: str) -> Iterator[str]:
    if least > most:
        yield f"{path}.min: {least} is more than its max, {most}, so no size is right; correct either"


def _roles(kubernetes: KubernetesSettings) -> Iterator[str]:
    if not kubernetes.clusters:
        return
    # In a cluster that exists, its owner may have made one for all.
    for account, roles in _alike((account, role) for role, account in kubernetes.service_accounts.items()):
        yield (
            f"kubernetes.service_accounts.{roles[-1]}: {account} is {roles[0]}'s too, so each could do what the other "
            "may; give each its own"
        )


def _alike(pairs: Iterable[tuple[str | int, str]]) -> Iterator[tuple[str | int, list[str]]]:
    """Values that several names have, with these names."""
    names: Mapping[str | int, list[str]] = defaultdict(list)
    for value, name in pairs:
        names[value].append(name)
    return ((value, having) for value, having in names.items() if len(having) > 1)
