"""What the embedded engine does with each field of a definition: execute it, ignore it for a reason, or refuse it.

Owns: what is ignored and why, and `check`. Every other field of the types in `definitions` is executed; a field that
they do not have is refused, and so is a value that is not executed (another kind of template, a tag that nothing
fills). Deliberately not: running anything.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from definitions import documents
from definitions.argo import CronWorkflow, WorkflowTemplate, manifests, parse_definition
from definitions.argo.models import (
    Amounts,
    Container,
    CronSpec,
    Manifest,
    Resources,
    RetryStrategy,
    Script,
    Spec,
    Step,
    Template,
)
from definitions.spark import KIND, SparkApplication, SparkPod, SparkSpec
from definitions.typed import DefinitionError, Typed, has_tag, label, parse, place
from mlops.engines.embedded.argo import dag, expressions, retries, spark, tags
from mlops.engines.embedded.argo.expressions import ExpressionError
from mlops.engines.embedded.errors import EmbeddedError

_USER = "everything runs as the user who started the platform"
_PODS = "no pods are made on one machine: steps are processes of this user"
_MACHINE = "there is one machine"
_LOGS = "logs are always kept, in the state folder"
_METRICS = "nothing collects metrics on one machine"
_PULLED = "nothing is pulled on one machine"
_PLACEMENT = "nodeSelector tolerations affinity schedulerName"
_SCHEDULES = """schedules timezone concurrencyPolicy startingDeadlineSeconds successfulJobsHistoryLimit
failedJobsHistoryLimit suspend"""
_SPARK_PODS = """coreLimit memoryOverhead serviceAccount labels annotations securityContext podSecurityContext
tolerations affinity nodeSelector priorityClassName"""
_IGNORED: dict[type[Typed], dict[str, str]] = {
    CronSpec: {"schedules are not kept on one machine, which is not always on: run the pipeline by hand": _SCHEDULES},
    Spec: {
        _USER: "serviceAccountName automountServiceAccountToken",
        _PODS: """securityContext podMetadata podGC imagePullSecrets podDisruptionBudget podPriorityClassName
            volumeClaimGC""",
        _MACHINE: _PLACEMENT,
        "finished workflows are kept until they are deleted": "ttlStrategy",
        _LOGS: "archiveLogs",
        "artifacts stay in the bucket until it is emptied": "artifactGC",
        _METRICS: "metrics",
        "workflows share the machine in order of arrival": "priority",
    },
    Template: {
        _USER: "serviceAccountName automountServiceAccountToken",
        _PODS: "securityContext metadata executor priorityClassName",
        _MACHINE: _PLACEMENT,
        _METRICS: "metrics",
        _LOGS: "archiveLocation",
    },
    Container: {
        _PULLED: "imagePullPolicy",
        _PODS: "securityContext terminationMessagePath terminationMessagePolicy ports",
    },
    Resources: {
        "nothing limits what a step uses; requests decide what runs side by side, and how steps weigh": "limits"
    },
    Amounts: {"disk is not shared out": "ephemeral-storage"},
    RetryStrategy: {_MACHINE: "affinity"},
    Manifest: {"what a step starts ends with it": "setOwnerReference"},
    SparkSpec: {
        "Spark and Python are those of the image's lock file": "sparkVersion pythonVersion",
        _PULLED: "imagePullPolicy imagePullSecrets",
        "Spark runs in one process, local[*]": "dynamicAllocation memoryOverheadFactor",
        _PODS: "timeToLiveSeconds nodeSelector batchScheduler monitoring",
    },
    SparkPod: {"Spark runs in one process, local[*]: there are no driver and executor pods": _SPARK_PODS},
}
_IGNORED[Script] = _IGNORED[Container]
NO_MEANING = {
    kind: {name: reason for reason, names in reasons.items() for name in names.split()}
    for kind, reasons in _IGNORED.items()
}
"""Fields that have no meaning on one machine, with the reason. Each reason is shown once a run."""


def executed(kind: type[Typed]) -> list[str]:
    """The fields of a type that are executed, by Argo's names."""
    names = [field.alias or name for name, field in kind.model_fields.items()]
    return [name for name in names if name not in NO_MEANING.get(kind, {})]


