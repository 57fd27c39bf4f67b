"""Walks through Argo's objects of which parts may not be known: the workflow, its templates, and what these create.

Owns how Argo puts them together: defaults, and what a template has from its workflow. It deliberately evaluates no tag:
what is seen is its text.
"""

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from definitions.argo import manifests as texts
from definitions.argo.manifests import TAG
from definitions.documents import DocumentError
from definitions.views import View, merged

V = TypeVar("V", bound=View)

_FIXED = re.compile(
    r"-?\s*(workflow\.(uid|name|namespace|mainEntrypoint|serviceAccountName|status|duration|priority)"
    r"|workflow\.creationTimestamp[.\w]*|pod\.name|node\.name|retries)\s*"
)


def given(text: str) -> list[str]:
    """The tags in a text that are filled from outside: parameters, results of steps, labels."""
    return [tag[0] for tag in TAG.finditer(text) if not _FIXED.fullmatch(tag[1] + tag[2])]


def spec(definition: V, *path: str) -> Iterator[V]:
    """The spec of the workflow that would run, below a path; a schedule that names a template has none of its own."""
    if definition.get(*path, "templates"):
        yield definition.inner(definition.get(*path), "")


def templates(workflow: V) -> Iterator[V]:
    """Every template of a spec, with the workflow's `templateDefaults` in it; `outer` is the spec.

    Those that a step or task has of its own (`inline`) are among them.
    """
    defaults = workflow.get("templateDefaults") or {}
    for one in workflow.each("templates"):
        template = workflow.inner(merged(defaults, one), f"template {one.get('name')}")
        yield template
        for task in tasks(template):
            if inline := task.get("inline"):
                yield workflow.inner(merged(defaults, inline), f"{template.where}, task {task.get('name')}")


def tasks(template: V) -> Iterator[V]:
    """Every task of a DAG, or step of a list of them, as it is called; `outer` is the template."""
    for group in (*template.each("dag", "tasks"), *template.each("steps")):
        for task in group if isinstance(group, list) else [group]:
            yield template.inner(task, "")


def manifests(template: V) -> Iterator[V]:
    """Every object in the manifest of a resource template; `outer` is the template."""
    try:
        documents = texts.read(template.get("resource", "manifest") or "")
    except DocumentError:
        return
    for document in documents:
        if isinstance(document, Mapping):
            yield template.inner(document, str(document.get("kind")))
