"""The parts of Argo's objects that a stack registers: the workflow that would run, its templates, what these create."""

from collections.abc import Iterator
from typing import Any

from definitions.argo import manifests as texts
from definitions.argo import views
from definitions.documents import DocumentError
from inventory.resources import Resource
from policy.rule import Part, whole

_API = "kubernetes:argoproj.io/v1alpha1:"
CRON = f"{_API}CronWorkflow"
WORKFLOWS = (f"{_API}Workflow", f"{_API}WorkflowTemplate", f"{_API}ClusterWorkflowTemplate", CRON)
SPARK = "kubernetes:sparkoperator.k8s.io/*"


def specs(resource: Resource) -> Iterator[Part]:
    """The spec of the workflow that would run; a schedule that names a template has none of its own."""
    path = ("spec", "workflowSpec") if resource.type == CRON else ("spec",)
    for registered in whole(resource):
        yield from views.spec(registered, *path)


def templates(resource: Resource) -> Iterator[Part]:
    """Every template; `outer` is the workflow's spec."""
    for spec in specs(resource):
        yield from views.templates(spec)


def manifests(resource: Resource) -> Iterator[Part]:
    """Every object in the manifests of resource templates; `outer` is the template."""
    for template in templates(resource):
        yield from views.manifests(template)


def read(text: str) -> list[Any] | None:
    """The documents of YAML with tags in it; None for what is not YAML."""
    try:
        return texts.read(text)
    except DocumentError:
        return None


def applications(resource: Resource) -> Iterator[Part]:
    """Every SparkApplication, registered or made by a resource template."""
    if resource.type in WORKFLOWS:
        yield from (made for made in manifests(resource) if made.get("kind") == "SparkApplication")
    elif resource.type.startswith(SPARK[:-1]):
        for registered in whole(resource):
            scheduled = registered.get("spec", "template")
            yield registered.inner({"spec": scheduled}, "") if scheduled else registered
