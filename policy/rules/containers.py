"""Rules on containers and pods: what one may do to its node and to others, and whether it can be run again.

They hold for every pod that a stack has made: of Argo's templates, of SparkApplications inside them, of Kubernetes'
own kinds. "PSS" is Kubernetes' Pod Security Standards (kubernetes.io/docs/concepts/security/pod-security-standards),
"CIS GKE" the CIS Google Kubernetes Engine Benchmark 1.6.0, "NSA/CISA" the Kubernetes Hardening Guide of both.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from definitions.pods import security
from definitions.quantities import quantity
from infra import credentials
from inventory.capacity import machine
from inventory.resources import Resource
from policy.parts import google, workflows
from policy.parts.pods import ANY, containers, pods
from policy.rule import Check, Level, Part, Rule, Stack, UndecidedError

# PSS, profile restricted, "Volume Types".
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_CONTAINERS = ("containers", "initContainers")
_PINNED = re.compile(r"@sha256:[0-9a-f]{64}$|:[0-9a-f]{12,64}$|:v?\d+\.\d+\.\d+[\w.+-]*$")
_REPOSITORY = "gcp:artifactregistry/repository:Repository"


def _root(container: Part, _: Stack) -> Iterator[str]:
    if security(container, "runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if security(container, "runAsUser") == 0:
        yield "runAsUser is 0, which is root"


def _privilege(container: Part, _: Stack) -> Iterator[str]:
    if container.get("securityContext", "privileged") not in (None, False):
        yield "privileged is on"
    if container.get("securityContext", "allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    if (proc := container.get("securityContext", "procMount")) not in (None, "Default"):
        yield f"procMount is {proc}"


def _capabilities(container: Part, _: Stack) -> Iterator[str]:
    if "ALL" not in container.each("securityContext", "capabilities", "drop"):
        yield "capabilities.drop is without ALL"
    if added := set(container.each("securityContext", "capabilities", "add")) - {"NET_BIND_SERVICE"}:
        yield f"capabilities.add has {', '.join(sorted(added))}"


def _seccomp(container: Part, _: Stack) -> Iterator[str]:
    profile = security(container, "seccompProfile", "type")
    if profile not in ("RuntimeDefault", "Localhost"):
        yield f"seccompProfile is {profile or 'not set'}"


def _read_only(container: Part, _: Stack) -> Iterator[str]:
    # Spark writes beside its program, and the operator mounts nothing there.
    spark = container.where.split(", ")[-1] in ("driver", "executor")
    if not spark and container.get("securityContext", "readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem is not true"


def _host(pod: Part, _: Stack) -> Iterator[str]:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key) not in (None, False):
            yield f"{key} is on"
    for kind in ("containers", "initContainers"):
        for container in pod.each(kind):
            for port in pod.inner(container, "").each("ports"):
                if number := pod.inner(port, "").get("hostPort"):
                    yield f"container {container.get('name')} has hostPort {number}"


def _volumes(pod: Part, _: Stack) -> Iterator[str]:
    for volume in pod.each("volumes"):
        if strange := set(volume) - {"name"} - _VOLUMES:
            path = pod.inner(volume, "").get("hostPath", "path")
            yield f"volume {volume.get('name')} is {', '.join(sorted(strange))}{f' {path}' if path else ''}"


def restricted(container: Part, stack: Stack) -> Iterator[str]:
    """What keeps a container from the profile `restricted`."""
    for check in (_root, _privilege, _capabilities, _seccomp):
        yield from check(container, stack)


def asks(container: Part, _: Stack) -> Iterator[str]:
    """What a container does not ask for."""
    for kind, what in (("requests", "cpu"), ("requests", "memory"), ("limits", "memory")):
        if not container.get("resources", kind, what):
            yield f"resources.{kind}.{what} is not set"


def registries(stack: Stack) -> tuple[str, ...]:
    """What names of images may begin with: the stack's own repositories, and those that it lists."""
    own = (
        f"{one.get('location')}-docker.pkg.dev/{one.get('project')}/{one.get('repositoryId')}/"
        for resource in stack.inventory.of_type(_REPOSITORY)
        for one in [Part(resource, resource.inputs)]
    )
    return (*own, *stack.parameters.image_registries)


def is_pinned(image: str) -> bool:
    """Whether an image's name says which one it is: by a digest, a hash of its content, or a whole version."""
    return bool(_PINNED.search(image))


def _image(container: Part, stack: Stack) -> Iterator[str]:
    image = str(container.get("image") or "")
    if "{{" in image:
        yield f"image {image} is whatever a run's submitter says"
    elif not is_pinned(image):
        yield f"image {image or 'is not set, so that it'} is not pinned: its tag is neither a version nor a hash"
    elif not image.startswith(registries(stack)):
        yield f"image {image} is from none of the stack's repositories"


