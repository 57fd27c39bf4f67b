"""How a refit ends, however it went."""

from hera.workflows import Parameter, Resource, Steps
from hera.workflows import models as m
from hera.workflows.models.io.k8s.apimachinery.pkg.util.intstr import IntOrString

from jobs.model_refit.context import Context
from jobs.model_refit.spark import RUN_LABEL, STEP_LABEL
from jobs.model_refit.steps import UID, container, placed
from jobs.model_refit.version import version_env


def finish(context: Context, job: str) -> None:
    """What happens however the refit ended: Spark is cleared away, and what became of the run is written down.

    Before that, where it did not succeed, the drivers' logs are taken: they go with the drivers.
    """
    logs = container(
        context,
        "driver-logs",
        image="spark-features",
        account="workflows",
        step="control",
        command=["python", "src/driver_logs.py"],
        args=[
            "--namespace", context.namespace,
            "--selector", f"{RUN_LABEL}={UID}",
            "--step-label", STEP_LABEL,
            "--output", "/outputs/causes.json",
        ],
        outputs=[Parameter(name="causes", value_from=m.ValueFrom(path="/outputs/causes.json", default="{}"))],
        deadline=300,
    )  # fmt: skip
    clear = Resource(
        name="clear-spark",
        action="delete",
        flags=["sparkapplication", "--selector", f"{RUN_LABEL}={UID}", "--ignore-not-found"],
        service_account_name=context.service_accounts["workflows"],
        active_deadline_seconds=300,
        retry_strategy=m.RetryStrategy(
            limit=IntOrString(root="3"),
            retry_policy="Always",
            backoff=m.Backoff(duration="5s", factor=IntOrString(root="2")),
        ),
        **placed(context, "workflows"),
    )
    record = container(
        context,
        "record",
        image="registry",
        account="registry",
        step="registry",
        command=["python", "src/lineage.py"],
        args=[
            "--status", "{{workflow.status}}",
            "--failures", "{{workflow.failures}}",
            "--started", "{{workflow.creationTimestamp.RFC3339}}",
            "--parameters", "{{workflow.parameters.json}}",
            "--namespace", context.namespace,
            "--job", job,
        ],
        env=version_env(context),
        deadline=600,
    )  # fmt: skip
    with Steps(name="finish") as steps:
        failed = "{{workflow.status}} != Succeeded"
        logs(name="driver-logs", when=failed, continue_on=m.ContinueOn(failed=True, error=True))
        with steps.parallel():
            clear(name="clear-spark")
            record(name="record")
