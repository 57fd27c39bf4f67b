"""What must hold for rendered Argo objects, as functions that give the problems they find.

Typed models are hera's and kubeflow-spark-api's. Neither forbids unknown fields, so an object is parsed, dumped and
compared.
"""

import json
import re
import subprocess
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from hera.workflows import models as m
from kubeflow_spark_api.models import SparkV1beta2SparkApplication

from definitions.argo.models import Task
from definitions.typed import parse
from mlops.engines.embedded.argo import dag, expressions, support, tags

Object = Mapping[str, Any]
_MODELS: dict[str, Any] = {"WorkflowTemplate": m.WorkflowTemplate, "CronWorkflow": m.CronWorkflow}
CONTENT_HASH = r"[0-9a-f]{20}"
"""What `infra.images` gives as a tag."""
REMOVED = {
    "schedule": "schedules",
    "mutex": "mutexes",
    "semaphore": "semaphores",
    "podPriority": "podPriorityClassName",
    "serviceAccountKeySecret": "workload identity",
}
"""Fields that Argo v4 took away (and a key that would be a credential), with what to write instead."""
DENIED_CONF = re.compile(
    r"spark\.master|spark\.kubernetes\.driver\.master|spark\.kubernetes(\.driver|\.executor)?\.container\.image|"
    r"spark\.kubernetes\.authenticate\..*|spark\.kubernetes\.namespace|spark\.dynamicAllocation\..*"
)
"""What the Spark Operator's webhook refuses in sparkConf, and what it sets wrongly from there."""


@dataclass(frozen=True)
class Known:
    """What a stack has, by name: all that its objects may refer to beside each other."""

    namespace: str
    images: Collection[str]
    service_accounts: Collection[str]
    buckets: Collection[str]


def paths(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in an object with its path."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from paths(inner, f"{path}.{key}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, f"{path}[{index}]")
    else:
        yield path, value