def _literal(container: Part, _: Stack) -> Iterator[str]:
    for one in container.each("env"):
        variable = container.inner(one, "")
        if credentials.is_literal(str(variable.get("name")), str(variable.get("value") or "")):
            yield f"environment variable {variable.get('name')} holds a credential"
    words = [str(word) for word in (*container.each("command"), *container.each("args"))]
    for option, value in zip(words, [*words[1:], ""], strict=False):
        name, joined = (*option.split("=", 1), "")[:2]
        if not option.startswith("-"):
            if credentials.is_value(option):
                yield "an argument holds a credential"
        elif credentials.is_value(joined) or credentials.is_named(name, joined or ("" if value[:1] == "-" else value)):
            yield f"{name} holds a credential"
    if credentials.is_value(str(container.get("source") or "")):
        yield "its script holds a credential"


def _pods_and_workflows(resource: Resource) -> Iterator[Part]:
    yield from pods(resource)
    if resource.type in workflows.WORKFLOWS:
        yield from workflows.specs(resource)


def _account(pod: Part, _: Stack) -> Iterator[str]:
    account = pod.get("serviceAccountName")
    if account in (None, "", "default"):
        yield f"serviceAccountName is {account or 'not set, which is default'}"
    elif "{{" in account:
        yield f"serviceAccountName {account} is whatever a run's submitter says"


def _selected(pod: Part, stack: Stack) -> list[Part]:
    """The node pools that a pod may go to by its selector."""
    pools = [Part(one, one.inputs) for one in stack.inventory.of_type(google.NODE_POOL)]
    wanted = {key: pod.get("nodeSelector", key) for key in pod.get("nodeSelector") or {}}
    return [pool for pool in pools if all(pool.get("nodeConfig", "labels", key) == wanted[key] for key in wanted)]


def _placed(pod: Part, stack: Stack) -> Iterator[str]:
    if not stack.inventory.of_type(google.NODE_POOL):
        return  # The cluster is someone else's.
    wanted = pod.get("nodeSelector") or {}
    fitting = _selected(pod, stack)
    if not wanted:
        yield "nodeSelector is not set, so that it goes to the nodes of the platform's own operators"
    elif not fitting:
        yield f"nodeSelector {_pairs(wanted)} is the label of no node pool, so that it would wait for ever"
    elif all(list(_refused(pod, pool)) for pool in fitting):
        taint = next(taint for pool in fitting for taint in _refused(pod, pool))
        yield f"it does not tolerate {taint} of the pool that it selects, so that it would wait for ever"


def _refused(pod: Part, pool: Part) -> Iterator[str]:
    """The taints of a pool that a pod does not tolerate."""
    tolerations = [pod.inner(one, "") for one in pod.each("tolerations")]
    for one in pool.each("nodeConfig", "taints"):
        taint = pool.inner(one, "")
        key, value, effect = taint.get("key"), taint.get("value"), taint.get("effect")
        # GKE writes NO_SCHEDULE what Kubernetes calls NoSchedule.
        called = str(effect).title().replace("_", "")
        if effect != "PREFER_NO_SCHEDULE" and not any(
            one.get("key") in (None, key)
            and (one.get("operator") == "Exists" or one.get("value") == value)
            and one.get("effect") in (None, called)
            for one in tolerations
        ):
            yield f"{key}={value}:{called}"


def _fits(pod: Part, stack: Stack) -> Iterator[str]:
    machines: list[tuple[float, float]] = []
    for pool in _selected(pod, stack):
        kind = pool.get("nodeConfig", "machineType")
        if (has := machine(kind)) is None:
            raise UndecidedError(f"what a machine {kind} has")
        machines.append(has)
    asked: dict[str, float] = {}
    for what in ("cpu", "memory"):
        together, first = ([_asked(one, what) for one in _containers(pod, kind)] for kind in _CONTAINERS)
        if strange := [text for text, amount in (*together, *first) if amount is None]:
            yield f"requests.{what} is {strange[0]}, which is no quantity, so that it fits no node"
            return
        # Init containers run one after the other, before the rest.
        asked[what] = max([sum(amount or 0 for _, amount in together), *(amount or 0 for _, amount in first)])
    cpu, memory = asked["cpu"], asked["memory"] / 2**30
    if machines and not any(cpu <= vcpu and memory <= has for vcpu, has in machines):
        most = ", ".join(f"{vcpu:g} vCPU and {has:g} GiB" for vcpu, has in machines)
        yield f"it asks for {cpu:g} CPU and {memory:g} GiB, and the machines of its pool have {most}"


def _containers(pod: Part, kind: str) -> list[Part]:
    return [pod.inner(one, "") for one in pod.each(kind)]


def _asked(container: Part, what: str) -> tuple[Any, float | None]:
    # A limit alone is a request too.
    found = [container.get("resources", kind, what) for kind in ("requests", "limits")]
    text = next((one for one in found if one is not None), "0")
    amount = quantity(str(text))
    return text, None if amount is None else float(amount)


def _pairs(labels: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in labels.items())


def _rule(
    id_: str,
    holds: str,
    why: str,
    fix: str,
    check: Check,
    *,
    parts: Callable[[Resource], Iterable[Part]] = containers,
    level: Level = Level.MANDATORY,
    across: bool = False,
) -> Rule:
    return Rule(id_, level, holds, why, fix, check, ANY, parts, across)


