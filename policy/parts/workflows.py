"""The parts of Argo's objects: the workflow that would run, its templates, and what resource templates create.

Owns how Argo puts them together (defaults, and what a template has from its workflow), and reading YAML with Argo's
`{{...}}` in it. It deliberately evaluates no expression: what a rule sees is the text of it.
"""

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from definitions import documents
from inventory.resources import Resource
from policy.rule import Part, whole

_API = "kubernetes:argoproj.io/v1alpha1:"
CRON = f"{_API}CronWorkflow"
WORKFLOWS = (f"{_API}Workflow", f"{_API}WorkflowTemplate", f"{_API}ClusterWorkflowTemplate", CRON)
SPARK = "kubernetes:sparkoperator.k8s.io/*"
EXPRESSION = re.compile(r"\{\{.*?\}\}", re.DOTALL)
"""What Argo puts a value in the place of."""
_FIXED = re.compile(
    r"\{\{-?\s*(workflow\.(uid|name|namespace|mainEntrypoint|serviceAccountName|status|duration|priority)"
    r"|workflow\.creationTimestamp[.\w]*|pod\.name|node\.name|retries)\s*\}\}"
)


def given(text: str) -> list[str]:
    """The expressions in a text whose values somebody else gives: parameters, results of steps, labels."""
    return [found for found in EXPRESSION.findall(text) if not _FIXED.fullmatch(found)]


def specs(resource: Resource) -> Iterator[Part]:
    """The spec of the workflow that would run; a schedule that names a template has none of its own."""
    for registered in whole(resource):
        path = ("spec", "workflowSpec") if resource.type == CRON else ("spec",)
        if registered.get(*path, "templates"):
            yield registered.inner(registered.get(*path), "")


def templates(resource: Resource) -> Iterator[Part]:
    """Every template, with the workflow's `templateDefaults` in it; `outer` is the workflow's spec.

    Those that a step or task has of its own (`inline`) are among them.
    """
    for spec in specs(resource):
        defaults = spec.get("templateDefaults") or {}
        for one in spec.each("templates"):
            template = spec.inner(merged(defaults, one), f"template {one.get('name')}")
            yield template
            for task in tasks(template):
                if inline := task.get("inline"):
                    yield spec.inner(merged(defaults, inline), f"{template.where}, task {task.get('name')}")


def tasks(template: Part) -> Iterator[Part]:
    """Every task of a DAG, or step of a list of them, as it is called; `outer` is the template."""
    groups = (*template.each("dag", "tasks"), *template.each("steps"))
    for group in groups:
        for task in group if isinstance(group, list) else [group]:
            yield template.inner(task, "")


def manifests(resource: Resource) -> Iterator[Part]:
    """Every object in the manifests of resource templates; `outer` is the template."""
    for template in templates(resource):
        for document in read(template.get("resource", "manifest") or "") or []:
            if isinstance(document, Mapping):
                yield template.inner(document, str(document.get("kind")))


def applications(resource: Resource) -> Iterator[Part]:
    """Every SparkApplication, registered or made by a resource template."""
    if resource.type in WORKFLOWS:
        yield from (made for made in manifests(resource) if made.get("kind") == "SparkApplication")
    elif resource.type.startswith(SPARK[:-1]):
        for registered in whole(resource):
            scheduled = registered.get("spec", "template")
            yield registered.inner({"spec": scheduled}, "") if scheduled else registered


@lru_cache(maxsize=256)
def read(text: str) -> list[Any] | None:
    """The documents of YAML with Argo's expressions in it, which stay as they are; None for what is no YAML."""
    found: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        found.append(match[0])
        # As long as what it stands for: it counts in how much is read.
        return f"⟪{len(found) - 1}".ljust(len(match[0]) - 1, "_") + "⟫"

    try:
        read_ = documents.load_all(EXPRESSION.sub(stand_in, text))
    except documents.DocumentError:
        return None
    return [_restored(document, found) for document in read_]


def _restored(value: Any, found: list[str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"⟪(\d+)_*⟫", lambda match: found[int(match[1])], value)
    if isinstance(value, dict):
        return {_restored(key, found): _restored(inner, found) for key, inner in value.items()}
    return [_restored(inner, found) for inner in value] if isinstance(value, list) else value


def merged(base: Any, over: Any) -> Any:
    """One definition over another: maps by key, lists of named things by name, anything else as a whole."""
    if over is None:
        return base
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    if isinstance(base, list) and isinstance(over, list) and _named([*base, *over]):
        by_name = {item["name"]: item for item in base}
        for item in over:
            by_name[item["name"]] = merged(by_name.get(item["name"]), item)
        return list(by_name.values())
    return over


def _named(items: list[Any]) -> bool:
    return all(isinstance(item, Mapping) and "name" in item for item in items)
