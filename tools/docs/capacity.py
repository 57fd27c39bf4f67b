"""The page of capacity: what each stack has of machines, and what stays on while nothing runs, each with its reason.

The figures are the inventories'. This says why each kind of pool is there, and what would let it go. A pool that stays
on without a reason is an error, so nobody pays for a machine without one. Deliberately knows no price: Google's change,
and differ by region and contract.
"""

from collections import Counter
from collections.abc import Callable, Iterator

from infra.kubernetes.placement import SYSTEM
from infra.settings import Settings, load, stacks
from infra.settings.nomad import ClientPoolSettings, ScalingSettings
from inventory.capacity import Amount, Capacity, Pool, capacity
from inventory.recorder import record
from inventory.resources import Inventory
from mlops.changes.figures import pairs, span

_NIGHT = 14
"""Hours, from six in the evening to eight in the morning."""
_HEADER = f"""\
<!-- Written by: python -m tools.docs -->
# Capacity

What each stack has of machines: at its smallest, which it has and costs while nothing runs, and at its largest. Read
from what the program registers, by `mlops plan --stack STACK`. vCPU and memory are those of [Google's table of n1
machines](https://cloud.google.com/compute/docs/general-purpose-machines#n1_machines), memory in its GB of 2^30 bytes;
disks are boot disks and those with state. Machines that an update adds for its own duration are not counted.

No price stands here: they change, and differ by region and contract. What stays on is said as hours of machines, to be
put into [Google's calculator](https://cloud.google.com/products/calculator); a night is {_NIGHT} hours. What it leaves
and what brings it back: [scale to nothing](../runbooks/scale-to-nothing.md).
"""
# By type: what of it is paid for beside machines and their disks, and where Google says how much.
_BESIDE = (
    ("gcp:container/cluster:Cluster", "cluster", "an hourly fee for the control plane", "kubernetes-engine/pricing"),
    ("gcp:compute/routerNat:RouterNat", "Cloud NAT", "by the hour and machine, and what goes through", "nat/pricing"),
    (
        "gcp:compute/forwardingRule:ForwardingRule",
        "internal load balancer",
        "by the hour and rule",
        "vpc/network-pricing",
    ),
    ("gcp:kms/cryptoKey:CryptoKey", "key", "by the month, each version that is not destroyed", "kms/pricing"),
    ("gcp:secretmanager/secretVersion:SecretVersion", "secret", "by the month and version", "secret-manager/pricing"),
    ("gcp:storage/bucket:Bucket", "bucket", "by what is in it", "storage/pricing"),
    ("gcp:artifactregistry/repository:Repository", "repository", "by what is in it", "artifact-registry/pricing"),
)


def page(recorded: Callable[[str], Inventory] = record) -> str:
    """The page, as Markdown.

    Args:
        recorded: Gives the inventory of a stack.
    """
    inventories = {stack: recorded(stack) for stack in stacks() if load(stack).gcp}
    lines = [_HEADER, "| stack | machines | vCPU | memory, GB | disk, GB |", "| --- " * 5 + "|"]
    lines += [_row([stack], capacity(inventory)) for stack, inventory in inventories.items()]
    for stack, inventory in inventories.items():
        lines += ["", f"## {stack}", "", *section(load(stack), inventory)]
    return "\n".join([*lines, ""])


def section(settings: Settings, inventory: Inventory) -> Iterator[str]:
    """What is said of one stack: its pools, what stays on and why, what is paid for beside machines.

    Raises:
        KeyError: A pool stays on of which nothing is known.
    """
    whole = capacity(inventory)
    yield "| pool | machine | machines | vCPU | memory, GB | disk, GB |"
    yield "| --- " * 6 + "|"
    for pool in whole.pools:
        yield _row([f"`{pool.name}`", f"{pool.machine_type or pool.kind}{' (spot)' if pool.spot else ''}"], pool)
    yield _row(["**together**", ""], whole)
    least = whole.minimum
    yield ""
    yield (
        f"**While nothing runs** {least.machines} machines with {_amounts(least)} stay on; "
        f"a night of them is {_hours(whole)}:"
    )
    yield ""
    staying: dict[str, list[Pool]] = {}
    for pool in whole.pools:
        if pool.minimum.machines or pool.minimum.disk_gb:
            staying.setdefault(reason(settings, inventory, pool), []).append(pool)
    for why, pools in staying.items():
        names = ", ".join(f"`{pool.name}`" for pool in pools)
        machines = Counter[str]()
        for pool in pools:
            machines[pool.machine_type or pool.kind] += pool.minimum.machines or 1
        what = ", ".join(f"{count} {kind}" for kind, count in machines.items())
        disk = sum(pool.minimum.disk_gb or 0 for pool in pools)
        yield f"- {names}: {what}, {disk:g} GB of disks. {why}"
    beside = Counter(resource.type for resource in inventory.resources)
    yield ""
    yield "| beside machines | how many | paid for |"
    yield "| --- | --- | --- |"
    for kind, name, how, link in _BESIDE:
        if beside[kind]:
            yield f"| {name} | {beside[kind]} | {how}: [prices](https://cloud.google.com/{link}) |"
    yield "| logs and metrics | | by volume: [prices](https://cloud.google.com/stackdriver/pricing) |"


