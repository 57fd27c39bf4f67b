"""One GKE cluster: regional, with private nodes, and with a control plane that is reached by its DNS name alone.

Owns the cluster, the account of its nodes and the kubeconfig. Node pools stand beside (`node_pools.py`), and nothing
here is inside the cluster. Who may reach the control plane is IAM's affair (`container.clusters.connect`): there is no
list of addresses to keep, since there is no address.
"""

import json
from typing import Any

import pulumi
from pulumi_gcp import container, projects, serviceaccount

from infra import outputs
from infra.foundation.ci import may_run_as
from infra.foundation.foundation import Foundation
from infra.kubernetes import names
from infra.labels import labels
from infra.settings import PROJECT, Settings
from infra.settings.kubernetes import ClusterSettings

# Logs and metrics of a node, and nothing else: "Least privileged role to use as the default service account for GKE
# Nodes", https://cloud.google.com/iam/docs/roles-permissions/container.
_NODE_ROLE = "roles/container.defaultNodeServiceAccount"


class Cluster(pulumi.ComponentResource):
    """A cluster without a node.

    Attributes:
        cluster: The cluster itself.
        node_account: The service account of its nodes.
        node_grants: What the account must have been granted before a node works.
        kubeconfig: The kubeconfig as JSON: for whoever has `gke-gcloud-auth-plugin` and may connect; no secret.
    """

    cluster: container.Cluster
    node_account: serviceaccount.Account
    node_grants: list[pulumi.Resource]
    kubeconfig: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        cluster: str,
        foundation: Foundation,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make it.

        Args:
            name: The component's name.
            settings: The stack's settings.
            cluster: Which of `kubernetes.clusters`.
            foundation: Network, keys and registry.
            opts: Its options; the provider of Google Cloud is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:Cluster", name, None, opts)
        assert settings.gcp and settings.kubernetes, "the settings were checked"  # noqa: S101, PT018
        own = settings.kubernetes.clusters[cluster]
        below = pulumi.ResourceOptions(parent=self)
        self.node_account = serviceaccount.Account(
            f"{name}-nodes",
            account_id=f"mlops-gke-{cluster}",
            display_name=f"Nodes of GKE cluster {cluster}",
            description="Writes logs and metrics of nodes and pulls images; pods have identities of their own.",
            opts=below,
        )
        self.node_grants = [
            *may_run_as(f"{name}-nodes", self.node_account, settings, below),
            projects.IAMMember(
                f"{name}-nodes-logs-and-metrics",
                project=settings.gcp.project,
                role=_NODE_ROLE,
                member=self.node_account.member,
                opts=below,
            ),
            *foundation.registry.grant_pull(
                f"{name}-nodes-pull", self.node_account.member, below, public=["ghcr.io", "quay.io"]
            ),
        ]
        self.cluster = container.Cluster(
            f"{name}-cluster",
            name=names.cluster_name(cluster),
            description="Refits: Spark, H2O and Argo Workflows.",
            location=own.region,
            node_locations=list(own.zones),
            deletion_protection=settings.gcp.protect,
            resource_labels=labels(settings, "kubernetes", cluster=cluster),
            **_network(own, foundation),
            **_access(settings),
            **_operation(own),
            database_encryption=container.ClusterDatabaseEncryptionArgs(
                state="ENCRYPTED", key_name=foundation.keys.at(own.region).kubernetes.id
            ),
            # GKE makes a pool with every cluster. It is thrown away, but its nodes exist for minutes, so that they are
            # no others than the pools' own.
            remove_default_node_pool=True,
            initial_node_count=1,
            node_config=container.ClusterNodeConfigArgs(
                machine_type="n1-standard-1",
                service_account=self.node_account.email,
                oauth_scopes=["https://www.googleapis.com/auth/cloud-platform"],
                boot_disk_kms_key=foundation.keys.at(own.region).disks.id,
                disk_size_gb=20,
                disk_type="pd-standard",
                shielded_instance_config=container.ClusterNodeConfigShieldedInstanceConfigArgs(
                    enable_secure_boot=True, enable_integrity_monitoring=True
                ),
                workload_metadata_config=container.ClusterNodeConfigWorkloadMetadataConfigArgs(mode="GKE_METADATA"),
            ),
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=settings.gcp.protect,
                depends_on=[foundation, *self.node_grants],
                # These describe the pool that is gone: what GKE answers of it later would replace the cluster
                # (pulumi/pulumi-gcp#744, #1355).
                ignore_changes=["initialNodeCount", "nodeConfig", "nodePools"],
            ),
        )
        # With the id, the whole text is unknown for as long as the cluster does not exist.
        endpoint = outputs.made(
            self.cluster.control_plane_endpoints_config,
            lambda config: config.dns_endpoint_config and config.dns_endpoint_config.endpoint,
        )
        self.kubeconfig = pulumi.Output.all(self.cluster.id, endpoint).apply(
            lambda known: kubeconfig(names.cluster_name(cluster), str(known[1]))
        )
        self.register_outputs({})


