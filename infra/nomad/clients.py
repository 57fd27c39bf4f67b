"""The clients of a Nomad region: a group of machines a pool, spread over the region's zones.

A pool of fixed size has the program's; one that scales has Nomad Autoscaler's, which the program never touches.
A changed template reaches a machine that trains only when someone drains it: a roll would end its runs.
"""

import pulumi
from pulumi_gcp import compute

from infra.foundation.foundation import Foundation
from infra.labels import labels
from infra.nomad import boot, machines
from infra.nomad.certificates import NomadSecrets
from infra.nomad.store_program import StoreProgramUpload
from infra.settings import PROJECT, Settings
from infra.settings.nomad import ScalingSettings


def group_name(region: str, pool: str) -> str:
    """The name of a pool's group of machines."""
    return f"mlops-{region}-{pool}"


class Clients(pulumi.ComponentResource):
    """The clients of one Nomad region.

    Attributes:
        groups: The group of each pool.
    """

    groups: dict[str, compute.RegionInstanceGroupManager]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        region: str,
        foundation: Foundation,
        secrets: NomadSecrets,
        store_program: StoreProgramUpload,
        check: compute.HealthCheck,
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud.

        Args:
            name: The component's name.
            settings: The stack's settings.
            region: The Nomad region.
            foundation: Network, keys, buckets and registry.
            secrets: What is shared by all regions.
            store_program: The store program.
            check: The health check of agents.
            after: What must exist before a client starts.
            opts: Its options.
        """
        super().__init__(f"{PROJECT}:nomad:Clients", name, None, opts)
        of = settings.nomad.regions[region]
        below = pulumi.ResourceOptions(parent=self)
        account = secrets.accounts.of[region, "client"]
        ready: list[pulumi.Resource] = [
            store_program.uploaded,
            foundation.buckets.grant(
                f"{name}-reads-store-program",
                "data",
                "roles/storage.objectViewer",
                account.member,
                prefix=boot.PROGRAM_PREFIX,
                opts=below,
            ),
            # What scales pools comes from there; trainings run the stack's own images.
            *foundation.registry.grant_pull(
                f"{name}-pull", account.member, below, public=["docker.io"] if of.scaled else []
            ),
        ]
        self.groups = {}
        for pool, client in of.pools.items():
            template = machines.template(
                f"{name}-{pool}-template",
                f"{group_name(region, pool)}-",
                description=f"Clients of pool {pool} in the Nomad region {region}.",
                machine=client,
                region=of.region,
                account=account.email,
                foundation=foundation,
                script=boot.client(settings, region, pool, store_program.program),
                metadata={},
                labels=labels(settings, "nomad", nomad_region=region, nomad_role="client", nomad_pool=pool),
                tags=[],
                spot=client.spot,
                opts=pulumi.ResourceOptions(parent=self, depends_on=foundation.keys.ready),
            )
            scaling, size = (
                (client.size, client.size.min) if isinstance(client.size, ScalingSettings) else (None, client.size)
            )
            # Surge and gap are none or at least one a zone: a regional group takes nothing between.
            zones = len(of.zones)
            self.groups[pool] = compute.RegionInstanceGroupManager(
                f"{name}-{pool}",
                name=group_name(region, pool),
                description=f"Clients of pool {pool} in the Nomad region {region}.",
                base_instance_name=group_name(region, pool),
                region=of.region,
                distribution_policy_zones=list(of.zones),
                versions=[compute.RegionInstanceGroupManagerVersionArgs(instance_template=template.self_link_unique)],
                target_size=size,
                # Read by what tells the stack's capacity: the size itself is then nobody's input.
                all_instances_config=compute.RegionInstanceGroupManagerAllInstancesConfigArgs(
                    labels={"mlops-min": str(scaling.min), "mlops-max": str(scaling.max)}
                )
                if scaling
                else None,
                update_policy=compute.RegionInstanceGroupManagerUpdatePolicyArgs(
                    # What is in the system pool may be moved at any time; a training may not.
                    type="PROACTIVE" if client.system else "OPPORTUNISTIC",
                    minimal_action="REPLACE",
                    max_surge_fixed=zones if client.system else 0,
                    max_unavailable_fixed=0 if client.system else zones,
                    # Machines are not moved between zones for balance alone, least of all while they train.
                    instance_redistribution_type="NONE",
                ),
                auto_healing_policies=compute.RegionInstanceGroupManagerAutoHealingPoliciesArgs(
                    health_check=check.id, initial_delay_sec=1800
                ),
                wait_for_instances=False,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=[*after, *ready],
                    # Nomad Autoscaler's, once the group is there.
                    ignore_changes=["targetSize"] if scaling else None,
                ),
            )
        self.register_outputs({})
