"""What the embedded engine does with each field of a definition: execute it, ignore it for a reason, or refuse it.

Owns: the three lists, and `validate`. A field that stands in neither of the first two lists is refused; so is a value
that the executed ones do not take (another kind of template, a tag that nothing fills). Deliberately not: running
anything.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from definitions import documents
from mlops.engines.embedded.argo import expressions, tags
from mlops.engines.embedded.argo.expressions import ExpressionError

X = "executed"

_METADATA = {"name": X, "namespace": X, "labels.*": X, "annotations.*": X, "generateName": X}
_LOOP = {"withItems": X, "withParam": X, "withSequence": "sequence", "when": X, "continueOn": "continueOn"}
_PODS = "no pods are made on one machine: steps are processes of this user"

EXECUTED: dict[str, dict[str, str]] = {
    "WorkflowTemplate": {"apiVersion": X, "kind": X, "metadata": "metadata", "spec": "spec"},
    "CronWorkflow": {"apiVersion": X, "kind": X, "metadata": "metadata", "spec": "cron"},
    "metadata": _METADATA,
    "cron": {"workflowSpec": "spec"},
    "spec": {
        "entrypoint": X,
        "arguments": "arguments",
        "templates[]": "template",
        "onExit": X,
        "activeDeadlineSeconds": X,
        "parallelism": X,
        "workflowMetadata": "labels",
        "workflowTemplateRef": "reference",
    },
    "reference": {"name": X},
    "labels": {"labels.*": X, "annotations.*": X},
    "arguments": {"parameters[]": "parameter", "artifacts[]": "artifact"},
    "parameter": {"name": X, "value": X, "default": X, "enum": X, "description": X, "valueFrom": "valueFrom"},
    "valueFrom": {"path": X, "default": X, "parameter": X, "expression": X, "jsonPath": X},
    "artifact": {
        "name": X,
        "path": X,
        "gcs": "gcs",
        "from": X,
        "raw": "raw",
        "archive": "archive",
        "optional": X,
        "description": X,
    },
    "gcs": {"key": X, "bucket": X},
    "raw": {"data": X},
    "archive": {"none": X},
    "template": {
        "name": X,
        "inputs": "arguments",
        "outputs": "outputs",
        "container": "container",
        "script": "script",
        "dag": "dag",
        "steps[][]": "step",
        "resource": "resource",
        "retryStrategy": "retryStrategy",
        "memoize": "memoize",
        "activeDeadlineSeconds": X,
        "parallelism": X,
        "failFast": X,
        "volumes[]": "volume",
    },
    "outputs": {"parameters[]": "parameter", "artifacts[]": "artifact"},
    "container": {
        "name": X,
        "image": X,
        "command": X,
        "args": X,
        "env[]": "env",
        "workingDir": X,
        "resources": "resources",
        "volumeMounts[]": "mount",
    },
    "script": {
        "name": X,
        "image": X,
        "command": X,
        "source": X,
        "env[]": "env",
        "workingDir": X,
        "resources": "resources",
        "volumeMounts[]": "mount",
    },
    "env": {"name": X, "value": X},
    "resources": {"requests": "amounts"},
    "amounts": {"cpu": X, "memory": X},
    "mount": {"name": X, "mountPath": X},
    "volume": {"name": X, "emptyDir": X},
    "dag": {"tasks[]": "task", "failFast": X},
    "task": {
        "name": X,
        "template": X,
        "templateRef": "templateRef",
        "arguments": "arguments",
        "dependencies": X,
        "depends": X,
        **_LOOP,
    },
    "step": {"name": X, "template": X, "templateRef": "templateRef", "arguments": "arguments", **_LOOP},
    "templateRef": {"name": X, "template": X},
    "sequence": {"count": X, "start": X, "end": X, "format": X},
    "continueOn": {"failed": X, "error": X},
    "retryStrategy": {"limit": X, "retryPolicy": X, "expression": X, "backoff": "backoff"},
    "backoff": {"duration": X, "factor": X, "maxDuration": X, "cap": X},
    "memoize": {"key": X, "maxAge": X, "cache": "cache"},
    "cache": {"configMap": "reference"},
    "resource": {"action": X, "manifest": X, "flags": X, "successCondition": X, "failureCondition": X},
    "SparkApplication": {"apiVersion": X, "kind": X, "metadata": "metadata", "spec": "spark"},
    "spark": {
        "type": X,
        "mode": X,
        "image": X,
        "mainApplicationFile": X,
        "mainClass": X,
        "arguments": X,
        "sparkConf.*": X,
        "hadoopConf.*": X,
        "driver": "sparkPod",
        "executor": "sparkPod",
        "restartPolicy": "restartPolicy",
    },
    "sparkPod": {"cores": X, "coreRequest": X, "memory": X, "env[]": "env", "instances": X},
    "restartPolicy": {
        "type": X,
        "onFailureRetries": X,
        "onFailureRetryInterval": X,
        "onSubmissionFailureRetries": X,
        "onSubmissionFailureRetryInterval": X,
    },
}
"""Fields that are executed, by kind of object: `executed` for a value, another kind's name for an object; `[]` marks a
list, `.*` any names."""

NO_MEANING: dict[str, dict[str, str]] = {
    "cron": {
        **dict.fromkeys(
            (
                "schedules",
                "timezone",
                "concurrencyPolicy",
                "startingDeadlineSeconds",
                "successfulJobsHistoryLimit",
                "failedJobsHistoryLimit",
                "suspend",
            ),
            "schedules are not kept on one machine, which is not always on: run the pipeline by hand",
        ),
    },
    "spec": {
        **dict.fromkeys(
            ("serviceAccountName", "automountServiceAccountToken"),
            "everything runs as the user who started the platform",
        ),
        **dict.fromkeys(
            (
                "securityContext",
                "podMetadata",
                "podGC",
                "imagePullSecrets",
                "podDisruptionBudget",
                "podPriorityClassName",
            ),
            _PODS,
        ),
        **dict.fromkeys(("nodeSelector", "tolerations", "affinity", "schedulerName"), "there is one machine"),
        "ttlStrategy": "finished workflows are kept until they are deleted",
        "archiveLogs": "logs are always kept, in the state folder",
        "artifactGC": "artifacts stay in the bucket until it is emptied",
        "volumeClaimGC": _PODS,
        "metrics": "nothing collects metrics on one machine",
        "priority": "workflows share the machine in order of arrival",
    },
    "template": {
        **dict.fromkeys(
            ("serviceAccountName", "automountServiceAccountToken"),
            "everything runs as the user who started the platform",
        ),
        **dict.fromkeys(("securityContext", "metadata", "executor", "priorityClassName"), _PODS),
        **dict.fromkeys(("nodeSelector", "tolerations", "affinity", "schedulerName"), "there is one machine"),
        "metrics": "nothing collects metrics on one machine",
        "archiveLocation": "logs are always kept, in the state folder",
    },
    "container": {
        **dict.fromkeys(("imagePullPolicy",), "nothing is pulled on one machine"),
        **dict.fromkeys(("securityContext", "terminationMessagePath", "terminationMessagePolicy", "ports"), _PODS),
    },
    "resources": {
        "limits": "nothing limits what a step uses; requests decide what runs side by side, and how steps weigh"
    },
    "amounts": {"ephemeral-storage": "disk is not shared out"},
    "retryStrategy": {"affinity": "there is one machine"},
    "resource": {"setOwnerReference": "what a step starts ends with it"},
    "spark": {
        **dict.fromkeys(("sparkVersion", "pythonVersion"), "Spark and Python are those of the image's lock file"),
        **dict.fromkeys(("imagePullPolicy", "imagePullSecrets"), "nothing is pulled on one machine"),
        **dict.fromkeys(("dynamicAllocation", "memoryOverheadFactor"), "Spark runs in one process, local[*]"),
        **dict.fromkeys(("timeToLiveSeconds", "nodeSelector", "batchScheduler", "monitoring"), _PODS),
    },
    "sparkPod": {
        **dict.fromkeys(
            (
                "coreLimit",
                "memoryOverhead",
                "serviceAccount",
                "labels",
                "annotations",
                "securityContext",
                "podSecurityContext",
                "tolerations",
                "affinity",
                "nodeSelector",
                "priorityClassName",
            ),
            "Spark runs in one process, local[*]: there are no driver and executor pods",
        ),
    },
}
NO_MEANING["script"] = NO_MEANING["container"]
"""Fields that mean nothing on one machine, and why; each reason is said once a run."""

KINDS_OF_TEMPLATE = ("container", "script", "dag", "steps", "resource")

_GLOBALS = re.compile(
    r"workflow\.(name|namespace|uid|mainEntrypoint|serviceAccountName|status|failures|duration|creationTimestamp(\.RFC3339)?|"
    r"parameters(\.json)?|parameters\..+|labels(\.json|\..+)|annotations(\.json|\..+))"
)
_LOCAL = re.compile(r"(pod\.name|node\.name|retries|lastRetry\.\w+|item(\..+)?|tasks\.name|steps\.name)")
_OTHER_TASK = re.compile(
    r"(tasks|steps)\.([^.]+)\.(id|status|exitCode|startedAt|finishedAt|outputs\.(result|parameters(\..+)?|artifacts\..+))"
)


@dataclass
class Checked:
    """What is said of a definition.

    Attributes:
        refused: Why it cannot be run here, one line each; empty if it can.
        ignored: What means nothing on one machine: reason, and the fields.
    """

    refused: list[str] = field(default_factory=list)
    ignored: dict[str, set[str]] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What is ignored, one line a reason."""
        return [f"{', '.join(sorted(names))}: {reason}" for reason, names in sorted(self.ignored.items())]


