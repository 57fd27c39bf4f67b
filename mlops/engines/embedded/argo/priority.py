"""Which step of a workflow goes first where not all fit side by side: the one with the longest way to go after it.

Owns: how many steps that way has, by the definition alone. Deliberately not: how long they take, which nobody knows
before, and the queue (`scheduler`).
"""

from collections.abc import Mapping
from functools import cache

from definitions.argo.models import Spec, Step, Template
from mlops.engines.embedded.argo import dag

Specs = Mapping[str, Spec]
Called = tuple[str, str]


def steps_after(
    specs: Specs, scope: str, template: Template, inside: frozenset[Called] = frozenset()
) -> dict[str, int]:
    """The steps on the longest way from the end of each task to the end of its DAG or steps template, by its name.

    Args:
      specs: Specs of the WorkflowTemplates by name.
      scope: Which of them the template is in.
      template: A DAG or steps.
      inside: Templates that are being counted: one that calls itself counts as one step there.
    """
    if template.steps is not None:
        after, left = {}, 0
        for group in reversed(template.steps):
            after |= {step.name: left for step in group}
            left += max((_length(specs, scope, step, inside) for step in group), default=0)
        return after
    tasks = {task.name: task for task in (template.dag.tasks if template.dag else ())}
    waits = {name: dag.dependencies(task) for name, task in tasks.items()}

    @cache
    def left_after(name: str) -> int:
        following = [each for each, needed in waits.items() if name in needed]
        return max((left_after(each) + _length(specs, scope, tasks[each], inside) for each in following), default=0)

    return {name: left_after(name) for name in tasks}


def _length(specs: Specs, scope: str, call: Step, inside: frozenset[Called]) -> int:
    """Steps on the longest way through what a task calls."""
    reference = call.template_ref
    called = (reference.name, reference.template) if reference else (scope, call.template)
    template = specs[called[0]].template(called[1]) if called[0] in specs else None
    if called in inside or template is None or (template.dag is None and template.steps is None):
        return 1
    inside |= {called}
    ways = steps_after(specs, called[0], template, inside)
    return max((ways[each.name] + _length(specs, called[0], each, inside) for each in template.calls()), default=0)
