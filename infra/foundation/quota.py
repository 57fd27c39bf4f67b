"""Whether the project may have as many vCPUs as the stack can grow to, asked before its first regional resource.

Owns the question and what is said of the answer. It is a resource hook: a preview asks nothing and needs no
credentials, and nothing of it is in the state. N1 machines count against the regional quota CPUS, spot ones against
PREEMPTIBLE_CPUS where the project has been given any (cloud.google.com/compute/resource-usage).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi

from infra.machines import machine
from infra.settings import Settings, SettingsError
from infra.settings.nomad import ScalingSettings

_SECONDS = 30


@dataclass(frozen=True)
class Demand:
    """vCPUs in one region: what stands there always, and the most that pools grow to, of these on spot machines."""

    least: int = 0
    most: int = 0
    most_spot: int = 0

    def more(self, machine_type: str, least: int, most: int, *, spot: bool = False) -> "Demand":
        """The demand with a group of machines more."""
        found = machine(machine_type)
        vcpu = found.vcpu if found else 0
        return Demand(self.least + least * vcpu, self.most + most * vcpu, self.most_spot + spot * most * vcpu)


def demand(settings: Settings) -> dict[str, Demand]:
    """What a stack asks of each region of Google Cloud. Nothing is added for machines that a roll makes beforehand."""
    found: dict[str, Demand] = {}
    for nomad in settings.nomad.regions.values():
        servers = nomad.servers
        asked = found.get(nomad.region, Demand()).more(servers.machine_type, servers.count, servers.count)
        for pool in nomad.pools.values():
            least, most = (
                (pool.size.min, pool.size.max) if isinstance(pool.size, ScalingSettings) else (pool.size, pool.size)
            )
            asked = asked.more(pool.machine_type, least, most, spot=pool.spot)
        found[nomad.region] = asked
    for cluster in settings.kubernetes.clusters.values() if settings.kubernetes else ():
        asked = found.get(cluster.region, Demand())
        for pool in cluster.node_pools.values():
            asked = asked.more(pool.machine_type, pool.min, pool.max, spot=pool.spot)
        found[cluster.region] = asked
    return found


def problem(region: str, asked: Demand, quotas: Mapping[str, tuple[float, float]]) -> tuple[bool, str] | None:
    """What is to be said of a region's quotas.

    Args:
        region: The region of Google Cloud.
        asked: The stack's demand there.
        quotas: Limit and usage, by metric.

    Returns:
        Whether the stack cannot come up at all, and a line; None where all of it fits.
    """
    limit, usage = quotas.get("CPUS", (0.0, 0.0))
    preemptible, _ = quotas.get("PREEMPTIBLE_CPUS", (0.0, 0.0))
    most = asked.most - asked.most_spot if preemptible else asked.most
    free = int(limit - usage)
    fix = f"ask for more: https://console.cloud.google.com/iam-admin/quotas, metric CPUS, region {region}"
    if asked.least > free:
        return True, (
            f"quota CPUS in {region}: {free} vCPU are free and the stack needs {asked.least} at once, so it cannot "
            f"come up; {fix}, or shrink it in the stack file"
        )
    if most > free:
        return False, (
            f"quota CPUS in {region}: {free} vCPU are free and the stack's pools grow to {most}, so runs will wait; "
            f"{fix}"
        )
    if preemptible and asked.most_spot > preemptible:
        return False, (
            f"quota PREEMPTIBLE_CPUS in {region}: it is {int(preemptible)} vCPU and spot pools grow to "
            f"{asked.most_spot}, so runs will wait; {fix.replace('CPUS,', 'PREEMPTIBLE_CPUS,')}"
        )
    return None


def check(project: str, region: str, asked: Demand) -> None:
    """Ask for the quotas of a region, and say what is to be said of them.

    What cannot be read, or is less than all that pools may grow to, is a warning: the update may succeed all the same.

    Raises:
        SettingsError: The stack cannot come up there.
    """
    try:
        quotas = _read(project, region)
    except Exception as error:  # noqa: BLE001  whatever keeps it from being read, the update may still succeed
        reason = " ".join(str(error).split())[:200]
        pulumi.log.warn(f"quota in {region}: could not be read, so it was not checked: {reason}")
        return
    found = problem(region, asked, quotas)
    if found and found[0]:
        raise SettingsError(found[1])
    if found:
        pulumi.log.warn(found[1])


def hook(name: str, settings: Settings) -> pulumi.ResourceHook:
    """A hook for the creation of a resource with a `region`: `check` for that region."""
    asked = demand(settings)

    def before(args: pulumi.ResourceHookArgs) -> None:
        region = str((args.new_inputs or {}).get("region"))
        if settings.gcp and region in asked:
            check(settings.gcp.project, region, asked[region])

    return pulumi.ResourceHook(name, before)


def _read(project: str, region: str) -> dict[str, tuple[float, float]]:
    import google.auth
    from google.auth.transport.requests import AuthorizedSession

    credentials, _ = google.auth.default(
        scopes=["https://www.googleapis.com/auth/compute.readonly"], quota_project_id=project
    )
    address = f"https://compute.googleapis.com/compute/v1/projects/{project}/regions/{region}"
    answer = AuthorizedSession(credentials).get(address, params={"fields": "quotas"}, timeout=_SECONDS)
    answer.raise_for_status()
    return {quota["metric"]: (quota["limit"], quota.get("usage", 0.0)) for quota in answer.json()["quotas"]}