def check(definition: Mapping[str, Any]) -> Checked:
    """What the embedded engine does with a WorkflowTemplate or CronWorkflow."""
    checked = Checked()
    kind = definition.get("kind")
    if kind not in ("WorkflowTemplate", "CronWorkflow") or definition.get("apiVersion") != "argoproj.io/v1alpha1":
        checked.refused.append(
            f"{definition.get('apiVersion')} {kind}: the embedded engine registers WorkflowTemplates and CronWorkflows "
            "of argoproj.io/v1alpha1"
        )
        return checked
    where = f"{kind} {definition.get('metadata', {}).get('name', '?')}"
    _fields(definition, kind, where, checked)
    if not checked.refused:
        for refusal in _meaning(definition, where):
            checked.refused.append(refusal)
    return checked


def validate(definition: Mapping[str, Any]) -> list[str]:
    """Why a WorkflowTemplate or CronWorkflow cannot be run here, one line each; empty if it can."""
    return check(definition).refused


def spark_application(text: str, where: str, checked: Checked) -> dict[str, Any]:
    """Read a manifest that a resource template creates; what is wrong with it is added to `checked`."""
    try:
        manifest = documents.load(text)
    except documents.DocumentError as error:
        checked.refused.append(f"{where}: the manifest {error}")
        return {}
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or kind != "SparkApplication":
        checked.refused.append(f"{where}: creates a {kind}; the embedded engine creates SparkApplications only")
        return {}
    _fields(manifest, "SparkApplication", where, checked)
    return manifest


