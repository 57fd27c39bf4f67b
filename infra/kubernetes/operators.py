"""The operators of a cluster: the Spark Operator and Argo Workflows, from their own charts.

Owns the charts' values. Everything else of a chart is its own; nothing of it is copied here. CRDs are the charts' too:
Helm installs the Spark Operator's with the first release, and the chart's own hook raises them with later ones; Argo's
are ordinary templates of its chart. Releases, not `Chart`: that would leave out hooks, and asks a cluster that does not
exist yet.

Each value was read in the chart's values.yaml and in the templates that use it, at the versions of
`infra.versions`: kubeflow/spark-operator, charts/spark-operator-chart at tag v2.5.2; argoproj/argo-helm,
charts/argo-workflows 1.0.18.
"""

from typing import Any

import pulumi
from pulumi_gcp import container
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.helm.v3 import Release

from infra import naming, versions
from infra.kubernetes import names
from infra.kubernetes.access import ARTIFACTS
from infra.kubernetes.namespaces import ARGO_METRICS_PORT, LABELS, SPARK_METRICS_PORT, WEBHOOK_PORT, Namespaces
from infra.kubernetes.placement import POOL, SYSTEM
from infra.settings import PROJECT, Settings

_SYSTEM_NODES = {POOL: SYSTEM}
_SECONDS = 900
"""For a release, in which the first node of a pool may have to be made."""
_POD_SECURITY = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_CONTAINER_SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


class Operators(pulumi.ComponentResource):
    """The operators of a cluster.

    Attributes:
        spark: The Spark Operator's release.
        argo: Argo Workflows' release; templates come after it.
        ready: Both, and what reads their metrics.
    """

    spark: Release
    argo: Release
    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        namespaces: Namespaces,
        of: container.Cluster,
        after: list[pulumi.Resource],
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Install them.

        Args:
            name: The component's name.
            settings: The stack's settings.
            namespaces: The cluster's namespaces.
            of: The cluster, with which everything in it goes.
            after: What must exist before a pod of theirs can start, beside the namespaces.
            opts: Its options; the provider of the cluster is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:Operators", name, None, opts)
        self._name = name
        self._below = pulumi.ResourceOptions(parent=self, deleted_with=of, depends_on=[*namespaces.ready, *after])
        operator, workloads = namespaces.spark_operator.metadata.name, namespaces.name
        self.spark = self._release(
            names.SPARK_OPERATOR, versions.SPARK_OPERATOR, operator, spark_operator_values(settings)
        )
        self.argo = self._release(names.ARGO, versions.ARGO_WORKFLOWS, workloads, argo_values(settings))
        self.ready = [
            self.spark,
            self.argo,
            self._monitored(
                "spark-operator", operator, {"app.kubernetes.io/component": "controller"}, SPARK_METRICS_PORT
            ),
            self._monitored(
                "argo-controller", workloads, {"app.kubernetes.io/component": "workflow-controller"}, ARGO_METRICS_PORT
            ),
        ]
        self.register_outputs({})

    def _release(
        self, name: str, chart: versions.Chart, namespace: pulumi.Input[str], values: dict[str, Any]
    ) -> Release:
        return Release(
            f"{self._name}-{name}",
            name=name,
            chart=chart.name,
            version=chart.version,
            repository_opts={"repo": chart.repository},
            namespace=namespace,
            create_namespace=False,
            values=values,
            # A release that failed is taken back, so that the next update can try again.
            atomic=True,
            max_history=5,
            timeout=_SECONDS,
            opts=self._below,
        )

    def _monitored(self, name: str, namespace: pulumi.Input[str], labels: dict[str, str], port: int) -> CustomResource:
        """Metrics for Google's managed Prometheus, which brings this kind of object to every cluster."""
        return CustomResource(
            f"{self._name}-metrics-{name}",
            api_version="monitoring.googleapis.com/v1",
            kind="PodMonitoring",
            metadata={"name": name, "namespace": namespace, "labels": LABELS},
            spec={"selector": {"matchLabels": labels}, "endpoints": [{"port": port, "interval": "60s"}]},
            opts=self._below,
        )