def reason(settings: Settings, inventory: Inventory, pool: Pool) -> str:
    """Why a pool stays on, and what would let it go.

    Raises:
        KeyError: Nothing is known of it.
    """
    keys = _keys(inventory, pool)
    if region := settings.nomad.regions.get(keys.get("NomadPlatform", "")):
        name, at = keys["NomadPlatform"], f"nomad.regions.{keys['NomadPlatform']}"
        if "Servers" in keys:
            return _of_servers(name, at, region.servers.count)
        if "Clients" in keys:
            return _of_clients(name, f"`{at}.pools.{keys['Clients']}.size", region.pools[keys["Clients"]])
    for cluster in settings.kubernetes.clusters if settings.kubernetes else {}:
        if "NodePools" in keys and keys["KubernetesPlatform"].startswith(f"{cluster}-"):
            return _of_nodes(f"kubernetes.clusters.{cluster}", keys["NodePools"])
    raise KeyError(pool.name)


def _keys(inventory: Inventory, pool: Pool) -> dict[str, str]:
    """The key that each component around a pool gave it: a component names what it has by its own name and a key."""
    by_urn = {resource.urn: resource for resource in inventory.resources}
    keys: dict[str, str] = {}
    resource = by_urn[pool.urn]
    while component := by_urn.get(resource.parent or ""):
        keys[component.type.rpartition(":")[2]] = resource.name.removeprefix(f"{component.name}-")
        resource = component
    return keys


def _of_servers(region: str, at: str, count: int) -> str:
    if count == 1:
        return f"The one server of Nomad region {region}: it keeps the jobs and starts the runs. There can be no fewer."
    return (
        f"The servers of Nomad region {region}: {count}, so that {count // 2} may be lost. "
        f"`{at}.servers.count: 1` where some minutes without a Nomad are borne."
    )


def _of_clients(region: str, size: str, pool: ClientPoolSettings) -> str:
    if pool.system:
        return (
            "Nomad Autoscaler and Prometheus, which start every other client: without them none would come. "
            f"It goes where no pool of region {region} scales."
        )
    if isinstance(pool.size, ScalingSettings):
        return f"Trainings start there at once. {size}.min: 0` lets it go; the first then waits for a machine."
    return (
        f"Trainings start there at once, and nothing has to run that scales. {size}: {{min: 0, max: ...}}` "
        "lets it go while nothing trains, for a machine of a system pool that stays on instead."
    )


def _of_nodes(at: str, pool: str) -> str:
    if pool == SYSTEM:
        return (
            "Argo Workflows, the Spark Operator and GKE's own pods: without them no pod would be started and no "
            f"other pool would grow. It goes with the cluster: remove `{at}`, and put it back."
        )
    return f"Kept warm: the first pod waits for no machine. `{at}.node_pools.{pool}.min: 0` lets it go."


def _row(first: list[str], amounts: Pool | Capacity) -> str:
    spans = [span(low, high) for low, high in pairs(amounts.minimum, amounts.maximum)]
    return f"| {' | '.join([*first, *spans])} |"


def _amounts(amount: Amount) -> str:
    return f"{amount.vcpu:g} vCPU, {amount.memory_gb:g} GB of memory and {amount.disk_gb:g} GB of disks"


def _hours(stack: Capacity) -> str:
    """Hours of a night, by machine type."""
    machines = Counter[str]()
    for pool in stack.pools:
        machines[pool.machine_type or ""] += pool.minimum.machines or 0
    return ", ".join(f"{count * _NIGHT} hours of {kind}" for kind, count in sorted(machines.items()) if kind and count)
