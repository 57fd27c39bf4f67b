"""The node pools of a cluster: their name is the label of their nodes, and, but for `system`, their taint.

Owns the pools, and what a pod needs to be placed on one. A taint keeps everything off that did not ask for the pool, so
that a pool with nothing of its own to do goes to zero; `system` has none, since GKE's own pods and the operators must
find a place.
"""

import pulumi
from pulumi_gcp import container

from infra.kubernetes.cluster import Cluster
from infra.kubernetes.placement import POOL, SYSTEM
from infra.labels import labels
from infra.settings import PROJECT, Settings
from infra.settings.kubernetes import NodePoolSettings


class NodePools(pulumi.ComponentResource):
    """Every node pool of a cluster.

    Attributes:
        by_name: Each pool.
    """

    by_name: dict[str, container.NodePool]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        cluster: str,
        of: Cluster,
        disk_key: pulumi.Input[str],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them.

        Args:
            name: The component's name.
            settings: The stack's settings.
            cluster: Which of `kubernetes.clusters`.
            of: That cluster.
            disk_key: Id of the key for boot disks.
            opts: Its options; the provider of Google Cloud is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:NodePools", name, None, opts)
        assert settings.gcp and settings.kubernetes, "the settings were checked"  # noqa: S101, PT018
        own = settings.kubernetes.clusters[cluster]
        self.by_name = {
            pool: container.NodePool(
                f"{name}-{pool}",
                name=pool,
                cluster=of.cluster.id,
                node_locations=list(own.zones),
                # Per zone: the autoscaler takes over from there, within the totals.
                initial_node_count=1 if size.min else 0,
                autoscaling=container.NodePoolAutoscalingArgs(
                    total_min_node_count=size.min,
                    total_max_node_count=size.max,
                    # Spot machines from wherever there are some; others spread, so that a lost zone loses few.
                    location_policy="ANY" if size.spot else "BALANCED",
                ),
                management=container.NodePoolManagementArgs(auto_repair=True, auto_upgrade=True),
                upgrade_settings=container.NodePoolUpgradeSettingsArgs(
                    strategy="SURGE", max_surge=1, max_unavailable=0
                ),
                network_config=container.NodePoolNetworkConfigArgs(enable_private_nodes=True),
                node_config=_node_config(pool, size, of, disk_key, labels(settings, "kubernetes", cluster=cluster)),
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=of.node_grants,
                    # The autoscaler's business after the first day; a change would replace the pool.
                    ignore_changes=["initialNodeCount"],
                    # Two pools of one name cannot be.
                    delete_before_replace=True,
                    deleted_with=of.cluster,
                ),
            )
            for pool, size in own.node_pools.items()
        }
        self.register_outputs({})


def _node_config(
    pool: str, size: NodePoolSettings, of: Cluster, disk_key: pulumi.Input[str], given: dict[str, str]
) -> container.NodePoolNodeConfigArgs:
    return container.NodePoolNodeConfigArgs(
        machine_type=size.machine_type,
        min_cpu_platform=size.min_cpu_platform,
        spot=size.spot,
        image_type="COS_CONTAINERD",
        disk_size_gb=size.disk_gb,
        disk_type="pd-balanced",
        boot_disk_kms_key=disk_key,
        service_account=of.node_account.email,
        # What the account may do is IAM's affair alone.
        oauth_scopes=["https://www.googleapis.com/auth/cloud-platform"],
        labels={POOL: pool},
        taints=[]
        if pool == SYSTEM
        else [container.NodePoolNodeConfigTaintArgs(key=POOL, value=pool, effect="NO_SCHEDULE")],
        resource_labels={**given, "node-pool": pool},
        metadata={"disable-legacy-endpoints": "true"},
        # Pods ask GKE's metadata server, which knows them, and never the machine's.
        workload_metadata_config=container.NodePoolNodeConfigWorkloadMetadataConfigArgs(mode="GKE_METADATA"),
        shielded_instance_config=container.NodePoolNodeConfigShieldedInstanceConfigArgs(
            enable_secure_boot=True, enable_integrity_monitoring=True
        ),
        kubelet_config=container.NodePoolNodeConfigKubeletConfigArgs(insecure_kubelet_readonly_port_enabled="FALSE"),
    )
