"""The namespaces of a cluster, and what holds for everything in them: pod security, quotas, limits, network policies.

Owns the two namespaces: that of the workloads, where Argo is too, since it then needs no right outside of it; and the
Spark Operator's. Workloads' pods meet the strictest of Kubernetes' pod security standards. Every connection that is not
listed here is refused, but for a node's own to its pods, which no policy can refuse.
"""

from collections.abc import Iterable
from typing import Any

import pulumi
from pulumi_gcp import container
from pulumi_kubernetes.core.v1 import LimitRange, Namespace, ResourceQuota
from pulumi_kubernetes.networking.v1 import NetworkPolicy

from infra.kubernetes import names
from infra.machines import machine
from infra.settings import PROJECT, Settings
from infra.settings.kubernetes import ClusterSettings

WEBHOOK_PORT = 10250
"""Where the Spark Operator's webhooks listen. GKE's own firewall rule lets the control plane reach nodes and pods on
443 and on this port (https://cloud.google.com/kubernetes-engine/docs/concepts/firewall-rules, `gke-...-master`), so no
rule of the stack's is needed, whose source would be an address that a cluster without IP endpoints does not tell. A pod
has an address of its own, so the kubelet's port is free there."""
SPARK_METRICS_PORT = 8080
ARGO_METRICS_PORT = 9090
LABELS = {"app.kubernetes.io/part-of": PROJECT, "app.kubernetes.io/managed-by": "pulumi"}

_SPARK_PODS = {"sparkoperator.k8s.io/launched-by-spark-operator": "true"}
# Both names are in use, by the cluster's version.
_PROMETHEUS = ("gmp-system", "gke-gmp-system")
_RUNS = 500
"""Workflows and SparkApplications, finished ones among them, before new ones are refused: each is an object in the
control plane's database, which has room for some thousands of large ones."""


class Namespaces(pulumi.ComponentResource):
    """The namespaces of a cluster.

    Attributes:
        workloads: Where templates, workflows, SparkApplications and Argo are.
        name: Its name. Where the cluster has it under another one, it fails with how to move, in a preview already.
        spark_operator: The Spark Operator's.
        ready: Everything that must exist before something starts in them.
    """

    workloads: Namespace
    name: pulumi.Output[str]
    spark_operator: Namespace
    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        cluster: str,
        of: container.Cluster,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them.

        Args:
            name: The component's name.
            settings: The stack's settings.
            cluster: Which of `kubernetes.clusters`.
            of: That cluster, with which everything in it goes.
            opts: Its options; the provider of the cluster is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:Namespaces", name, None, opts)
        assert settings.kubernetes, "the settings were checked"  # noqa: S101
        self._name = name
        self._below = pulumi.ResourceOptions(parent=self, deleted_with=of)
        # The chart's hook, which upgrades CRDs, runs in a pod that does not meet `restricted`
        # (charts/spark-operator-chart/templates/hook/job.yaml of v2.5.2: no seccompProfile, no runAsNonRoot).
        self.spark_operator = self._namespace(names.SPARK_OPERATOR, names.SPARK_OPERATOR, "baseline")
        wanted = settings.kubernetes.namespace
        self.workloads = self._namespace(
            "workloads",
            wanted,
            "restricted",
            # It keeps the name that it was made with, so that a preview can compare the two: `_same`.
            pulumi.ResourceOptions(ignore_changes=["metadata.name"], aliases=[pulumi.Alias(name=f"{name}-{wanted}")]),
        )
        self.name = self.workloads.metadata.name.apply(lambda there: _same(there, wanted))
        workloads, operator = self.name, self.spark_operator.metadata.name

        quota = ResourceQuota(
            f"{name}-quota",
            metadata={"name": "workloads", "namespace": workloads, "labels": LABELS},
            spec={"hard": quotas(settings.kubernetes.clusters[cluster])},
            opts=self._below,
        )
        # Under a quota a container without requests is refused; none of the platform's own is without.
        modest: Any = {
            "type": "Container",
            "defaultRequest": {"cpu": "50m", "memory": "128Mi"},
            "default": {"memory": "512Mi"},
        }
        limits = LimitRange(
            f"{name}-limits",
            metadata={"name": "workloads", "namespace": workloads, "labels": LABELS},
            spec={"limits": [modest]},
            opts=self._below,
        )
        everything: dict[str, Any] = {}
        argo = {"app.kubernetes.io/part-of": "argo-workflows"}
        self.ready = [
            self.workloads,
            self.spark_operator,
            quota,
            limits,
            self._policy("outside", workloads, everything, ingress=[], egress=list(_outside())),
            self._policy(
                "spark",
                workloads,
                _SPARK_PODS,
                ingress=[{"from": _pods(_SPARK_PODS)}],
                egress=[{"to": _pods(_SPARK_PODS)}],
            ),
            self._policy("argo-metrics", workloads, argo, ingress=[_scraped(ARGO_METRICS_PORT)]),
            self._policy(
                "operator",
                operator,
                everything,
                # From anywhere: by which address the control plane comes is not told, and all that is answered there
                # are admission reviews.
                ingress=[{"ports": [_port(WEBHOOK_PORT)]}, _scraped(SPARK_METRICS_PORT)],
                egress=list(_outside()),
            ),
        ]
        self.register_outputs({})

    def _namespace(self, called: str, name: str, level: str, more: pulumi.ResourceOptions | None = None) -> Namespace:
        security = {
            "pod-security.kubernetes.io/enforce": level,
            "pod-security.kubernetes.io/audit": "restricted",
            "pod-security.kubernetes.io/warn": "restricted",
        }
        return Namespace(
            f"{self._name}-{called}",
            metadata={"name": name, "labels": {**LABELS, **security}},
            opts=pulumi.ResourceOptions.merge(self._below, more),
        )

    def _policy(
        self,
        name: str,
        namespace: pulumi.Input[str],
        pods: dict[str, str],
        *,
        ingress: list[dict[str, Any]] | None = None,
        egress: list[dict[str, Any]] | None = None,
    ) -> NetworkPolicy:
        """What may be connected to and from some pods; a direction that is not given is left to other policies."""
        spec: Any = {"podSelector": {"matchLabels": pods} if pods else {}, "policyTypes": []}
        for direction, rules in (("ingress", ingress), ("egress", egress)):
            if rules is not None:
                spec["policyTypes"].append(direction.capitalize())
                spec[direction] = rules
        return NetworkPolicy(
            f"{self._name}-policy-{name}",
            metadata={"name": name, "namespace": namespace, "labels": LABELS},
            spec=spec,
            opts=self._below,
        )