def templates(objects: Iterable[Object]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every template with the name of the WorkflowTemplate that it stands in."""
    for one in objects:
        for template in one["spec"].get("workflowSpec", one["spec"]).get("templates") or []:
            yield one["metadata"]["name"], template


def calls(template: Object) -> list[Object]:
    """The tasks or steps of a template."""
    tasks = (template.get("dag") or {}).get("tasks", ())
    return [*tasks, *(step for group in template.get("steps") or () for step in group)]


def typed(objects: Iterable[Object]) -> list[str]:
    """Unknown fields and wrong types."""
    problems = []
    for one in objects:
        name = f"{one['kind']} {one['metadata']['name']}"
        try:
            dumped = _MODELS[one["kind"]].model_validate(one).model_dump(mode="json", by_alias=True, exclude_none=True)
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        problems += [f"{name}: {problem}" for problem in _compared(one, dumped)]
    for name, manifest in spark_manifests(objects):
        try:
            dumped = json.loads(SparkV1beta2SparkApplication.model_validate(manifest).to_json())
        except ValueError as error:
            problems.append(f"{name}: {error}")
            continue
        problems += [f"{name}: {problem}" for problem in _compared(manifest, dumped)]
    return problems


def _compared(given: Object, dumped: Object) -> Iterator[str]:
    kept = dict(paths(dumped))
    for path, value in paths(given):
        if path not in kept:
            yield f"{path} is not a field"
        elif kept[path] != value or type(kept[path]) is not type(value):
            yield f"{path}: {value!r} becomes {kept[path]!r}"


def spark_manifests(objects: Iterable[Object]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every manifest that is created, with texts in the place of tags."""
    for where, template in templates(objects):
        if "manifest" in (template.get("resource") or {}):
            text = re.sub(r"\{\{=(.*?)\}\}", '"expression"', template["resource"]["manifest"])
            yield f"{where}/{template['name']}", yaml.safe_load(text)


def removed(objects: Iterable[Object]) -> list[str]:
    """What Argo v4 does not know any more."""
    problems = []
    for one in objects:
        for path, _ in paths(one):
            problems += [
                f"{path}: Argo v4 has {REMOVED[key]}" for key in path.split(".") if key.split("[")[0] in REMOVED
            ]
    for where, template in templates(objects):
        strategy = template.get("retryStrategy") or {}
        if not isinstance(strategy.get("limit", ""), str):
            problems.append(
                f"{where}/{template['name']}: retryStrategy.limit must be text: Argo's schema takes no number"
            )
    return problems


def spark(objects: Iterable[Object]) -> list[str]:
    """What makes a SparkApplication safe to wait for, to retry, and to leave behind."""
    problems = []
    for where, template in templates(objects):
        resource = template.get("resource") or {}
        if resource.get("action") != "create":
            continue
        place = f"{where}/{template['name']}"
        manifest = dict(spark_manifests([o for o in objects if o["metadata"]["name"] == where]))[place]
        spec, metadata = manifest["spec"], manifest["metadata"]
        wanted = {
            "successCondition": "status.applicationState.state == COMPLETED",
            "failureCondition": "status.applicationState.state == FAILED",
            "setOwnerReference": True,
        }
        problems += [f"{place}: {key} is not {value}" for key, value in wanted.items() if resource.get(key) != value]
        if "name" in metadata:
            problems.append(f"{place}: a fixed name exists already when the step is retried")
        if not re.fullmatch(r"[a-z]([-a-z0-9]{0,56}-)", metadata.get("generateName", "")):
            problems.append(f"{place}: generateName makes no DNS-1035 label")
        if denied := [key for key in spec.get("sparkConf", {}) if DENIED_CONF.fullmatch(key)]:
            problems.append(
                f"{place}: sparkConf {denied} is refused by the operator's webhook, or means something else"
            )
        if not spec.get("dynamicAllocation", {}).get("enabled") or "instances" in spec["executor"]:
            problems.append(f"{place}: dynamic allocation is not on")
        if spec.get("restartPolicy", {}).get("type") != "OnFailure" or not spec.get("timeToLiveSeconds"):
            problems.append(f"{place}: no restart policy, or no time to live")
        for pod in ("driver", "executor"):
            security = spec[pod].get("securityContext", {})
            if security.get("runAsUser") != 185 or security.get("capabilities") != {"drop": ["ALL"]}:
                problems.append(f"{place}: {pod} does not run as Spark's user without capabilities")
    return problems


def references(objects: Sequence[Object], stack: Known) -> list[str]:
    """Everything that is named is there: templates, parameters, artifacts, service accounts, images, buckets, pools."""
    problems = []
    known = {(where, template["name"]): template for where, template in templates(objects)}
    names = {one["metadata"]["name"] for one in objects if one["kind"] == "WorkflowTemplate"}
    for one in objects:
        spec = one["spec"].get("workflowSpec", one["spec"])
        where = one["metadata"]["name"]
        if one["metadata"].get("namespace") != stack.namespace:
            problems.append(f"{where}: not in namespace {stack.namespace}")
        reference = (spec.get("workflowTemplateRef") or {}).get("name")
        if reference and reference not in names:
            problems.append(f"{where}: there is no WorkflowTemplate {reference}")
        declared = {f"workflow.parameters.{p['name']}" for p in (spec.get("arguments") or {}).get("parameters", ())}
        used = {tag for tag in tags.names(dict(spec)) if tag.startswith("workflow.parameters.")}
        problems += [f"{where}: {tag} is not an argument" for tag in used - declared - {"workflow.parameters.json"}]
        accounts = [value for path, value in paths(spec) if path.endswith(".serviceAccountName")]
        for _, manifest in spark_manifests([one]):
            accounts += [value for path, value in paths(manifest) if path.endswith(".serviceAccount")]
            if manifest["metadata"].get("namespace") != stack.namespace:
                problems.append(f"{where}: a SparkApplication outside the workflow's namespace cannot be owned by it")
        problems += [f"{where}: no service account {a}" for a in accounts if a not in stack.service_accounts]
        text = json.dumps(one)
        images = {value for path, value in paths(one) if path.endswith((".container.image", ".script.image"))}
        images |= {manifest["spec"].get("image", "") for _, manifest in spark_manifests([one])}
        problems += [f"{where}: no image {image}" for image in sorted(images - set(stack.images))]
        buckets = set(re.findall(r"gs://([\w.-]+)", text))
        problems += [f"{where}: no bucket {bucket}" for bucket in sorted(buckets - set(stack.buckets))]
        problems += [
            f"{where}: {path}: only key-only artifacts" for path, _ in paths(one) if path.endswith(".gcs.bucket")
        ]
    for (where, name), template in known.items():
        place = f"{where}/{name}"
        kind = "tasks" if "dag" in template else "steps"
        callees = {}
        for call in calls(template):
            reference = call.get("templateRef") or {"name": where, "template": call.get("template")}
            callee = known.get((reference["name"], reference["template"]))
            if callee is None:
                problems.append(
                    f"{place}/{call['name']}: there is no template {reference['name']}/{reference['template']}"
                )
                continue
            callees[call["name"]] = (call, callee)
            problems += _arguments(f"{place}/{call['name']}", call, callee)
        problems += _outputs(place, template, kind, callees)
        for group in ("inputs", "outputs"):
            for artifact in (template.get(group) or {}).get("artifacts", ()):
                key = (artifact.get("gcs") or {}).get("key")
                if key is not None and artifact.get("archive") != {"none": {}}:
                    problems.append(f"{place}: artifact {artifact['name']} would be packed as an archive")
                if key is not None and "." not in key.rsplit("/", 1)[-1] and not key.endswith("/"):
                    problems.append(
                        f"{place}: artifact {artifact['name']} is a folder, and its key has no slash at its end"
                    )
        if "container" in template and not template.get("activeDeadlineSeconds"):
            problems.append(f"{place}: no deadline")
        if "container" in template and not template["container"].get("resources", {}).get("requests"):
            problems.append(f"{place}: no resources")
        if "container" in template and not template.get("serviceAccountName"):
            problems.append(f"{place}: no service account of its own")
    return problems


def _arguments(place: str, call: Object, callee: Object) -> Iterator[str]:
    arguments = call.get("arguments") or {}
    for group in ("parameters", "artifacts"):
        given = {one["name"] for one in arguments.get(group, ())}
        declared = {one["name"]: one for one in (callee.get("inputs") or {}).get(group, ())}
        yield from (f"{place}: {callee['name']} takes no {group[:-1]} {name}" for name in sorted(given - set(declared)))
        needed = {
            name
            for name, one in declared.items()
            if not {"value", "default", "gcs", "raw"} & set(one) and not one.get("optional")
        }
        yield from (f"{place}: {group[:-1]} {name} is not given" for name in sorted(needed - given))


def _outputs(place: str, template: Object, kind: str, callees: Mapping[str, tuple[Object, Object]]) -> Iterator[str]:
    waits = {name: dag.dependencies(parse(Task, call, place)) for name, (call, _) in callees.items()}

    def before(name: str) -> set[str]:
        return waits[name] | {above for direct in waits[name] if direct in waits for above in before(direct)}

    sources = [(name, call) for name, (call, _) in callees.items()] + [("", {"outputs": template.get("outputs") or {}})]
    for user, value in sources:
        used = tags.names(value)
        for text in tags.texts(value):
            used |= set(re.findall(r"\{\{([^=}]+)\}\}", text))
        for name in sorted(used):
            match = re.fullmatch(rf"{kind}\.([^.]+)\.outputs\.(parameters|artifacts)\.(\w+)", name)
            if not match:
                continue
            if match[1] not in callees:
                yield f"{place}: {name}: there is no {match[1]}"
                continue
            call, callee = callees[match[1]]
            outputs = {one["name"]: one for one in (callee.get("outputs") or {}).get(match[2], ())}
            if match[3] not in outputs:
                yield f"{place}: {name}: {callee['name']} gives no such output"
            elif "when" in call and "default" not in (outputs[match[3]].get("valueFrom") or {}):
                yield f"{place}: {name} is absent when {match[1]} is skipped, and has no default (Argo v4.0.7)"
            if user and kind == "tasks" and match[1] not in before(user):
                yield f"{place}/{user}: uses {name} and does not wait for {match[1]}"


def memoised(objects: Iterable[Object]) -> list[str]:
    """Every input of a memoised template, its image and the switch are in its key; and the result names its run."""
    problems = []
    for where, template in templates(objects):
        if "memoize" not in template:
            continue
        place, key = f"{where}/{template['name']}", template["memoize"]["key"]
        if "retryStrategy" in template:
            problems.append(f"{place}: is retried too: what waits for it would not start when a result was found")
        names = tags.names(key)
        inputs = {f"inputs.parameters.{one['name']}" for one in template.get("inputs", {}).get("parameters", ())}
        problems += [f"{place}: {name} is not in the cache's key" for name in sorted(inputs - names)]
        if "workflow.uid" not in names or not key.startswith("{{=sprig.sha256sum("):
            problems.append(f"{place}: the key is no hash, or memoise=false would still find a result")
        if not re.search(rf":{CONTENT_HASH}'", key):
            problems.append(f"{place}: the key does not hold the image's content hash")
        if "run" not in {one["name"] for one in template.get("outputs", {}).get("parameters", ())}:
            problems.append(f"{place}: the result does not say which run it is of")
        for name in names:
            if name.startswith("workflow.") and name != "workflow.uid":
                problems.append(f"{place}: {name} in the key is another in a template that is referred to")
    return problems


def retries(objects: Iterable[Object]) -> list[str]:
    """A definite no (exit code 2) is never tried again; a lost pod, and what the cluster could not be asked, are."""
    problems = []
    for where, template in templates(objects):
        if (template.get("resource") or {}).get("action") == "create":
            problems += _retries_of_asking(f"{where}/{template['name']}", template)
        if "container" not in template:
            continue
        expression = (template.get("retryStrategy") or {}).get("expression")
        if not expression:
            problems.append(f"{where}/{template['name']}: no retry by kind of failure")
            continue
        parsed = expressions.parse(expression)
        for code, message, expected in (
            ("2", "", False),
            ("1", "", True),
            ("-1", "pod deleted", True),
            ("137", "OOMKilled", False),
        ):
            if parsed.evaluate({"lastRetry.exitCode": code, "lastRetry.message": message}) is not expected:
                problems.append(f"{where}/{template['name']}: exit code {code} {message} is treated the wrong way")
    return problems


# What Argo's executor said on a cluster; the exit code was always 64, and the phase Failed.
_SAID = {
    "main: Error (exit code 64): failure condition '{status.applicationState.state == [FAILED]}' evaluated true": False,
    'main: Error (exit code 64): no more retries 1 error when creating "/tmp/manifest.yaml": admission webhook '
    '"validate-sparkapplication.sparkoperator.k8s.io" denied the request: spec.sparkConf': False,
    'main: Error (exit code 64): no more retries sparkapplications.sparkoperator.k8s.io is forbidden: User "x"': False,
    "Pod was active on the node longer than the specified deadline": False,
    'main: Error (exit code 64): no more retries 1 error when creating "/tmp/manifest.yaml": Internal error occurred: '
    'failed calling webhook "mutate-sparkapplication.sparkoperator.k8s.io": connection refused': True,
    "main: Error (exit code 64): no more retries Unable to connect to the server: dial tcp: i/o timeout": True,
    "pod deleted": True,
}


def _retries_of_asking(place: str, template: Object) -> Iterator[str]:
    strategy = template.get("retryStrategy") or {}
    if strategy.get("retryPolicy", "Always") != "Always" or not strategy.get("expression"):
        yield f"{place}: what could not be created is Failed, and is never retried"
        return
    parsed = expressions.parse(strategy["expression"])
    for message, again in _SAID.items():
        if parsed.evaluate({"lastRetry.exitCode": "64", "lastRetry.message": message}) is not again:
            yield f"{place}: {'not ' if again else ''}retried after: {message}"


def commands(objects: Iterable[Object]) -> list[str]:
    """Every container names its command: Argo's controller need not ask the image's registry."""
    return [
        f"{where}/{template['name']}: no command"
        for where, template in templates(objects)
        if "container" in template and not template["container"].get("command")
    ]


def every(stack: Known) -> dict[str, Callable[[Sequence[Any]], list[str]]]:
    """All checks by name, for the objects of a stack."""
    return {
        "typed": typed,
        "removed": removed,
        "spark": spark,
        "references": lambda objects: references(objects, stack),
        "memoised": memoised,
        "retries": retries,
        "commands": commands,
        "embedded": lambda objects: [refusal for one in objects for refusal in support.validate(one)],
    }


def lint(objects: Iterable[Object], folder: Path) -> subprocess.CompletedProcess[str]:
    """What Argo's own linter says of objects, written to a folder first; `argo` is on PATH."""
    folder.mkdir()
    for index, one in enumerate(objects):
        (folder / f"{index}.yaml").write_text(yaml.safe_dump(dict(one)))
    return subprocess.run(["argo", "lint", "--offline", str(folder)], capture_output=True, text=True)