RULES = (
    _rule(
        "container-root",
        "No container runs as root.",
        "PSS restricted, Running as Non-root; NSA/CISA, Non-root containers. By default all pods of workflows run as "
        "root (Argo's docs/workflow-pod-security-context.md), and who breaks out of one is root on the node.",
        "Set runAsNonRoot: true and a runAsUser other than 0 in the pod's or the container's security context.",
        _root,
    ),
    _rule(
        "container-privilege",
        "No container is privileged, nor can a process in it get more rights than it began with.",
        "PSS, Privileged Containers and Privilege Escalation; CIS GKE 4.6.3: a privileged one is root on its node.",
        "Remove privileged and set allowPrivilegeEscalation: false.",
        _privilege,
    ),
    _rule(
        "container-capabilities",
        "Every container drops all capabilities of Linux, and adds none but NET_BIND_SERVICE.",
        "PSS restricted, Capabilities; CIS GKE 4.6.3: the runtime gives fourteen that no training needs.",
        "Set capabilities: {drop: [ALL]} in the container's security context.",
        _capabilities,
    ),
    _rule(
        "container-seccomp",
        "Every container has a seccomp profile.",
        "PSS restricted, Seccomp; CIS GKE 4.6.2: Kubernetes' own default is none, and breakouts use rare system calls.",
        "Set seccompProfile: {type: RuntimeDefault} in the pod's security context.",
        _seccomp,
    ),
    _rule(
        "container-read-only",
        "The file system of a container's image cannot be written; Spark's is excepted.",
        "NSA/CISA, Immutable container file systems: who gets into a container cannot leave a program there.",
        "Set readOnlyRootFilesystem: true, and mount an emptyDir where it writes.",
        _read_only,
        level=Level.ADVISORY,
    ),
    _rule(
        "pod-host",
        "No pod shares its node's network, processes or ports.",
        "PSS, Host Namespaces and Host Ports. On the node's network a pod is behind no network policy, and reaches the "
        "machine's own metadata server and its service account.",
        "Remove hostNetwork, hostPID, hostIPC and hostPort.",
        _host,
        parts=pods,
    ),
    _rule(
        "pod-volumes",
        "No pod mounts a path of its node, nor any volume but Kubernetes' own kinds.",
        "PSS, HostPath Volumes and restricted, Volume Types: a path of the node is a way out of the container.",
        "Use an emptyDir for scratch space, and buckets for what lasts.",
        _volumes,
        parts=pods,
    ),
    _rule(
        "container-resources",
        "Every container asks for CPU and memory and has a limit of memory; Spark's driver and executors too.",
        "NSA/CISA, Resource policies. A pod that asks for nothing is put on a full node, and one without a limit of "
        "memory has its neighbours killed.",
        "Set resources.requests and limits.memory, or, of Spark, coreRequest and memory.",
        asks,
    ),
    _rule(
        "container-image",
        "Every image is pinned by a version or a hash, and comes from the stack's own repositories.",
        "CIS GKE 5.1.4; a model cannot be verified with the code that trained it when `latest` is another one today.",
        "Take the image from the context's `images`, or add its repository to image_registries in policy/stacks/.",
        _image,
        across=True,
    ),
    _rule(
        "container-credential",
        "No credential stands in a container's environment, arguments or script.",
        "CIS GKE 4.4.1 and 4.4.2; a template is read by everyone who may start it, and is in the database in clear.",
        "Keep it in Secret Manager and read it with the pod's own identity.",
        _literal,
    ),
    _rule(
        "pod-service-account",
        "Every pod and every workflow acts as a service account of its role, never as the namespace's default.",
        "CIS GKE 4.1.4; Argo's docs/security.md, Workflow Pod Permissions: without one it is `default`, which has "
        "whatever anyone ever bound to it. A workflow's own is that of each template without one, of those that it "
        "calls from another WorkflowTemplate, and of pods that Argo adds.",
        "Set serviceAccountName to one of kubernetes.service_accounts.",
        _account,
        parts=_pods_and_workflows,
    ),
    _rule(
        "pod-placed",
        "Every pod selects a node pool that is there, and tolerates its taint.",
        "Without a selector a training lands on the nodes of the operators and starves them; with one that no pool has "
        "it waits until the workflow's deadline (Kubernetes, Assigning Pods to Nodes; Taints and Tolerations).",
        "Place it by the context's `pools`, or add the node pool to kubernetes.clusters.",
        _placed,
        parts=pods,
        across=True,
    ),
    _rule(
        "pod-fits",
        "No pod asks for more than a machine of the node pool that it selects has.",
        "A pod that fits no node stays Pending, and a cluster autoscaler adds none for it, so that it waits until the "
        "workflow's deadline (Kubernetes, Resource Management for Pods and Containers; Node Autoscaling). What GKE and "
        "its own pods take of a node is not counted here, so leave a tenth.",
        "Ask for less, or give the pool in kubernetes.clusters a larger machine_type.",
        _fits,
        parts=pods,
        across=True,
    ),
)
