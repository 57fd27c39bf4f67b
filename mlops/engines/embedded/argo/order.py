"""Which step of a workflow goes first where not all fit side by side: the one with the longest way to go after it.

Owns: how many steps that way has, by the definition alone. Deliberately not: how long they take, which nobody knows
before, and the queue (`scheduler`).
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from mlops.engines.embedded.argo import fields

Specs = Mapping[str, Mapping[str, Any]]
Template = Mapping[str, Any]
Called = tuple[str, str]


def after(specs: Specs, scope: str, template: Template, inside: frozenset[Called] = frozenset()) -> dict[str, int]:
    """The steps on the longest way from the end of each task to the end of its DAG or steps template, by its name.

    Args:
      specs: Specs of the WorkflowTemplates by name.
      scope: Which of them the template is in.
      template: A DAG or steps.
      inside: Templates that are being counted: one that calls itself counts as one step there.
    """
    if "steps" in template:
        found, left = {}, 0
        for group in reversed(template["steps"]):
            found |= {step["name"]: left for step in group}
            left += max((_length(specs, scope, step, inside) for step in group), default=0)
        return found
    tasks = {task["name"]: task for task in template["dag"].get("tasks", ())}
    waits = {name: fields.dependencies(task) for name, task in tasks.items()}

    @cache
    def left_after(name: str) -> int:
        following = [each for each, needed in waits.items() if name in needed]
        return max((left_after(each) + _length(specs, scope, tasks[each], inside) for each in following), default=0)

    return {name: left_after(name) for name in tasks}


def _length(specs: Specs, scope: str, call: Mapping[str, Any], inside: frozenset[Called]) -> int:
    """Steps on the longest way through what a task calls."""
    reference = call.get("templateRef") or {"name": scope, "template": call.get("template", "")}
    called = (reference["name"], reference["template"])
    templates = specs.get(called[0], {}).get("templates", ())
    template = next((each for each in templates if each["name"] == called[1]), {})
    if called in inside or not ("dag" in template or "steps" in template):
        return 1
    inside |= {called}
    ways = after(specs, called[0], template, inside)
    groups = template["steps"] if "steps" in template else [template["dag"].get("tasks", ())]
    calls = [each for group in groups for each in group]
    return max((ways[each["name"]] + _length(specs, called[0], each, inside) for each in calls), default=0)
