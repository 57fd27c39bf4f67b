"""Rules on Helm releases: the operators' charts, of which a stack has nothing but values.

Owns what of those values is judged. What a chart renders without them is its maker's, and not seen here.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra import credentials
from policy.rule import Check, Level, Part, Rule, Stack
from policy.rules.containers import asks, registries, restricted

_RELEASE = "kubernetes:helm.sh/v3:Release"
_ARGO, _SPARK = "argo-workflows", "spark-operator"
# Where the charts of infra/versions.py have resources, and where images' registries.
_COMPONENTS = {_ARGO: ("controller", "executor", "server"), _SPARK: ("controller", "webhook")}
_IMAGES = {_ARGO: ("controller.image", "executor.image", "server.image"), _SPARK: ("image", "hook.image")}
_LOOSE = {
    **dict.fromkeys(("privileged", "allowPrivilegeEscalation", "hostNetwork", "hostPID", "hostIPC"), True),
    **dict.fromkeys(("runAsNonRoot", "readOnlyRootFilesystem"), False),
    "runAsUser": 0,
}


def _chart(release: Part) -> str:
    return str(release.get("chart")).rpartition("/")[2]


def _walked(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value that is no map, with its path; items of lists among them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _walked(inner, (*path, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from _walked(inner, path)
    else:
        yield path, value


def _values(release: Part) -> Iterator[tuple[str, str, Any]]:
    for path, value in _walked(release.get("values") or {}):
        if path:
            yield ".".join(path), path[-1], release.inner({"value": value}, "").get("value")


def _pinned(release: Part, _: Stack) -> Iterator[str]:
    version = release.get("version")
    if not re.fullmatch(r"v?\d+\.\d+\.\d+[\w.+-]*", str(version or "")):
        yield f"version is {version or 'not set, which is the newest'}"
    for path, key, value in _values(release):
        if key == "tag" and not re.search(r"\d+\.\d+|^[0-9a-f]{12,}$", str(value)):
            yield f"values.{path} is {value}"


def _images(release: Part, stack: Stack) -> Iterator[str]:
    known = registries(stack)
    for path in _IMAGES.get(_chart(release), ()):
        if not release.get("values", *path.split("."), "registry"):
            yield f"values.{path}.registry is not set, so that it is pulled from the internet"
    for path, key, value in _values(release):
        if key == "registry" and not f"{value}/".startswith(known):
            yield f"values.{path} {value} is none of the stack's repositories"


def _sized(release: Part, stack: Stack) -> Iterator[str]:
    for name in _COMPONENTS.get(_chart(release), ()):
        for problem in asks(release.inner(release.get("values", name) or {}, ""), stack):
            yield f"values.{name}.{problem}"


def _secure(release: Part, stack: Stack) -> Iterator[str]:
    for path, key, value in _values(release):
        if (key in _LOOSE and value is _LOOSE[key]) or (key == "runAsUser" and value == 0):
            yield f"values.{path} is {value}"
        elif ".hostPath." in path:
            yield f"values.{path} mounts a path of the node"
        elif isinstance(value, str) and credentials.is_literal(key, value):
            yield f"values.{path} holds a credential"
    if _chart(release) == _ARGO:
        for problem in restricted(release.inner(release.get("values", "executor") or {}, ""), stack):
            yield f"values.executor.securityContext: {problem}"


def _argo(release: Part, _: Stack) -> Iterator[str]:
    if _chart(release) != _ARGO:
        return
    values = release.inner(release.get("values") or {}, "")
    restrictions = values.get("controller", "workflowRestrictions", "templateReferencing")
    if restrictions not in ("Strict", "Secure"):
        yield f"values.controller.workflowRestrictions.templateReferencing is {restrictions or 'not set'}"
    if values.get("singleNamespace") is not True:
        yield "values.singleNamespace is not true, so that its controller may start pods and read secrets everywhere"
    if not values.get("controller", "parallelism"):
        yield "values.controller.parallelism is not set, so that any number of workflows runs at once"


def _server(release: Part, _: Stack) -> Iterator[str]:
    if _chart(release) != _ARGO:
        return
    server = release.inner(release.get("values", "server") or {}, "")
    modes = server.each("authModes")
    if open_modes := {"server", "hybrid"} & set(modes):
        yield f"values.server.authModes has {', '.join(sorted(open_modes))}: whoever reaches it may act as the server"
    if server.get("ingress", "enabled") not in (None, False):
        yield "values.server.ingress.enabled is on"
    if (kind := server.get("serviceType")) not in (None, "ClusterIP"):
        yield f"values.server.serviceType is {kind}"


def _operator(release: Part, _: Stack) -> Iterator[str]:
    if _chart(release) != _SPARK:
        return
    values = release.inner(release.get("values") or {}, "")
    namespaces = values.each("spark", "jobNamespaces")
    if not namespaces or "" in namespaces:
        yield f"values.spark.jobNamespaces is {'every namespace' if namespaces else 'not set'}"
    if values.get("webhook", "enable") is False:
        yield "values.webhook.enable is false, so that what only it sets on pods is lost"
    if (policy := values.get("webhook", "failurePolicy")) not in (None, "Fail"):
        yield f"values.webhook.failurePolicy is {policy}, so that pods start without what it sets on them"


def _rule(id_: str, holds: str, why: str, fix: str, check: Check, *, across: bool = False) -> Rule:
    return Rule(id_, Level.MANDATORY, holds, why, fix, check, (_RELEASE,), across=across)


RULES = (
    _rule(
        "release-version",
        "A chart and its images have a version.",
        "Helm, `helm install --version`: without one the newest is taken, so that two updates of one commit differ.",
        "Set the version in infra/versions.py.",
        _pinned,
    ),
    _rule(
        "release-images",
        "The operators' images are pulled through the stack's own repositories.",
        "CIS GKE 5.1.4. Private nodes pull what Artifact Registry keeps, also while the public registry is down or "
        "asks for fewer pulls.",
        "Set the image's registry in the values, as infra/kubernetes/operators.py does.",
        _images,
        across=True,
    ),
    _rule(
        "release-resources",
        "Each part of an operator asks for CPU and memory and has a limit of memory.",
        "Argo's docs/cost-optimisation.md, Set Resources Requests and Limits; the Spark Operator starts a JVM for each "
        "submission in its controller, and one without room fails with `signal: killed`.",
        "Set resources in the values.",
        _sized,
    ),
    _rule(
        "release-security",
        "Values loosen nothing that a chart secures, hold no credential, and restrict the executor of each step.",
        "PSS; Argo's docs/workflow-pod-security-context.md. The executor is in every pod of every workflow.",
        "Remove it, or set the executor's securityContext as infra/kubernetes/operators.py does.",
        _secure,
    ),
    _rule(
        "argo-restricted",
        "Argo runs registered templates alone, in its own namespace, a bounded number at once.",
        "Argo's docs/workflow-restrictions.md and docs/security.md: who may submit any workflow may run any image as "
        "any service account of the namespace.",
        "Set controller.workflowRestrictions.templateReferencing, singleNamespace and controller.parallelism.",
        _argo,
    ),
    _rule(
        "argo-server-closed",
        "Argo Server asks everyone who they are, and is reached from inside the cluster alone.",
        "Argo's docs/argo-server-auth-mode.md: in mode server it acts for anyone, with its own account. Open "
        "dashboards of Kubeflow, whose pipelines are Argo's, were used to mine cryptocurrency (Microsoft, June 2020).",
        "Keep authModes client or sso, a ClusterIP and no ingress.",
        _server,
    ),
    _rule(
        "spark-operator-scope",
        "The Spark Operator acts in the workloads' namespace alone, and no pod of Spark starts past its webhook.",
        "Its chart, spark.jobNamespaces: with an empty name it has a ClusterRole to make pods everywhere. Tolerations, "
        "security contexts and volumes of driver and executors are set by the webhook alone.",
        "Set spark.jobNamespaces, and keep the webhook with failurePolicy Fail.",
        _operator,
    ),
)
