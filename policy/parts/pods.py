"""The pods that a Kubernetes resource of a stack runs or has others run, and the containers in them.

What only a chart renders is not here: of a Helm release a stack has nothing but values.
"""

from collections.abc import Iterator

from definitions import pods as forms
from inventory.resources import Resource
from policy.parts import workflows
from policy.rule import Part, whole

ANY = ("kubernetes:*",)


def pods(resource: Resource) -> Iterator[Part]:
    """Every pod, as its spec.

    Raises:
        UndecidedError: What makes it what it is is not known.
    """
    for application in workflows.applications(resource):
        yield from forms.of_spark(application)
    if resource.type in workflows.WORKFLOWS:
        for template in workflows.templates(resource):
            yield from forms.of_template(template)
        for manifest in workflows.manifests(resource):
            yield from forms.of_object(manifest, str(manifest.get("kind")))
    else:
        for registered in whole(resource):
            yield from forms.of_object(registered, resource.type.rpartition(":")[2])


def containers(resource: Resource) -> Iterator[Part]:
    """Every container, also those that only begin or accompany a pod; `outer` is the pod."""
    for pod in pods(resource):
        yield from forms.containers(pod)
