"""What every step and template of the lane has: image, size, identity, place, retries, and how results are found again.

It knows no step: which there are stands in `templates` and the files that it puts together.
"""

from collections.abc import Mapping
from typing import Any

from hera.workflows import (
    Artifact,
    Container,
    EmptyDirVolume,
    Env,
    GCSArtifact,
    NoneArchiveStrategy,
    Parameter,
    Task,
    WorkflowTemplate,
)
from hera.workflows import models as m
from hera.workflows.models.io.k8s.apimachinery.pkg.api.resource import Quantity
from hera.workflows.models.io.k8s.apimachinery.pkg.util.intstr import IntOrString

from jobs.model_refit.context import Context, Toleration

UID = "{{workflow.uid}}"
RUN = f"runs/{UID}"
CACHE = "model-refit-cache"
"""The ConfigMap that memoised results are kept in; Argo makes it."""

# 2 is "no, and repeating would say the same" of every image; a container over its memory limit would be over it again.
# -1 is "unknown": the pod was lost, and is worth another try.
RETRY = "asInt(lastRetry.exitCode) != 2 && !(lastRetry.message matches 'OOMKilled')"


def workflow_template(
    context: Context, name: str, *, arguments: list[Any], entrypoint: str, on_exit: str | None = None
) -> WorkflowTemplate:
    """A WorkflowTemplate with what all of them have; templates are made inside of it."""
    return WorkflowTemplate(
        name=name,
        namespace=context.namespace,
        labels=dict(context.labels) or None,
        entrypoint=entrypoint,
        on_exit=on_exit,
        arguments=arguments,
        service_account_name=context.service_accounts["workflows"],
        security_context=_pod_security(),
        active_deadline_seconds=context.deadline_seconds,
        parallelism=context.parallelism,
        archive_logs=True,
        pod_gc=m.PodGC(strategy="OnPodSuccess"),
        ttl_strategy=m.TTLStrategy(seconds_after_completion=context.retention_seconds),
        workflow_metadata=m.WorkflowMetadata(labels={**context.labels, "hybrid-mlops/pipeline": name}),
    )


def container(
    context: Context,
    name: str,
    *,
    image: str,
    account: str,
    command: list[str],
    args: list[str],
    deadline: int,
    pool: str = "workflows",
    step: str | None = None,
    inputs: list[Any] | None = None,
    outputs: list[Any] | None = None,
    env: list[Env] | None = None,
    **more: Any,
) -> Container:
    """A step that runs an image. `account`, `pool` and `step` (its size) are names in the context."""
    size = context.sized(step or name)
    return Container(
        name=name,
        image=context.images[image],
        image_pull_policy="IfNotPresent",
        command=command,
        args=args,
        env=[*(env or []), Env(name="HOME", value="/tmp")],  # noqa: S108 - in the container, on a volume of its own
        inputs=inputs or [],
        outputs=outputs or [],
        # The images' own file systems stay as they were built.
        volumes=[EmptyDirVolume(name="outputs", mount_path="/outputs"), EmptyDirVolume(name="tmp", mount_path="/tmp")],  # noqa: S108
        resources=m.ResourceRequirements(
            requests={"cpu": Quantity(root=size.cpu), "memory": Quantity(root=size.memory)},
            limits={"memory": Quantity(root=size.memory)},
        ),
        service_account_name=context.service_accounts[account],
        security_context=m.SecurityContext(
            allow_privilege_escalation=False, read_only_root_filesystem=True, capabilities=m.Capabilities(drop=["ALL"])
        ),
        pod_security_context=_pod_security(),
        active_deadline_seconds=deadline,
        retry_strategy=m.RetryStrategy(
            limit=IntOrString(root="2"),
            expression=RETRY,
            backoff=m.Backoff(duration="5s", factor=IntOrString(root="2"), max_duration="5m"),
        ),
        **placed(context, pool),
        **more,
    )


def folder(name: str, path: str, key: str) -> GCSArtifact:
    """A folder as it is, not as an archive; the key of one ends with a slash."""
    return GCSArtifact(name=name, path=path, key=f"{key}/", archive=NoneArchiveStrategy())


def call(
    name: str,
    template: Any,
    *after: str,
    artifacts: Mapping[str, str] | None = None,
    parameters: Mapping[str, str] | None = None,
) -> Task:
    """A task of the DAG that is being made, which waits for those of `after`.

    Args:
        name: Its name.
        template: What it runs: a template, or a reference to one.
        after: Names of tasks.
        artifacts: Where each comes from.
        parameters: Their values.
    """
    arguments = [
        *(Artifact(name=each, from_=source) for each, source in (artifacts or {}).items()),
        *(Parameter(name=each, value=value) for each, value in (parameters or {}).items()),
    ]
    called: dict[str, Any] = {"template_ref" if isinstance(template, m.TemplateRef) else "template": template}
    return Task(name=name, arguments=arguments, dependencies=list(after) or None, **called)


def memoised(context: Context, name: str, image: str, inputs: list[str], only_if: str | None = None) -> m.Memoize:
    """By what a template's result is found again: its name, its image and these inputs."""
    # Cache keys have few characters, hence the hash. With `memoise` off the run's own uid goes in: nothing is found,
    # and what is made takes no earlier result's place.
    reused = "inputs.parameters.memoise == 'true'" + (f" && {only_if}" if only_if else "")
    parts = [f"'{name}'", f"'{image}'", *inputs, f"({reused}) ? '' : workflow.uid"]
    return m.Memoize(
        key=f"{{{{=sprig.sha256sum(toJson([{', '.join(parts)}]))}}}}",
        max_age=context.cache_max_age,
        cache=m.Cache(config_map=m.LocalObjectReference(name=CACHE)),
    )


def placed(context: Context, kind: str) -> dict[str, Any]:
    """Where pods of a kind go."""
    pool = context.pool(kind)
    return {
        "node_selector": dict(pool.node_selector) or None,
        "tolerations": [m.Toleration(**toleration(each)) for each in pool.tolerations] or None,
    }


def toleration(taint: Toleration) -> dict[str, Any]:
    """A toleration as Kubernetes writes it."""
    if taint.value is None:
        return {"key": taint.key, "operator": "Exists", "effect": taint.effect}
    return {"key": taint.key, "operator": "Equal", "value": taint.value, "effect": taint.effect}


def _pod_security() -> m.PodSecurityContext:
    return m.PodSecurityContext(
        run_as_non_root=True,
        run_as_user=65534,
        run_as_group=65534,
        fs_group=65534,
        seccomp_profile=m.SeccompProfile(type="RuntimeDefault"),
    )
