"""Rules on SparkApplications inside of Argo's templates: one changed line of a manifest breaks each."""

import pytest

from tests.policy.cases import Case, check
from tests.policy.templates import manifest

REFIT = "workflow-templates-eu-model-refit"
IN = "template transform-spark, SparkApplication: "
_CONF = "    spark.sql.session.timeZone: UTC\n"

CASES = (
    Case(
        "spark-ttl",
        REFIT,
        manifest("transform-spark", "  timeToLiveSeconds: 86400\n", ""),
        f"{IN}timeToLiveSeconds is not set",
    ),
    Case("spark-ttl", REFIT, manifest("transform-spark", "Seconds: 86400", "Seconds: 31536000"), "over a week"),
    Case(
        "spark-restart",
        REFIT,
        manifest("transform-spark", "type: OnFailure", "type: Always"),
        f"{IN}restartPolicy.type is Always",
    ),
    Case(
        "spark-restart", REFIT, manifest("transform-spark", "onFailureRetries: 2", "onFailureRetries: 1000"), "is 1000"
    ),
    Case(
        "spark-executors",
        REFIT,
        manifest("transform-spark", "    maxExecutors: 2\n", ""),
        f"{IN}dynamicAllocation.maxExecutors",
    ),
    Case(
        "spark-executors",
        REFIT,
        manifest("transform-spark", "enabled: true", "enabled: false"),
        f"{IN}executor.instances",
    ),
    Case("spark-executors", REFIT, manifest("transform-spark", "maxExecutors: 2", "maxExecutors: 5000"), "is 5000"),
    Case(
        "spark-code",
        REFIT,
        manifest("transform-spark", "local:///app/src/", "gs://code/"),
        f"{IN}mainApplicationFile gs://code/",
    ),
    Case(
        "spark-code",
        REFIT,
        manifest("transform-spark", "  driver:\n", "  deps:\n    packages: [org.example:x:1.0.0]\n  driver:\n"),
        "deps.packages has org.example:x:1.0.0",
    ),
    Case(
        "spark-conf",
        REFIT,
        manifest(
            "transform-spark", _CONF, f"{_CONF}    spark.kubernetes.driver.volumes.hostPath.run.mount.path: /run\n"
        ),
        "hostPath.run.mount.path has a field of its own",
    ),
    Case(
        "spark-conf",
        REFIT,
        manifest("transform-spark", _CONF, f"{_CONF}    spark.dynamicAllocation.enabled: 'true'\n"),
        "spark.dynamicAllocation.enabled has a field",
    ),
    Case(
        "spark-conf",
        REFIT,
        manifest("transform-spark", _CONF, f"{_CONF}  hadoopConf:\n    fs.s3a.secret-token: b\n"),
        "hadoopConf.fs.s3a.secret-token holds a credential",
    ),
    Case("spark-mode", REFIT, manifest("transform-spark", "mode: cluster", "mode: client"), f"{IN}mode is client"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)