def _fields(value: Any, kind: str, where: str, checked: Checked) -> None:
    if not isinstance(value, dict):
        checked.refused.append(f"{where}: is not an object")
        return
    executed, ignored = EXECUTED.get(kind, {}), NO_MEANING.get(kind, {})
    for name, inner in value.items():
        place = f"{where}: {name}" if where.count(": ") == 0 else f"{where}.{name}"
        if inner is None and name != "none":
            continue
        if name in ignored:
            checked.ignored.setdefault(ignored[name], set()).add(name)
        elif name in executed or f"{name}.*" in executed:
            of = executed.get(name, X)
            if of != X:
                _fields(inner, of, place, checked)
        elif f"{name}[]" in executed or f"{name}[][]" in executed:
            nested = f"{name}[]" not in executed
            for index, item in enumerate(inner if isinstance(inner, list) else [inner]):
                for at, one in enumerate(item if nested and isinstance(item, list) else [item]):
                    label = one.get("name") if isinstance(one, dict) else None
                    of = executed[f"{name}[][]" if nested else f"{name}[]"]
                    _fields(one, of, f"{place}[{label or (f'{index}.{at}' if nested else index)}]", checked)
        else:
            checked.refused.append(
                f"{place} is not executed by the embedded engine; docs/reference/embedded-argo.md lists what is"
            )


