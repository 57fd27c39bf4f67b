"""SparkApplications of the Spark Operator, as far as this project reads them.

https://www.kubeflow.org/docs/components/spark-operator/ names the fields; a test holds these to kubeflow-spark-api's
models, which take a second to import.
"""

from definitions.argo.models import Env, Metadata
from definitions.typed import JvmMemory, Quantity, Typed, Whole

KIND = "SparkApplication"


class SparkPod(Typed):
    """`driver` or `executor`."""

    cores: Whole = "1"
    core_request: Quantity | None = None
    memory: JvmMemory = "1g"
    env: list[Env] = []
    instances: Whole | None = None


class RestartPolicy(Typed):
    """How often a driver that failed is started again."""

    type: str = "Never"
    on_failure_retries: Whole = "0"
    on_failure_retry_interval: Whole = "5"
    on_submission_failure_retries: Whole | None = None
    on_submission_failure_retry_interval: Whole | None = None


class SparkSpec(Typed):
    """A program of Spark, and what it runs with."""

    type: str = ""
    mode: str = ""
    image: str
    main_application_file: str
    main_class: str = ""
    arguments: list[str] = []
    spark_conf: dict[str, str] = {}
    hadoop_conf: dict[str, str] = {}
    driver: SparkPod = SparkPod.model_construct()
    executor: SparkPod = SparkPod.model_construct()
    restart_policy: RestartPolicy = RestartPolicy.model_construct()


class SparkApplication(Typed):
    """A program of Spark that the operator runs."""

    api_version: str = ""
    kind: str
    metadata: Metadata = Metadata.model_construct()
    spec: SparkSpec