def spark_operator_values(settings: Settings) -> dict[str, Any]:
    """Values of the chart spark-operator."""
    assert settings.kubernetes, "the settings were checked"  # noqa: S101
    registry = _registry(settings, "ghcr.io")
    pod = {"nodeSelector": _SYSTEM_NODES}
    return {
        "image": {"registry": registry},
        # CRDs stand in the chart's crds/, which Helm installs and never upgrades.
        "hook": {"upgradeCrd": True, "image": {"registry": registry}, **pod},
        "controller": {
            **pod,
            # Every submission starts a JVM of -Xmx128m in the controller (values.yaml, controller.resources).
            "workers": 4,
            "resources": {"requests": {"cpu": "200m", "memory": "512Mi"}, "limits": {"memory": "1536Mi"}},
            "logEncoder": "json",
        },
        "webhook": {
            **pod,
            "port": WEBHOOK_PORT,
            # A SparkApplication whose pods were not changed by it would run with other limits than it was given.
            "failurePolicy": "Fail",
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
            "logEncoder": "json",
        },
        "spark": {
            # The operator's rights end there. Its namespaces must exist.
            "jobNamespaces": [settings.kubernetes.namespace],
            # The account and its Role are `access.py`'s.
            "serviceAccount": {"create": False, "name": settings.kubernetes.service_accounts.get("spark", "default")},
            "rbac": {"create": False},
        },
        "prometheus": {"metrics": {"enable": True, "port": SPARK_METRICS_PORT}},
    }


def argo_values(settings: Settings) -> dict[str, Any]:
    """Values of the chart argo-workflows."""
    registry = _registry(settings, "quay.io")
    pod = {"nodeSelector": {"kubernetes.io/os": "linux", **_SYSTEM_NODES}, "podSecurityContext": _POD_SECURITY}
    logs = {"logging": {"format": "json"}}
    return {
        # Newer than the chart's own: security fixes.
        "images": {"tag": versions.ARGO_IMAGES, "pullPolicy": "IfNotPresent"},
        # `full` would have a hook fetch CRDs from raw.githubusercontent.com (templates/crds-install-job.yaml). What the
        # schemas would check, Argo checks too.
        "crds": {"install": True, "keep": True, "full": False},
        # Roles in its namespace instead of ClusterRoles, which would let it start pods and read secrets everywhere.
        "singleNamespace": True,
        # Accounts of steps and their Roles are `access.py`'s.
        "workflow": {"serviceAccount": {"create": False}, "rbac": {"create": False}},
        "controller": {
            **pod,
            **logs,
            "image": {"registry": registry},
            "serviceAccount": {"create": True, "name": names.ARGO_CONTROLLER},
            # Memoised results are kept in ConfigMaps, which the controller makes (docs/memoization.md of v4.0.10).
            "rbac": {"create": True, "writeConfigMaps": True},
            "clusterWorkflowTemplates": {"enabled": False},
            # What runs is a registered template, and nothing that a submitter writes (docs/workflow-restrictions.md).
            "workflowRestrictions": {"templateReferencing": "Strict"},
            "parallelism": 50,
            "resourceRateLimit": {"limit": 20, "burst": 5},
            # What is kept of ended workflows, whatever their own time to live; together less than the quota.
            "retentionPolicy": {"completed": 200, "failed": 100, "errored": 100},
            "metricsConfig": {"enabled": True, "port": ARGO_METRICS_PORT},
            "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        },
        "executor": {
            "image": {"registry": registry},
            # Of its three containers a step has two of these, and one that talks to the cluster only this.
            "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "securityContext": _CONTAINER_SECURITY,
        },
        "server": {
            **pod,
            **logs,
            "image": {"registry": registry},
            "serviceAccount": {"create": True, "name": names.ARGO_SERVER},
            # Whoever asks does so by a token of the cluster's own, and may do what that may.
            "authModes": ["client"],
            # Plain HTTP, which leaves the pod by a port-forward alone: no policy lets anything else in.
            "secure": False,
            "clusterWorkflowTemplates": {"enabled": False, "enableEditing": False},
            "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        },
        "artifactRepository": {
            "archiveLogs": True,
            # No key: the pod's own identity. The chart renders this as a template, so that Argo's own braces must be
            # text to it (templates/controller/workflow-controller-config-map.yaml, `tpl`).
            "gcs": {"bucket": settings.buckets.artifacts, "keyFormat": _escaped(KEY_FORMAT)},
        },
    }


KEY_FORMAT = ARTIFACTS + "/{{workflow.uid}}/{{pod.name}}"
"""Where a pod's logs go, and artifacts that name no key of their own."""


def _escaped(text: str) -> str:
    """A text that a template of Helm renders as itself."""
    return "{{ `" + text + "` }}"


def _registry(settings: Settings, host: str) -> str:
    """A public registry's name, as the cluster pulls from it."""
    return naming.public_image(settings, f"{host}/").removesuffix("/")
