"""The Kubernetes platform: each cluster that the stack provisions, with all that must be in it before a workload.

Owns the order: cluster, then node pools and namespaces, then service accounts and operators; templates come after
`ready`. Everything inside a cluster is planned before the cluster exists: its provider's configuration is unknown then,
and nothing here asks a cluster.
"""

import pulumi
import pulumi_kubernetes

from infra import providers
from infra.foundation.foundation import Foundation
from infra.kubernetes import names
from infra.kubernetes.access import CloudAccess, ClusterAccess
from infra.kubernetes.administrators import ClusterAdministrators
from infra.kubernetes.alerts import Alerts
from infra.kubernetes.cluster import Cluster
from infra.kubernetes.namespaces import Namespaces
from infra.kubernetes.node_pools import NodePools
from infra.kubernetes.operators import Operators
from infra.kubernetes.placement import SYSTEM
from infra.settings import PROJECT, Settings


class KubernetesPlatform(pulumi.ComponentResource):
    """Every cluster of a stack.

    Attributes:
        providers: The provider of each cluster, by its name in the settings.
        ready: What workloads of each cluster depend on.
    """

    providers: dict[str, pulumi_kubernetes.Provider]
    ready: dict[str, list[pulumi.Resource]]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        foundation: Foundation,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them.

        Args:
            name: The component's name.
            settings: The stack's settings, with `kubernetes.clusters` among them.
            foundation: What they stand on.
            opts: Its options; the provider of Google Cloud is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:KubernetesPlatform", name, None, opts)
        assert settings.kubernetes, "the settings were checked"  # noqa: S101
        below = pulumi.ResourceOptions(parent=self)
        clusters = {
            cluster: Cluster(f"{name}-{cluster}", settings=settings, cluster=cluster, foundation=foundation, opts=below)
            for cluster in settings.kubernetes.clusters
        }
        access = CloudAccess(
            f"{name}-access",
            settings=settings,
            foundation=foundation,
            clusters=[made.cluster for made in clusters.values()],
            opts=below,
        )
        ClusterAdministrators(f"{name}-administrators", settings=settings, foundation=foundation, opts=below)
        self.providers = {}
        self.ready = {}
        for cluster, made in clusters.items():
            own = settings.kubernetes.clusters[cluster]
            pools = NodePools(
                f"{name}-{cluster}-pools",
                settings=settings,
                cluster=cluster,
                of=made,
                disk_key=foundation.keys.at(own.region).disks.id,
                opts=below,
            )
            provider = providers.gke(
                f"{name}-{cluster}",
                settings,
                made.kubeconfig,
                names.cluster_name(cluster),
                pulumi.ResourceOptions(parent=self),
            )
            inside = pulumi.ResourceOptions(parent=self, provider=provider)
            namespaces = Namespaces(
                f"{name}-{cluster}-namespaces", settings=settings, cluster=cluster, of=made.cluster, opts=inside
            )
            accounts = ClusterAccess(
                f"{name}-{cluster}-accounts",
                settings=settings,
                namespace=namespaces.name,
                of=made.cluster,
                opts=inside,
            )
            operators = Operators(
                f"{name}-{cluster}-operators",
                settings=settings,
                namespaces=namespaces,
                of=made.cluster,
                # Without a node no pod of an operator starts, and the release would wait for it in vain.
                after=[pools.by_name[SYSTEM], *accounts.ready],
                opts=inside,
            )
            Alerts(
                f"{name}-{cluster}-alerts",
                settings=settings,
                cluster=cluster,
                of=made.cluster,
                foundation=foundation,
                opts=below,
            )
            self.providers[cluster] = provider
            # With namespaces and accounts before them, since the operators come after those.
            self.ready[cluster] = [*operators.ready, *access.grants]
        self.register_outputs({})