def templates_of(definition: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The templates that a definition holds."""
    spec = definition["spec"].get("workflowSpec", definition["spec"])
    return list(spec.get("templates") or [])


def _meaning(definition: Mapping[str, Any], where: str) -> Iterator[str]:
    spec = definition["spec"].get("workflowSpec", definition["spec"])
    seen: set[str] = set()
    for template in templates_of(definition):
        name = template.get("name", "?")
        place = f"{where}: template {name}"
        if name in seen:
            yield f"{place} is there twice"
        seen.add(name)
        kinds = [kind for kind in KINDS_OF_TEMPLATE if kind in template]
        if len(kinds) != 1:
            yield f"{place} must be exactly one of {', '.join(KINDS_OF_TEMPLATE)}"
            continue
        yield from _template(template, kinds[0], place)
    for part, value in (("spec.entrypoint", spec.get("entrypoint")), ("spec.onExit", spec.get("onExit"))):
        if value is not None and value not in seen:
            yield f"{where}: {part}: there is no template {value}"
    for template in templates_of(definition):
        for call in calls(template):
            if "template" in call and call["template"] not in seen:
                place = f"{where}: template {template['name']}: {call.get('name')}"
                yield f"{place}: there is no template {call['template']}"


def calls(template: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The tasks or steps of a template."""
    dag = template.get("dag") or {}
    return [*dag.get("tasks", ()), *(step for group in template.get("steps") or () for step in group)]


def _template(template: Mapping[str, Any], kind: str, place: str) -> Iterator[str]:
    yield from _tags(template, kind, place)
    resource = template.get("resource") or {}
    if kind == "resource":
        action = resource.get("action")
        if action == "create":
            checked = Checked()
            # Tags are filled when it runs; here only the shape counts, so a bare one stands as a text.
            manifest = re.sub(r"(?m)(?<=[ -] )(\{\{=.*\}\})$", "filled-later", resource.get("manifest", ""))
            spark_application(manifest, f"{place}: manifest", checked)
            yield from checked.refused
            for name in ("successCondition", "failureCondition"):
                if not CONDITION.fullmatch(resource.get(name, "")):
                    yield f"{place}: {name} must be of the form: status.applicationState.state == STATE (or in (A, B))"
        elif action == "delete":
            if not resource.get("flags") or resource["flags"][0].split(".")[0] not in (
                "sparkapplication",
                "sparkapplications",
            ):
                yield f"{place}: delete is executed for flags [sparkapplication, --selector, ...] only"
        else:
            yield f"{place}: action {action} is not executed by the embedded engine; create and delete are"
    for call in calls(template):
        what = f"{place}: {call.get('name', '?')}"
        if ("template" in call) == ("templateRef" in call):
            yield f"{what} must name one of template and templateRef"
        if sum(loop in call for loop in ("withItems", "withParam", "withSequence")) > 1:
            yield f"{what} has more than one of withItems, withParam and withSequence"
    if kind == "dag":
        tasks = {task["name"]: task for task in template["dag"].get("tasks", ())}
        graph = {}
        for name, task in tasks.items():
            try:
                graph[name] = dependencies(task)
            except ExpressionError as error:
                yield f"{place}: {error}"
                continue
            for other in sorted(graph[name] - set(tasks)):
                yield f"{place}: task {name} depends on {other}, which there is not"
        if cycle := _cycle(graph):
            yield f"{place}: tasks wait for each other: {' -> '.join(cycle)}"
    for volume in template.get("volumes", ()):
        if "emptyDir" not in volume:
            yield f"{place}: volume {volume.get('name')} is not an emptyDir"
    mounted = {volume.get("name") for volume in template.get("volumes", ())}
    for mount in (template.get("container") or template.get("script") or {}).get("volumeMounts", ()):
        if mount.get("name") not in mounted:
            yield f"{place}: there is no volume {mount.get('name')} to mount"
    strategy = template.get("retryStrategy") or {}
    if "memoize" in template and "retryStrategy" in template:
        yield f"{place} has both memoize and retryStrategy, so that on Argo nothing that waits for it would start"
    if strategy.get("retryPolicy", "Always") not in ("Always", "OnFailure", "OnError"):
        yield f"{place}: retryPolicy {strategy['retryPolicy']} is not executed by the embedded engine"
    if "expression" in strategy:
        try:
            expressions.parse(strategy["expression"])
        except ExpressionError as error:
            yield f"{place}: retryStrategy: {error}"


CONDITION = re.compile(r"\s*status\.applicationState\.state\s*(==\s*(\w+)|in\s*\(\s*\w+(\s*,\s*\w+)*\s*\))\s*")


def dependencies(task: Mapping[str, Any]) -> set[str]:
    """The tasks that a task waits for.

    Raises:
      ExpressionError: Its `depends` is not understood.
    """
    if "depends" in task:
        return {name.rpartition(".")[0] or name for name in depends(task).names} if task["depends"] else set()
    return set(task.get("dependencies") or ())


def depends(task: Mapping[str, Any]) -> expressions.Expression:
    """`depends` as an expression in which a task's name may hold dashes.

    Raises:
      ExpressionError: It is not understood.
    """
    text = task["depends"]
    # In expr a dash is minus; in `depends` it is part of a name.
    expression = expressions.parse(re.sub(r"(?<=\w)-(?=\w)", "__dash__", text))
    return expressions.Expression(
        text, frozenset(n.replace("__dash__", "-") for n in expression.names), expression.evaluate
    )


def _cycle(graph: Mapping[str, set[str]]) -> list[str]:
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(graph.get(name, ())):
                if found := walk(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in graph if (found := walk(name, []))), [])


