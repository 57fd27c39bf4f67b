"""The pods that a definition runs or has others run, and the containers in them, where parts may not be known.

Owns the one form in which they are seen, Kubernetes' own pod spec, whether they come from a template of Argo, a
SparkApplication, or an object such as a Job.
"""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from definitions.argo import manifests
from definitions.documents import DocumentError
from definitions.quantities import jvm_mebibytes
from definitions.views import UndecidedError, View, merged

V = TypeVar("V", bound=View)

LEAVES = ("container", "script", "containerSet", "resource", "data", "http", "plugin")
"""The kinds of template that make a pod, or do something of their own; the others call templates."""
_POD = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(("DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"), ("spec", "template", "spec")),
}


def of_object(view: V, kind: str) -> Iterator[V]:
    """The pod of an object of Kubernetes, if it has one."""
    if kind in _POD and (spec := view.get(*_POD[kind])):
        yield view.inner(spec, "")


def of_template(template: V) -> Iterator[V]:
    """The pod of a template of Argo, if it makes one."""
    if any(template.get(kind) is not None for kind in LEAVES):
        yield template.inner(_spec_of_template(template), "")


def of_spark(application: V) -> Iterator[V]:
    """The driver and the executor of a SparkApplication."""
    account = application.get("spec", "driver", "serviceAccount")
    for role in ("driver", "executor"):
        own = application.inner(application.get("spec", role) or {}, "")
        memory = _spark_memory(application, own)
        container = {
            "name": role,
            "image": own.get("image") or application.get("spec", "image"),
            "args": application.each("spec", "arguments"),
            "env": [*own.each("env"), *_pairs(own.get("envVars"))],
            "securityContext": own.get("securityContext"),
            "ports": own.each("ports"),
            # Spark makes one number both.
            "resources": {
                "requests": {"cpu": own.get("coreRequest") or own.get("cores"), "memory": memory},
                "limits": {"memory": memory},
            },
        }
        pod = {
            # Without one of their own, executors have the driver's (Spark's "Running on Kubernetes",
            # spark.kubernetes.authenticate.executor.serviceAccountName).
            "serviceAccountName": own.get("serviceAccount") or account,
            "securityContext": own.get("podSecurityContext"),
            "nodeSelector": own.get("nodeSelector") or application.get("spec", "nodeSelector"),
            "tolerations": own.each("tolerations") or None,
            "hostNetwork": own.get("hostNetwork"),
            "volumes": application.each("spec", "volumes") or None,
            "containers": [container, *own.each("sidecars")],
            "initContainers": own.each("initContainers"),
        }
        yield application.inner(merged(own.get("template", "spec") or {}, pod), role)


def containers(pod: V) -> Iterator[V]:
    """Every container of a pod, also those that only begin or accompany it; `outer` is the pod."""
    for kind, called in (("containers", "container"), ("initContainers", "init container")):
        for container in pod.each(kind):
            name = container.get("name")
            # Spark's own container is what people mean by the driver.
            yield pod.inner(container, "" if pod.where.split(", ")[-1] == name else f"{called} {name}")


def security(container: View, *path: str) -> Any:
    """A field of a container's security context: its own, or else its pod's."""
    own = container.get("securityContext", *path)
    return container.outer.get("securityContext", *path) if own is None and container.outer else own


def _spec_of_template(template: View) -> dict[str, Any]:
    workflow = template.outer
    assert workflow, "a template is in a workflow"  # noqa: S101

    def own(key: str) -> Any:
        value = template.get(key)
        return workflow.get(key) if value is None else value

    kept = ("automountServiceAccountToken", "nodeSelector", "securityContext", "serviceAccountName")
    main = [{**run, "name": "main"} for kind in ("container", "script") if (run := template.get(kind))]
    pod: dict[str, Any] = {
        **{key: own(key) for key in kept},
        "tolerations": template.each("tolerations") or workflow.each("tolerations"),
        "hostNetwork": workflow.get("hostNetwork"),
        "volumes": [*workflow.each("volumes"), *template.each("volumes")],
        "containers": [*main, *template.each("containerSet", "containers"), *template.each("sidecars")],
        "initContainers": template.each("initContainers"),
    }
    for level in (workflow, template):
        try:
            patches = manifests.read(level.get("podSpecPatch") or "")
        except DocumentError:
            raise UndecidedError(f"what the podSpecPatch of {template.where} says") from None
        for patch in patches:
            pod = merged(pod, patch)
    return pod


def _spark_memory(application: View, own: View) -> str | None:
    """What Spark asks for: a JVM's heap, and what is beside it (spark.kubernetes.memoryOverheadFactor)."""
    heap, beside = own.get("memory"), own.get("memoryOverhead")
    if heap is None:
        return None
    factor: Any = application.get("spec", "memoryOverheadFactor")
    if factor is None:
        factor = 0.4 if application.get("spec", "type") in ("Python", "R") else 0.1
    mebibytes = jvm_mebibytes(str(heap))
    try:
        share = float(factor)
    except (TypeError, ValueError):
        share = None
    if mebibytes is None or share is None:
        return str(heap)
    overhead = jvm_mebibytes(str(beside)) if beside else None
    return f"{float(mebibytes) + float(overhead or max(384, float(mebibytes) * share)):.0f}Mi"


def _pairs(values: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()] if isinstance(values, Mapping) else []
