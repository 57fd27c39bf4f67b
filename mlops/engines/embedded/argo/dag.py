"""The rules of a DAG: which task waits for which, when it may start, and what the whole has come to.

Owns `dependencies`, `depends`, `continueOn` and fail-fast, by the tasks and how they ended. Deliberately runs nothing.
"""

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from definitions.argo.models import Dag, Step, Task
from mlops.engines.embedded.argo import expressions
from mlops.engines.embedded.argo.record import FAILED, Node

Waits = Mapping[str, AbstractSet[str]]
"""By name of a task: the tasks that it waits for."""
_DASH = "__dash__"


def dependencies(task: Task) -> set[str]:
    """The tasks that a task waits for.

    Raises:
      ExpressionError: Its `depends` is not understood.
    """
    if not task.depends:
        return set(task.dependencies)
    names = {name.replace(_DASH, "-") for name in _depends(task).names}
    return {name.rpartition(".")[0] or name for name in names}


def cycle(waits: Waits) -> list[str]:
    """Tasks that wait for each other, the first of them again at the end; empty if there are none."""
    done: set[str] = set()

    def walk(name: str, path: list[str]) -> list[str]:
        if name in path:
            return [*path[path.index(name) :], name]
        if name not in done:
            for other in sorted(waits.get(name, ())):
                if found := walk(other, [*path, name]):
                    return found
            done.add(name)
        return []

    return next((found for name in waits if (found := walk(name, []))), [])


def may_start(task: Task, tasks: Mapping[str, Task], done: Mapping[str, Node], nodes: Mapping[str, Node]) -> bool:
    """Whether the tasks that it waits for, which have all ended, ended as it needs them."""

    def fine(name: str) -> bool:
        return done[name]["phase"] in ("Succeeded", "Skipped") or continues(tasks[name], done[name])

    if not task.depends:
        return all(fine(name) for name in task.dependencies)
    scope: dict[str, Any] = {}
    for name in dependencies(task):
        node, key = done[name], name.replace("-", _DASH)
        inner = [nodes[child]["phase"] for child in node["children"]] if node["type"] == "TaskGroup" else []
        ends = {"Succeeded": "Succeeded", "Failed": "Failed", "Errored": "Error", "Skipped": "Skipped"}
        scope[key] = fine(name)
        scope |= {f"{key}.{end}": node["phase"] == phase for end, phase in (ends | {"Omitted": "Omitted"}).items()}
        scope |= {
            f"{key}.Daemoned": False,
            f"{key}.AnySucceeded": "Succeeded" in inner,
            f"{key}.AllFailed": bool(inner) and all(phase == "Failed" for phase in inner),
        }
    return _depends(task).evaluate(scope) is True


def failure(dag: Dag, waits: Waits, done: Mapping[str, Node]) -> str | None:
    """The phase in which the DAG has failed; None if it has not failed so far.

    Omitted tasks inherit their parents' phase, and the leaves decide.
    """
    phases: dict[str, str] = {}
    inner: set[str] = set().union(*waits.values())
    for task in sorted(dag.tasks, key=lambda each: each.name):
        if task.name not in inner:
            phase = _branch(task.name, done, waits, phases)
            if phase in FAILED and not continues(task, done.get(task.name)):
                return phase
    return None


def continues(call: Step, node: Node | None) -> bool:
    """Whether others go on after an end as bad as this."""
    phase = node["phase"] if node else ""
    return (phase == "Failed" and call.continue_on.failed) or (phase == "Error" and call.continue_on.error)


def first_failure(nodes: Iterable[Node]) -> str:
    """What the first node said that failed."""
    for node in sorted((node for node in nodes if node["phase"] in FAILED), key=lambda node: node["finishedAt"] or ""):
        return f"{node['displayName']}: {node.get('message', node['phase'])}"
    return ""


def _depends(task: Task) -> expressions.Expression:
    # In expr a dash is minus; in `depends` it is part of a name.
    return expressions.parse(re.sub(r"(?<=\w)-(?=\w)", _DASH, task.depends))


def _branch(name: str, done: Mapping[str, Node], waits: Waits, known: dict[str, str]) -> str:
    """A task's phase; that of its parents, failures first, if it was skipped or omitted; empty while that is open."""
    if name not in known:
        node = done.get(name)
        if node is None or node["phase"] in ("Succeeded", *FAILED):
            known[name] = node["phase"] if node else ""
        else:
            above = [_branch(parent, done, waits, known) for parent in sorted(waits[name])]
            known[name] = next((phase for phase in above if phase in FAILED), "Succeeded")
    return known[name]
