"""The VPC: one subnet a region, and the way out of each by Cloud NAT.

No machine has a public address, so nothing on the internet reaches one; the VPC's implied rule refuses all ingress from
inside too. Which of it is opened stands in the room that needs it, by service account: here is no rule at all.
"""

import pulumi
from pulumi_gcp import compute

from infra.foundation import quota
from infra.settings import PROJECT, Settings


class Network(pulumi.ComponentResource):
    """The VPC of a stack.

    Attributes:
        id: The network's id.
        self_link: Its URL.
        subnets: The subnet of each region of Google Cloud. Secondary ranges are called `pods` and `services`.
    """

    id: pulumi.Output[str]
    self_link: pulumi.Output[str]
    subnets: dict[str, compute.Subnetwork]

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make it; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:foundation:Network", name, None, opts)
        assert settings.gcp and settings.network, "the settings were checked"  # noqa: S101, PT018
        below = pulumi.ResourceOptions(parent=self)
        network = compute.Network(
            f"{name}-vpc",
            name="mlops",
            description="Machines of Nomad and nodes of GKE; no public addresses.",
            auto_create_subnetworks=False,
            routing_mode="REGIONAL",
            opts=below,
        )
        # The first regional resource: too small a quota is told here, not after half an hour by a group of machines.
        checked = pulumi.ResourceOptions(
            parent=self, hooks=pulumi.ResourceHookBinding(before_create=[quota.hook(f"{name}-quota", settings)])
        )
        self.subnets = {}
        for region, subnet in settings.network.subnets.items():
            secondary = {"pods": subnet.pods, "services": subnet.services}
            self.subnets[region] = compute.Subnetwork(
                f"{name}-{region}",
                name=f"mlops-{region}",
                description=f"Machines, pods and services in {region}.",
                network=network.id,
                region=region,
                ip_cidr_range=subnet.nodes,
                secondary_ip_ranges=[
                    compute.SubnetworkSecondaryIpRangeArgs(range_name=use, ip_cidr_range=cidr)
                    for use, cidr in secondary.items()
                    if cidr
                ],
                # Google's APIs without NAT: buckets, registries, secrets.
                private_ip_google_access=True,
                # A tenth of the flows is enough to see who talked to whom, at a tenth of the price.
                log_config=compute.SubnetworkLogConfigArgs(
                    aggregation_interval="INTERVAL_10_MIN", flow_sampling=0.1, metadata="INCLUDE_ALL_METADATA"
                ),
                opts=checked,
            )
            router = compute.Router(
                f"{name}-{region}-router",
                name=f"mlops-{region}",
                description=f"Carries Cloud NAT in {region}.",
                network=network.id,
                region=region,
                opts=below,
            )
            compute.RouterNat(
                f"{name}-{region}-nat",
                name=f"mlops-{region}",
                router=router.name,
                region=region,
                nat_ip_allocate_option="AUTO_ONLY",
                source_subnetwork_ip_ranges_to_nat="ALL_SUBNETWORKS_ALL_IP_RANGES",
                # A node whose pods read a feed at once needs more than the 64 ports that are every machine's.
                enable_dynamic_port_allocation=True,
                min_ports_per_vm=64,
                max_ports_per_vm=4096,
                log_config=compute.RouterNatLogConfigArgs(enable=True, filter="ERRORS_ONLY"),
                opts=below,
            )
        self.id = network.id
        self.self_link = network.self_link
        self.register_outputs({})
