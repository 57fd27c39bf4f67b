"""The servers of a Nomad region: each a group of one machine, with a disk and an address that outlive it.

A group of several would be rolled all at once or not by itself at all; groups of one are rolled by the program, one
after the other. What a server is made of is in `boot.py`, how all machines are made in `machines.py`.
"""

import pulumi
from pulumi_gcp import compute, kms

from infra import naming
from infra.foundation.foundation import Foundation
from infra.labels import labels
from infra.nomad import agent, boot, console, machines, roll
from infra.nomad.api import Later
from infra.nomad.certificates import NomadSecrets
from infra.settings import PROJECT, Settings

SNAPSHOTS = "nomad/"
"""What the names of snapshots in the bucket of logs begin with; the region follows."""


class Servers(pulumi.ComponentResource):
    """The servers of one Nomad region.

    Attributes:
        groups: The groups, in the order in which they are rolled.
        entry: What stands before them: the load balancer where `nomad.access` is direct.
    """

    groups: list[compute.InstanceGroupManager]
    entry: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        region: str,
        foundation: Foundation,
        secrets: NomadSecrets,
        balancer: compute.Address,
        check: compute.HealthCheck,
        later: Later,
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud.

        Args:
            name: The component's name.
            settings: The stack's settings.
            region: The Nomad region.
            foundation: Network, keys and buckets.
            secrets: What is shared by all regions.
            balancer: The address of the load balancer.
            check: The health check of agents.
            later: How the region is asked, once it is there.
            after: What must exist before a server starts.
            opts: Its options.
        """
        super().__init__(f"{PROJECT}:nomad:Servers", name, None, opts)
        google, of = settings.gcp, settings.nomad.regions[region]
        assert google, "the settings were checked"  # noqa: S101
        below = pulumi.ResourceOptions(parent=self)
        account = secrets.accounts.of[region, "server"]
        key = foundation.keys.at(of.region).nomad
        # To wrap and unwrap Nomad's own keys, and to see that the key is there.
        ready: list[pulumi.Resource] = [
            kms.CryptoKeyIAMMember(f"{name}-{what}", crypto_key_id=key.id, role=role, member=account.member, opts=below)
            for what, role in {
                "wraps": "roles/cloudkms.cryptoKeyEncrypterDecrypter",
                "sees-key": "roles/cloudkms.viewer",
            }.items()
        ]
        ready.append(
            foundation.buckets.grant(
                f"{name}-snapshots",
                "logs",
                "roles/storage.objectCreator",
                account.member,
                prefix=f"{SNAPSHOTS}{region}/",
                opts=below,
            )
        )
        marked = labels(settings, "nomad") | naming.nomad_server_labels(region)
        self.groups = []
        for index in range(of.servers.count):
            server = console.server(google.project, region, of.zones, index)
            template = machines.template(
                f"{name}-{index}-template",
                f"{server.group}-",
                description=f"Server {index} of the Nomad region {region}.",
                machine=of.servers,
                region=of.region,
                account=account.email,
                foundation=foundation,
                script=boot.server(settings, region, index),
                # Its key ring's name has a random part, so the script cannot hold it.
                metadata={"nomad-key": key.id},
                labels=marked,
                tags=[agent.server_tag(region)],
                data_disk_gb=of.servers.data_disk_gb,
                opts=pulumi.ResourceOptions(parent=self, depends_on=foundation.keys.ready),
            )
            hook = roll.gate(f"{name}-{index}-gate", later, index=index, count=of.servers.count)
            self.groups.append(
                compute.InstanceGroupManager(
                    f"{name}-{index}",
                    name=server.group,
                    description=f"Server {index} of the Nomad region {region}.",
                    base_instance_name=server.group,
                    zone=server.zone,
                    versions=[compute.InstanceGroupManagerVersionArgs(instance_template=template.self_link_unique)],
                    target_size=1,
                    # The old machine is gone before the new one comes, with the same disk and address.
                    update_policy=compute.InstanceGroupManagerUpdatePolicyArgs(
                        type="PROACTIVE",
                        minimal_action="REPLACE",
                        replacement_method="RECREATE",
                        max_surge_fixed=0,
                        max_unavailable_fixed=1,
                    ),
                    stateful_disks=[
                        compute.InstanceGroupManagerStatefulDiskArgs(
                            device_name="data",
                            delete_rule="NEVER" if google.protect else "ON_PERMANENT_INSTANCE_DELETION",
                        )
                    ],
                    stateful_internal_ips=[
                        compute.InstanceGroupManagerStatefulInternalIpArgs(
                            interface_name="nic0", delete_rule="ON_PERMANENT_INSTANCE_DELETION"
                        )
                    ],
                    # By whether the port is open, not by /v1/agent/health: that says no while there is no leader, so
                    # that every server would be made anew when one is lost.
                    auto_healing_policies=compute.InstanceGroupManagerAutoHealingPoliciesArgs(
                        health_check=check.id, initial_delay_sec=900
                    ),
                    wait_for_instances=True,
                    wait_for_instances_status="UPDATED",
                    opts=pulumi.ResourceOptions(
                        parent=self,
                        protect=google.protect,
                        # One after the other, also where several are to be replaced.
                        depends_on=[*after, *ready, *self.groups[-1:]],
                        hooks=pulumi.ResourceHookBinding(
                            before_update=[hook], on_error=[console.on_error(f"{name}-{index}-console", server)]
                        ),
                    ),
                )
            )
        self.entry = self._balancer(name, settings, region, foundation, balancer, check)
        self.register_outputs({})

    def _balancer(
        self,
        name: str,
        settings: Settings,
        region: str,
        foundation: Foundation,
        address: compute.Address,
        check: compute.HealthCheck,
    ) -> list[pulumi.Resource]:
        if settings.nomad.access != "direct":
            return []
        where = settings.nomad.regions[region].region
        below = pulumi.ResourceOptions(parent=self)
        service = compute.RegionBackendService(
            f"{name}-balancer",
            name=f"mlops-nomad-{region}",
            description=f"Nomad's API in region {region}.",
            region=where,
            load_balancing_scheme="INTERNAL",
            protocol="TCP",
            health_checks=check.id,
            backends=[
                compute.RegionBackendServiceBackendArgs(group=group.instance_group, balancing_mode="CONNECTION")
                for group in self.groups
            ],
            opts=below,
        )
        rule = compute.ForwardingRule(
            f"{name}-entry",
            name=f"mlops-nomad-{region}",
            description=f"Nomad's API in region {region}, from inside the VPC.",
            region=where,
            load_balancing_scheme="INTERNAL",
            ip_address=address.address,
            ip_protocol="TCP",
            ports=["4646"],
            network=foundation.network.id,
            subnetwork=foundation.network.subnets[where].id,
            backend_service=service.id,
            # A runner may be in another region of the VPC.
            allow_global_access=True,
            labels=labels(settings, "nomad"),
            opts=below,
        )
        return [service, rule]