def _tags(template: Mapping[str, Any], kind: str, place: str) -> Iterator[str]:
    inputs, outputs = template.get("inputs") or {}, template.get("outputs") or {}
    known = {f"inputs.parameters.{one['name']}" for one in inputs.get("parameters", ())} | {"inputs.parameters"}
    for one in inputs.get("artifacts", ()):
        known |= {f"inputs.artifacts.{one['name']}", f"inputs.artifacts.{one['name']}.path"}
    for group in ("artifacts", "parameters"):
        known |= {f"outputs.{group}.{one['name']}.path" for one in outputs.get(group, ())}
    others = {call.get("name") for call in calls(template)}
    own = "tasks" if kind == "dag" else "steps"
    try:
        names = tags.names({key: value for key, value in template.items() if key != "resource"})
        names |= tags.names(template.get("resource") or {})
    except ExpressionError as error:
        yield f"{place}: {error}"
        return
    for name in sorted(names):
        other = _OTHER_TASK.fullmatch(name)
        if (
            name in known
            or _GLOBALS.fullmatch(name)
            or _LOCAL.fullmatch(name)
            or (other and other[1] == own and other[2] in others)
        ):
            continue
        yield f"{place}: nothing gives {{{{{name}}}}} a value"
    for parameter in outputs.get("parameters", ()):
        if expression := (parameter.get("valueFrom") or {}).get("expression"):
            try:
                expressions.parse(expression)
            except ExpressionError as error:
                yield f"{place}: output {parameter['name']}: {error}"
