"""The pods that a Kubernetes resource runs or has others run, and the containers in them.

Owns the one form in which rules see them, Kubernetes' own pod spec, whether they come from a template of Argo, a
SparkApplication (registered, or inside a template's manifest), or an object such as a Job. What only a chart renders is
not here: of a Helm release a stack has nothing but values.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from definitions.quantities import jvm_mebibytes
from inventory.resources import Resource
from inventory.values import number
from policy.parts import workflows
from policy.rule import Part, UndecidedError, whole

ANY = ("kubernetes:*",)
_LEAVES = ("container", "script", "containerSet", "resource", "data", "http", "plugin")
_POD = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
    **dict.fromkeys(("DaemonSet", "Deployment", "Job", "ReplicaSet", "StatefulSet"), ("spec", "template", "spec")),
}


def pods(resource: Resource) -> Iterator[Part]:
    """Every pod, as its spec.

    Raises:
        UndecidedError: What makes it what it is is not known.
    """
    for application in workflows.applications(resource):
        yield from _of_spark(application)
    if resource.type in workflows.WORKFLOWS:
        for template in workflows.templates(resource):
            if any(template.get(kind) is not None for kind in _LEAVES):
                yield template.inner(_of_argo(template), "")
        for manifest in workflows.manifests(resource):
            yield from _of_object(manifest, str(manifest.get("kind")))
    else:
        for registered in whole(resource):
            yield from _of_object(registered, resource.type.rpartition(":")[2])


def containers(resource: Resource) -> Iterator[Part]:
    """Every container, also those that only begin or accompany a pod; `outer` is the pod."""
    for pod in pods(resource):
        for kind, called in (("containers", "container"), ("initContainers", "init container")):
            for container in pod.each(kind):
                name = container.get("name")
                # Spark's own container is what people mean by the driver.
                yield pod.inner(container, "" if pod.where.split(", ")[-1] == name else f"{called} {name}")


def security(container: Part, *path: str) -> Any:
    """A field of a container's security context: its own, or else its pod's."""
    own = container.get("securityContext", *path)
    return container.outer.get("securityContext", *path) if own is None and container.outer else own


def _of_object(part: Part, kind: str) -> Iterator[Part]:
    if kind in _POD and (spec := part.get(*_POD[kind])):
        yield part.inner(spec, "")


def _of_argo(template: Part) -> dict[str, Any]:
    spec = template.outer
    assert spec, "a template is in a workflow"  # noqa: S101

    def own(key: str) -> Any:
        found = template.get(key)
        return spec.get(key) if found is None else found

    main = [{**found, "name": "main"} for kind in ("container", "script") if (found := template.get(kind))]
    pod: dict[str, Any] = {
        **{
            key: own(key)
            for key in ("automountServiceAccountToken", "nodeSelector", "securityContext", "serviceAccountName")
        },
        "tolerations": template.each("tolerations") or spec.each("tolerations"),
        "hostNetwork": spec.get("hostNetwork"),
        "volumes": [*spec.each("volumes"), *template.each("volumes")],
        "containers": [*main, *template.each("containerSet", "containers"), *template.each("sidecars")],
        "initContainers": template.each("initContainers"),
    }
    for level in (spec, template):
        text = level.get("podSpecPatch") or ""
        patches = workflows.read(text)
        if patches is None:
            raise UndecidedError(f"what the podSpecPatch of {template.where} says")
        for patch in patches:
            pod = workflows.merged(pod, patch)
    return pod


def _of_spark(application: Part) -> Iterator[Part]:
    driver = application.get("spec", "driver", "serviceAccount")
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
            "serviceAccountName": own.get("serviceAccount") or driver,
            "securityContext": own.get("podSecurityContext"),
            "nodeSelector": own.get("nodeSelector") or application.get("spec", "nodeSelector"),
            "tolerations": own.each("tolerations") or None,
            "hostNetwork": own.get("hostNetwork"),
            "volumes": application.each("spec", "volumes") or None,
            "containers": [container, *own.each("sidecars")],
            "initContainers": own.each("initContainers"),
        }
        yield application.inner(workflows.merged(own.get("template", "spec") or {}, pod), role)


def _spark_memory(application: Part, own: Part) -> str | None:
    """What Spark asks for: a JVM's heap, and what is beside it (spark.kubernetes.memoryOverheadFactor)."""
    heap, beside = own.get("memory"), own.get("memoryOverhead")
    if heap is None:
        return None
    factor: Any = application.get("spec", "memoryOverheadFactor")
    if factor is None:
        factor = 0.4 if application.get("spec", "type") in ("Python", "R") else 0.1
    mebibytes, share = jvm_mebibytes(str(heap)), number(factor)
    if mebibytes is None or share is None:
        return str(heap)
    overhead = jvm_mebibytes(str(beside)) if beside else None
    return f"{float(mebibytes) + float(overhead or max(384, float(mebibytes) * share)):.0f}Mi"


def _pairs(values: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()] if isinstance(values, Mapping) else []