def kubeconfig(name: str, endpoint: str) -> str:
    """A kubeconfig for a control plane that is reached by its DNS name.

    It names no CA: that name has a certificate of a public CA, and the cluster's own CA would refuse it.
    """
    user = {
        "exec": {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "gke-gcloud-auth-plugin",
            "installHint": "gcloud components install gke-gcloud-auth-plugin, or the package "
            "google-cloud-cli-gke-gcloud-auth-plugin",
            "provideClusterInfo": True,
            "interactiveMode": "Never",
        }
    }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": f"https://{endpoint}"}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return json.dumps(config)


def _network(own: ClusterSettings, foundation: Foundation) -> dict[str, Any]:
    return {
        "network": foundation.network.id,
        "subnetwork": foundation.network.subnets[own.region].id,
        "networking_mode": "VPC_NATIVE",
        "ip_allocation_policy": container.ClusterIpAllocationPolicyArgs(
            cluster_secondary_range_name="pods", services_secondary_range_name="services"
        ),
        # Cilium: network policies are enforced without an add-on.
        "datapath_provider": "ADVANCED_DATAPATH",
        "private_cluster_config": container.ClusterPrivateClusterConfigArgs(
            enable_private_nodes=True, enable_private_endpoint=True
        ),
        "control_plane_endpoints_config": container.ClusterControlPlaneEndpointsConfigArgs(
            # From outside the VPC too: every request must carry a Google identity that IAM lets connect.
            dns_endpoint_config=container.ClusterControlPlaneEndpointsConfigDnsEndpointConfigArgs(
                allow_external_traffic=True
            ),
            ip_endpoints_config=container.ClusterControlPlaneEndpointsConfigIpEndpointsConfigArgs(enabled=False),
        ),
        "service_external_ips_config": container.ClusterServiceExternalIpsConfigArgs(enabled=False),
        "addons_config": container.ClusterAddonsConfigArgs(
            # Nothing is offered to the outside: without it no Ingress can be.
            http_load_balancing=container.ClusterAddonsConfigHttpLoadBalancingArgs(disabled=True)
        ),
    }


def _access(settings: Settings) -> dict[str, Any]:
    assert settings.gcp, "the settings were checked"  # noqa: S101
    return {
        "workload_identity_config": container.ClusterWorkloadIdentityConfigArgs(
            workload_pool=names.workload_pool(settings)
        ),
        "enable_shielded_nodes": True,
        "enable_legacy_abac": False,
        "master_auth": container.ClusterMasterAuthArgs(
            client_certificate_config=container.ClusterMasterAuthClientCertificateConfigArgs(
                issue_client_certificate=False
            )
        ),
        # Health checks only, and no binding that would make every Google account a user.
        "anonymous_authentication_config": container.ClusterAnonymousAuthenticationConfigArgs(mode="LIMITED"),
        "rbac_binding_config": container.ClusterRbacBindingConfigArgs(
            enable_insecure_binding_system_authenticated=False, enable_insecure_binding_system_unauthenticated=False
        ),
        "security_posture_config": container.ClusterSecurityPostureConfigArgs(mode="BASIC"),
    }


def _operation(own: ClusterSettings) -> dict[str, Any]:
    return {
        "release_channel": container.ClusterReleaseChannelArgs(channel=own.release_channel),
        # Nodes go as soon as they are idle: what is paid for is what runs.
        "cluster_autoscaling": container.ClusterClusterAutoscalingArgs(
            enabled=False, autoscaling_profile="OPTIMIZE_UTILIZATION"
        ),
        "cost_management_config": container.ClusterCostManagementConfigArgs(enabled=True),
        "logging_config": container.ClusterLoggingConfigArgs(enable_components=["SYSTEM_COMPONENTS", "WORKLOADS"]),
        "monitoring_config": container.ClusterMonitoringConfigArgs(
            enable_components=["SYSTEM_COMPONENTS"],
            managed_prometheus=container.ClusterMonitoringConfigManagedPrometheusArgs(enabled=True),
        ),
    }