KINDS_OF_TEMPLATE = ("container", "script", "dag", "steps", "resource")
CONDITION = re.compile(r"\s*status\.applicationState\.state\s*(==\s*(\w+)|in\s*\(\s*\w+(\s*,\s*\w+)*\s*\))\s*")

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
        definition: As its type; None if it cannot be read.
        refused: Why it cannot be run here, one line each; empty if it can.
        ignored: What means nothing on one machine: reason, and the fields.
    """

    definition: WorkflowTemplate | CronWorkflow | None = None
    refused: list[str] = field(default_factory=list)
    ignored: dict[str, set[str]] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """What is ignored, one line a reason."""
        return [f"{', '.join(sorted(names))}: {reason}" for reason, names in sorted(self.ignored.items())]


def check(value: Any) -> Checked:
    """What the embedded engine does with a WorkflowTemplate or CronWorkflow."""
    try:
        definition = parse_definition(value)
    except DefinitionError as error:
        return Checked(refused=error.problems)
    checked, where = Checked(definition), f"{definition.kind} {definition.metadata.name or '?'}"
    check_fields(definition, where, checked)
    if not checked.refused:
        checked.refused += _meaning(definition.workflow, where)
    return checked


def validate(value: Any) -> list[str]:
    """Why a WorkflowTemplate or CronWorkflow cannot be run here, one line each; empty if it can."""
    return check(value).refused


def spark_application(text: str, where: str, *, tagged: bool = False) -> SparkApplication:
    """Read a manifest that a resource template creates.

    Args:
        text: It.
        where: What it is called.
        tagged: Whether a run's values are still to be put in.

    Raises:
        DefinitionError: It is no SparkApplication that is executed here.
    """
    try:
        found = manifests.read(text) if tagged else documents.load_all(text)
    except documents.DocumentError as error:
        raise DefinitionError([f"{where}: the manifest {error}"]) from None
    kind = found[0].get("kind") if found and isinstance(found[0], dict) else None
    if kind != KIND or len(found) > 1:
        what = f"{len(found)} objects" if len(found) > 1 else f"a {kind}"
        raise DefinitionError([f"{where}: creates {what}; the embedded engine creates one SparkApplication only"])
    application, checked = parse(SparkApplication, found[0], where), Checked()
    check_fields(application, where, checked)
    if refused := [*checked.refused, *(f"{where}: {problem}" for problem in spark.problems(application))]:
        raise DefinitionError(refused)
    return application


def check_fields(value: Typed, where: str, checked: Checked) -> None:
    """Sort the fields of an object, and of all that is in it, into what is ignored and what is refused."""
    for name, inner in value.given():
        path, reason = place(where, name), NO_MEANING.get(type(value), {}).get(name)
        if reason:
            checked.ignored.setdefault(reason, set()).add(name)
        elif name in (value.model_extra or {}):
            checked.refused.append(
                f"{path} is not executed by the embedded engine; docs/reference/embedded-argo.md lists what is"
            )
        else:
            _check_inner(inner, path, checked)


def _check_inner(value: Any, path: str, checked: Checked) -> None:
    if isinstance(value, Typed):
        check_fields(value, path, checked)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check_inner(item, path + label(item, index), checked)


def _meaning(spec: Spec, where: str) -> Iterator[str]:
    names = [template.name for template in spec.templates]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"{where}: template {name} is there twice"
    for template in spec.templates:
        yield from _template(template, f"{where}: template {template.name}")
    for part, name in (("spec.entrypoint", spec.entrypoint), ("spec.onExit", spec.on_exit)):
        if name and name not in names:
            yield f"{where}: {part}: there is no template {name}"
    for template in spec.templates:
        for call in template.calls():
            if call.template and call.template not in names:
                yield f"{where}: template {template.name}: {call.name}: there is no template {call.template}"


def _template(template: Template, where: str) -> Iterator[str]:
    if sum(getattr(template, kind) is not None for kind in KINDS_OF_TEMPLATE) != 1:
        yield f"{where} must be exactly one of {', '.join(KINDS_OF_TEMPLATE)}"
        return
    yield from _tags(template, where)
    if template.resource:
        yield from _resource(template.resource, where)
    for call in template.calls():
        yield from _call(call, f"{where}: {call.name}")
    if template.dag:
        yield from _dag(template, where)
    for volume in template.volumes:
        if volume.empty_dir is None:
            yield f"{where}: volume {volume.name} is not an emptyDir"
    run = template.container or template.script
    for artifact in (*template.inputs.artifacts, *template.outputs.artifacts) if run else ():
        if not artifact.path:
            yield f"{where}: artifact {artifact.name} has no path"
    for mount in run.volume_mounts if run else ():
        if mount.name not in {volume.name for volume in template.volumes}:
            yield f"{where}: there is no volume {mount.name} to mount"
    yield from _repeated(template, where)


def _resource(resource: Manifest, where: str) -> Iterator[str]:
    if resource.action == "create":
        try:
            spark_application(resource.manifest, f"{where}: manifest", tagged=True)
        except DefinitionError as error:
            yield from error.problems
        conditions = {"successCondition": resource.success_condition, "failureCondition": resource.failure_condition}
        for name, condition in conditions.items():
            if not CONDITION.fullmatch(condition):
                yield f"{where}: {name} must be of the form: status.applicationState.state == STATE (or in (A, B))"
    elif resource.action != "delete":
        yield f"{where}: action {resource.action} is not executed by the embedded engine; create and delete are"
    elif not resource.flags or resource.flags[0].split(".")[0] not in ("sparkapplication", "sparkapplications"):
        yield f"{where}: delete is executed for flags [sparkapplication, --selector, ...] only"


def _call(call: Step, where: str) -> Iterator[str]:
    if bool(call.template) == (call.template_ref is not None):
        yield f"{where} must name one of template and templateRef"
    if sum(loop is not None for loop in (call.with_items, call.with_param, call.with_sequence)) > 1:
        yield f"{where} has more than one of withItems, withParam and withSequence"


def _dag(template: Template, where: str) -> Iterator[str]:
    tasks = template.dag.tasks if template.dag else []
    names, waits = {task.name for task in tasks}, {}
    for task in tasks:
        try:
            waits[task.name] = dag.dependencies(task)
        except ExpressionError as error:
            yield f"{where}: {error}"
            continue
        for other in sorted(waits[task.name] - names):
            yield f"{where}: task {task.name} depends on {other}, which there is not"
    if cycle := dag.cycle(waits):
        yield f"{where}: tasks wait for each other: {' -> '.join(cycle)}"


def _repeated(template: Template, where: str) -> Iterator[str]:
    """What is wrong with retries and memoisation."""
    strategy, memoize = template.retry_strategy, template.memoize
    if memoize and strategy:
        yield f"{where} has both memoize and retryStrategy, so that on Argo nothing that waits for it would start"
    spans = {"memoize.maxAge": memoize.max_age if memoize else ""}
    if strategy and strategy.backoff:
        backoff = strategy.backoff
        spans |= {"duration": backoff.duration, "maxDuration": backoff.max_duration, "cap": backoff.cap}
    for name, span in spans.items():
        try:
            if span and not has_tag(span):
                retries.duration(span)
        except EmbeddedError as error:
            yield f"{where}: {name}: {error}"
    if strategy is None:
        return
    if strategy.retry_policy not in ("", "Always", "OnFailure", "OnError"):
        yield f"{where}: retryPolicy {strategy.retry_policy} is not executed by the embedded engine"
    if strategy.expression:
        try:
            expressions.parse(strategy.expression)
        except ExpressionError as error:
            yield f"{where}: retryStrategy: {error}"


def _tags(template: Template, where: str) -> Iterator[str]:
    known = {"inputs.parameters"} | {f"inputs.parameters.{each.name}" for each in template.inputs.parameters}
    for artifact in template.inputs.artifacts:
        known |= {f"inputs.artifacts.{artifact.name}", f"inputs.artifacts.{artifact.name}.path"}
    known |= {f"outputs.artifacts.{each.name}.path" for each in template.outputs.artifacts}
    known |= {f"outputs.parameters.{each.name}.path" for each in template.outputs.parameters}
    others, own = {call.name for call in template.calls()}, "tasks" if template.dag else "steps"
    try:
        names = tags.names(template)
    except ExpressionError as error:
        yield f"{where}: {error}"
        return
    for name in sorted(names - known):
        other = _OTHER_TASK.fullmatch(name)
        if _GLOBALS.fullmatch(name) or _LOCAL.fullmatch(name) or (other and other[1] == own and other[2] in others):
            continue
        yield f"{where}: nothing gives {{{{{name}}}}} a value"
    for parameter in template.outputs.parameters:
        try:
            if parameter.value_from.expression:
                expressions.parse(parameter.value_from.expression)
        except ExpressionError as error:
            yield f"{where}: output {parameter.name}: {error}"