def _same(there: str, wanted: str) -> str:
    """The namespace's name.

    Argo's CRDs stay when its release goes, and bear the namespace of the release that made them: another one is refused
    them, half-way through the update, and so is the way back.
    """
    if there != wanted:
        raise pulumi.RunError(
            f"{PROJECT}:kubernetes.namespace: it is {there} in the cluster, and cannot become {wanted} there, so "
            f"nothing in it is changed; write {there}, or move: docs/runbooks/move-to-another-namespace.md"
        )
    return there


def quotas(cluster: ClusterSettings) -> dict[str, str]:
    """What the workloads' namespace may ask for: what all pools together have at their largest.

    More would be pods that wait for nodes which never come, while they keep others from being started.
    """
    vcpu = memory = 0
    for pool in cluster.node_pools.values():
        if found := machine(pool.machine_type):
            vcpu += pool.max * found.vcpu
            memory += pool.max * found.memory_mb
    return {
        "requests.cpu": str(vcpu),
        "requests.memory": f"{memory}Mi",
        "count/workflows.argoproj.io": str(_RUNS),
        "count/sparkapplications.sparkoperator.k8s.io": str(_RUNS),
        # Nothing here is reached from outside, and nothing outlives a run but what is in buckets.
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        "persistentvolumeclaims": "0",
    }


def _outside() -> Iterable[dict[str, Any]]:
    """What every pod may connect to."""
    kube_system = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}
    # NodeLocal DNSCache listens there where GKE runs it.
    yield {"to": [kube_system, {"ipBlock": {"cidr": "169.254.20.10/32"}}], "ports": [_port(53, "UDP"), _port(53)]}
    # Buckets, registries, the cluster's own API, and feeds: none of them has addresses that could be listed.
    yield {"ports": [_port(443)]}
    # GKE's metadata server, which gives pods their identity: under Dataplane V2 at the first address, and at the second
    # one after address translation, https://cloud.google.com/kubernetes-engine/docs/how-to/network-policy.
    yield {"to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}], "ports": [_port(80), _port(8080)]}
    yield {"to": [{"ipBlock": {"cidr": "169.254.169.252/32"}}], "ports": [_port(987), _port(988)]}


def _pods(labels: dict[str, str]) -> list[dict[str, Any]]:
    return [{"podSelector": {"matchLabels": labels}}]


def _scraped(port: int) -> dict[str, Any]:
    """Google's collectors of Prometheus metrics."""
    among = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": list(_PROMETHEUS)}
    return {"from": [{"namespaceSelector": {"matchExpressions": [among]}}], "ports": [_port(port)]}


def _port(port: int, protocol: str = "TCP") -> dict[str, Any]:
    return {"port": port, "protocol": protocol}
