"""A SparkApplication as a template: made, waited for, and memoised.

What its program does is the image's business.
"""

import re
from typing import Any

import yaml
from hera.workflows import DAG, Parameter, Resource
from hera.workflows import models as m
from hera.workflows.models.io.k8s.apimachinery.pkg.util.intstr import IntOrString

from jobs.model_refit.context import Context
from jobs.model_refit.steps import UID, call, memoised, placed, toleration

RUN_LABEL = "hybrid-mlops/run"
STEP_LABEL = "hybrid-mlops/step"
SPARK_API = "sparkoperator.k8s.io/v1beta2"

# A resource template's exit code is 64 whatever happened, so only its message tells what did. A repeat says the same
# where Spark failed, the cluster refused the object, or the deadline has passed.
RETRY_SPARK = (
    "!(lastRetry.message matches 'failure condition|denied the request|is forbidden|is invalid|specified deadline')"
)


def spark(
    context: Context,
    name: str,
    *,
    inputs: list[str],
    arguments: list[str],
    key: list[str],
    only_if: str | None = None,
    program: str | None = None,
) -> DAG:
    """A SparkApplication: made, waited for, and memoised.

    One template is memoised, and calls another one that is retried. If one template did both, a memoised result would
    have no attempts. Argo links later tasks to the attempts, so it would never start them.
    """
    driver, executor = context.sized("spark-driver"), context.sized("spark-executor")
    pool = context.pool("spark")
    nodes: dict[str, Any] = {
        "nodeSelector": dict(pool.node_selector),
        "tolerations": [toleration(t) for t in pool.tolerations],
    }
    nodes = {field: value for field, value in nodes.items() if value}
    security = {
        "runAsUser": 185,
        "runAsGroup": 185,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    labels = {**context.labels, RUN_LABEL: UID, STEP_LABEL: name}
    pods = {"labels": labels, "securityContext": security, **nodes}
    manifest = {
        "apiVersion": SPARK_API,
        "kind": "SparkApplication",
        # A name of its own for every attempt: a fixed one would exist already.
        "metadata": {"generateName": f"{name}-", "namespace": context.namespace, "labels": labels},
        "spec": {
            "type": "Python",
            "pythonVersion": "3",
            "mode": "cluster",
            "sparkVersion": context.spark_version,
            "image": context.images["spark-features"],
            "imagePullPolicy": "IfNotPresent",
            "mainApplicationFile": f"local:///app/src/{program or f'{name}.py'}",
            "arguments": arguments,
            "sparkConf": {"spark.sql.session.timeZone": "UTC"},
            "driver": {
                "cores": 1,
                "coreRequest": driver.cpu,
                "memory": driver.memory,
                "serviceAccount": context.service_accounts["spark"],
                **pods,
            },
            "executor": {"cores": 1, "coreRequest": executor.cpu, "memory": executor.memory, **pods},
            "dynamicAllocation": {
                "enabled": True,
                "initialExecutors": 1,
                "minExecutors": 1,
                "maxExecutors": context.spark_max_executors,
                "shuffleTrackingEnabled": True,
            },
            "restartPolicy": {
                "type": "OnFailure",
                "onFailureRetries": 2,
                "onFailureRetryInterval": 10,
                "onSubmissionFailureRetries": 3,
                "onSubmissionFailureRetryInterval": 20,
            },
            # The exit handler deletes it; this is for the day when that could not run.
            "timeToLiveSeconds": 86400,
        },
    }
    given = [each for each in inputs if each != "memoise"]
    resource = Resource(
        name=f"{name}-spark",
        inputs=[Parameter(name=each) for each in given],
        action="create",
        set_owner_reference=True,
        manifest=_manifest(manifest),
        # Only these two states are final: the others the operator turns into one of them, after its own retries.
        success_condition="status.applicationState.state == COMPLETED",
        failure_condition="status.applicationState.state == FAILED",
        service_account_name=context.service_accounts["workflows"],
        active_deadline_seconds=3600,
        # The operator repeats what fails. This repeats what could not be asked of the cluster, for four minutes: an
        # operator that is being replaced answers again by then.
        retry_strategy=m.RetryStrategy(
            limit=IntOrString(root="4"),
            retry_policy="Always",
            expression=RETRY_SPARK,
            backoff=m.Backoff(duration="15s", factor=IntOrString(root="2")),
        ),
        **placed(context, "workflows"),
    )
    with DAG(
        name=name,
        inputs=[Parameter(name=each) for each in inputs],
        outputs=[Parameter(name="run", value_from=m.ValueFrom(expression=f"'{UID}'"))],
        memoize=memoised(context, name, context.images["spark-features"], key, only_if),
    ) as application:
        call(name, resource, parameters={each: f"{{{{inputs.parameters.{each}}}}}" for each in given})
    return application


class _Plain(yaml.SafeDumper):
    """No anchors: people read these."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _manifest(manifest: dict[str, Any]) -> str:
    """YAML in which `{{=toJson(...)}}` stands bare: it gives a quoted scalar, so no value can add to the manifest."""
    text = yaml.dump(manifest, Dumper=_Plain, sort_keys=False, width=10**6)
    return re.sub(r"'(\{\{=toJson\(.*\)\}\})'$", lambda found: found[1].replace("''", "'"), text, flags=re.MULTILINE)
