"""What is called how in Google Cloud and in a cluster. Pure; without any provider's library."""

from infra.settings import Settings

SPARK_OPERATOR = "spark-operator"
"""The Spark Operator's namespace and release. Argo's namespace is that of the workloads."""
ARGO = "argo-workflows"
"""Argo's release."""
ARGO_CONTROLLER = "argo-controller"
"""The service account of Argo's controller."""
ARGO_SERVER = "argo-server"
"""The service account of Argo Server."""
ARGO_SERVER_SERVICE = f"{ARGO}-server"
"""The service of Argo Server, as the chart names it."""
ARGO_SERVER_PORT = 2746
"""The port of that service."""


def cluster_name(cluster: str) -> str:
    """What one of `kubernetes.clusters` is called in Google Cloud."""
    return f"mlops-{cluster}"


def workload_pool(settings: Settings) -> str:
    """The identity pool of service accounts in the project's clusters, which GKE makes with the first of them."""
    assert settings.gcp, "the settings were checked"  # noqa: S101
    return f"{settings.gcp.project}.svc.id.goog"


def principal(settings: Settings, service_account: str) -> str:
    """A service account of the workloads' namespace, as a member in IAM.

    The same name in another cluster of the project is the same principal: a project is one stack's, and its clusters
    run the same.
    """
    assert settings.gcp and settings.kubernetes, "the settings were checked"  # noqa: S101, PT018
    pool = f"projects/{settings.gcp.project_number}/locations/global/workloadIdentityPools/{workload_pool(settings)}"
    return f"principal://iam.googleapis.com/{pool}/subject/ns/{settings.kubernetes.namespace}/sa/{service_account}"
