"""Whether the project may have the vCPUs and disks that the stack asks for, asked before its first regional resource.

Owns the question and what is said of the answer. It is a resource hook: a preview asks nothing and needs no
credentials, and nothing of it is in the state. N1 machines count against the regional quota CPUS and the project's
CPUS_ALL_REGIONS, spot ones against PREEMPTIBLE_CPUS where the project has been given any, and both kinds of disk that
the program makes, pd-balanced and pd-ssd, against SSD_TOTAL_GB (cloud.google.com/compute/resource-usage).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import pulumi

from infra.foundation import compute_api
from infra.machines import machine
from infra.settings import Settings, SettingsError
from infra.settings.nomad import ScalingSettings

DEFAULT_POOL = "n1-standard-1"
"""The machines of the pool that GKE makes with every cluster, one a zone; its disks are no SSDs."""


@dataclass(frozen=True)
class Demand:
    """What a stack needs in one region: at once, and when every pool is at its largest.

    Attributes:
        least: vCPUs at once.
        most: vCPUs at most.
        most_spot: Of these, on spot machines.
        least_gb: GB of SSD disks at once.
        most_gb: GB of SSD disks at most.
    """

    least: int = 0
    most: int = 0
    most_spot: int = 0
    least_gb: int = 0
    most_gb: int = 0

    def more(self, machine_type: str, disk_gb: int, least: int, most: int, *, spot: bool = False) -> "Demand":
        """The demand with a group of machines more, each with so much disk."""
        found = machine(machine_type)
        vcpu = found.vcpu if found else 0
        return self + Demand(least * vcpu, most * vcpu, spot * most * vcpu, least * disk_gb, most * disk_gb)

    def __add__(self, other: "Demand") -> "Demand":
        return Demand(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(Demand)))


def demand(settings: Settings) -> dict[str, Demand]:
    """What a stack asks of each region of Google Cloud. Nothing is added for machines that a roll makes beforehand."""
    found: dict[str, Demand] = {}
    for nomad in settings.nomad.regions.values():
        servers = nomad.servers
        disks = servers.boot_disk_gb + servers.data_disk_gb
        asked = found.get(nomad.region, Demand()).more(servers.machine_type, disks, servers.count, servers.count)
        for pool in nomad.pools.values():
            least, most = (
                (pool.size.min, pool.size.max) if isinstance(pool.size, ScalingSettings) else (pool.size, pool.size)
            )
            asked = asked.more(pool.machine_type, pool.boot_disk_gb, least, most, spot=pool.spot)
        found[nomad.region] = asked
    for cluster in settings.kubernetes.clusters.values() if settings.kubernetes else ():
        # The cluster's first pool is removed before the others come; its machines may be counted for minutes more.
        asked = found.get(cluster.region, Demand()).more(DEFAULT_POOL, 0, len(cluster.zones), 0)
        for pool in cluster.node_pools.values():
            # A pool begins with a node a zone, or with none.
            least = max(pool.min, len(cluster.zones)) if pool.min else 0
            asked = asked.more(pool.machine_type, pool.disk_gb, least, pool.max, spot=pool.spot)
        found[cluster.region] = asked
    return found


def problems(where: str, asked: Demand, quotas: Mapping[str, tuple[float, float]]) -> Iterator[tuple[bool, str]]:
    """What is to be said of the quotas of a region, or of the whole project.

    Args:
        where: `region` and its name, or `project` and its name.
        asked: The stack's demand there.
        quotas: Limit and usage, by metric.

    Yields:
        Whether the stack cannot come up at all, and a line.
    """
    regional = where.startswith("region ")
    preemptible = quotas.get("PREEMPTIBLE_CPUS", (0.0, 0.0))[0] if regional else 0.0
    needs = [
        (
            "CPUS" if regional else "CPUS_ALL_REGIONS",
            "vCPU",
            asked.least,
            asked.most - asked.most_spot if preemptible else asked.most,
        ),
        ("SSD_TOTAL_GB", "GB", asked.least_gb, asked.most_gb),
        ("PREEMPTIBLE_CPUS", "vCPU of spot machines", 0, asked.most_spot if preemptible else 0),
    ]
    for metric, unit, least, most in needs:
        # Every region has this one; a project that names another quota not at all has no limit of that kind.
        if metric not in quotas and metric != "CPUS":
            continue
        limit, usage = quotas.get(metric, (0.0, 0.0))
        free = int(limit - usage)
        told = f"quota {metric} of {where}: {free} {unit} are free and the stack"
        fix = f"ask for more: https://console.cloud.google.com/iam-admin/quotas, metric {metric}, {where}"
        if least > free:
            yield (
                True,
                (f"{told} needs {least} at once, so it cannot come up; {fix}, or shrink the stack in the stack file"),
            )
        elif most > free:
            yield False, f"{told}'s pools grow to {most}, so runs will wait; {fix}"


def check(project: str, where: str, asked: Demand) -> None:
    """Ask for the quotas of a region, or of the project, and say what is to be said of them.

    What cannot be read, or is less than all that pools may grow to, is a warning: the update may succeed all the same.

    Raises:
        SettingsError: The stack cannot come up there.
    """
    try:
        quotas = _read(project, where)
    except Exception as error:  # noqa: BLE001  whatever keeps it from being read, the update may still succeed
        why = compute_api.reason(error)
        pulumi.log.warn(f"the quotas of {where} could not be read, so they were not checked: {why}")
        return
    found = list(problems(where, asked, quotas))
    for stops, line in found:
        if not stops:
            pulumi.log.warn(line)
    if stopping := [line for stops, line in found if stops]:
        raise SettingsError("; and ".join(stopping))


def hook(name: str, settings: Settings) -> pulumi.ResourceHook:
    """A hook for the creation of a resource with a `region`: `check` for that region, and once for the project."""
    asked = demand(settings)

    def before(args: pulumi.ResourceHookArgs) -> None:
        region = str((args.new_inputs or {}).get("region"))
        if not settings.gcp or region not in asked:
            return
        project = settings.gcp.project
        if region == min(asked):
            check(project, f"project {project}", sum(asked.values(), Demand()))
        check(project, f"region {region}", asked[region])

    return pulumi.ResourceHook(name, before)


def _read(project: str, where: str) -> dict[str, tuple[float, float]]:
    kind, _, name = where.partition(" ")
    answer = compute_api.ask(project, f"/regions/{name}" if kind == "region" else "", params={"fields": "quotas"})
    return {quota["metric"]: (quota["limit"], quota.get("usage", 0.0)) for quota in answer["quotas"]}
