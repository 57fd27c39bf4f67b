"""What the templates need to know of a stack: names and sizes, no logic.

Filled by the Pulumi program from the stack's settings, and by tests. Deliberately plain dataclasses: `jobs/` imports
neither `infra` nor `mlops`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

IMAGES = ("spark-features", "h2o-trainer", "mojo-packager", "registry")
"""Folders of `images/` that the templates run."""

SERVICE_ACCOUNTS = ("workflows", "spark", "trainer", "registry", "scorer")
"""Roles; what each touches stands in the README."""

STEPS = ("control", "spark-driver", "spark-executor", "train", "select", "package", "evaluate", "registry")
"""What `Context.resources` sizes."""

POOLS = ("workflows", "spark", "h2o")
"""Kinds of node that steps are placed on."""


@dataclass(frozen=True)
class Resources:
    """Requests of a pod, and its memory limit: CPU in cores, memory as Kubernetes writes it. CPU is not limited."""

    cpu: str
    memory: str


@dataclass(frozen=True)
class Toleration:
    """A taint that a pod accepts."""

    key: str
    value: str | None = None
    effect: str = "NoSchedule"


@dataclass(frozen=True)
class Pool:
    """Where pods of a kind go: labels that the node has, taints that the pod tolerates."""

    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Toleration, ...] = ()


DEFAULT_RESOURCES: Mapping[str, Resources] = {
    "control": Resources("50m", "128Mi"),
    "spark-driver": Resources("1", "1536m"),
    "spark-executor": Resources("1", "1536m"),
    "train": Resources("1", "2Gi"),
    "select": Resources("250m", "256Mi"),
    "package": Resources("1", "1Gi"),
    "evaluate": Resources("500m", "512Mi"),
    "registry": Resources("500m", "512Mi"),
}
"""`spark-*` as Spark writes memory (m, g); the others as Kubernetes does (Mi, Gi)."""


@dataclass(frozen=True)
class Context:
    """A stack as the templates see it.

    Attributes:
        namespace: Of the templates, the workflows and the SparkApplications: owner references cannot cross namespaces.
        images: Full image name by folder of `images/`; every one of `IMAGES`.
        gcp_bucket_path: `gs://<bucket>[/<prefix>]` that versions are stored under.
        data_bucket: Bucket of raw data.
        artifact_bucket: Of Argo's artifact repository, where key-only artifacts go. Spark writes there too.
        service_accounts: Kubernetes service account by role; every one of `SERVICE_ACCOUNTS`.
        resources: By step; what is missing has a default.
        pools: By kind of node; what is missing has no selector and no tolerations.
        spark_version: Spark's version in the image.
        spark_max_executors: The most that dynamic allocation starts.
        threads: H2O's threads a trial.
        maven_repository: URL that libraries are published to; empty: they are stored with the version only.
        maven_group: Group id of the libraries.
        data_uri: Default of the parameter; empty: every run names its data.
        schedules: When the CronWorkflow refits, in cron syntax; empty: there is none.
        timezone: Of the schedules.
        cache_max_age: How old a memoised result may be; shorter than the artifacts' retention in the bucket.
        deadline_seconds: After which a whole refit is stopped.
        parallelism: The most pods of one workflow at a time.
        retention_seconds: How long a finished workflow is kept.
        labels: On every object.
    """

    namespace: str
    images: Mapping[str, str]
    gcp_bucket_path: str
    data_bucket: str
    artifact_bucket: str
    service_accounts: Mapping[str, str]
    resources: Mapping[str, Resources] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    spark_version: str = "4.0.5"
    spark_max_executors: int = 2
    threads: int = 1
    maven_repository: str = ""
    maven_group: str = "io.hybrid_mlops.models"
    data_uri: str = ""
    schedules: tuple[str, ...] = ()
    timezone: str = "Etc/UTC"
    cache_max_age: str = "168h"
    deadline_seconds: int = 4 * 3600
    parallelism: int = 16
    retention_seconds: int = 7 * 86400
    labels: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, given, needed in (
            ("images", self.images, IMAGES),
            ("service_accounts", self.service_accounts, SERVICE_ACCOUNTS),
        ):
            if missing := [name for name in needed if not given.get(name)]:
                raise ValueError(
                    f"{what}: {', '.join(missing)} missing; nothing of jobs/model_refit can be rendered without"
                )
        for what, given, known in (("resources", self.resources, STEPS), ("pools", self.pools, POOLS)):
            if unknown := sorted(set(given) - set(known)):
                raise ValueError(
                    f"{what}: nothing of jobs/model_refit is called {', '.join(unknown)}; known are {', '.join(known)}"
                )

        if self.schedules and not self.data_uri:
            raise ValueError(
                "schedules: data_uri is empty, so a scheduled refit would have no data; give it, or no schedule"
            )

    def sized(self, step: str) -> Resources:
        """The resources of a step."""
        return self.resources.get(step) or DEFAULT_RESOURCES[step]

    def pool(self, kind: str) -> Pool:
        """The pool of a kind."""
        return self.pools.get(kind) or Pool()
