"""The parts of a Nomad job: its groups and tasks, with the values of its HCL variables in their places.

Owns how a jobspec is looked into. It evaluates nothing else: an expression of Nomad's stays as it is written, so that
a rule which is shown one where it expects a value is broken.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from definitions.nomad import jobspec
from inventory.resources import SECRET, UNKNOWN, Resource
from policy.rule import Part, UndecidedError, whole

JOB = "nomad:index/job:Job"


def job(resource: Resource) -> Iterator[Part]:
    """The job as a whole.

    Raises:
        UndecidedError: The jobspec is not known, or cannot be read; what cannot be is a rule's to tell.
    """
    registered, parsed = _parsed(resource)
    yield registered.inner(jobspec.filled(parsed.body, variables(resource).value, (UNKNOWN, SECRET)), "")


def variables(resource: Resource) -> Part:
    """The values of the job's HCL variables, by name.

    Raises:
        UndecidedError: As for `job`.
    """
    registered, parsed = _parsed(resource)
    given = registered.get("hcl2", "vars") or {}
    values = {name: _value(variable, given.get(name)) for name, variable in parsed.variables.items()}
    return registered.inner(values, "hcl2")


def _parsed(resource: Resource) -> tuple[Part, jobspec.Jobspec]:
    registered = next(iter(whole(resource)))
    try:
        return registered, jobspec.parse(registered.get("jobspec"), "the jobspec")
    except jobspec.JobspecError:
        raise UndecidedError("jobspec") from None


def groups(resource: Resource) -> Iterator[Part]:
    """Every group; `outer` is the job."""
    for of in job(resource):
        yield from _named(of, "group")


def tasks(resource: Resource) -> Iterator[Part]:
    """Every task of every group; `outer` is its group, and the group's is the job."""
    for group in groups(resource):
        yield from _named(group, "task")


def names(task: Part) -> tuple[str, str]:
    """What a task's group is called, and the task itself."""
    group, _, name = task.where.removeprefix("group ").partition(", task ")
    return group, name


def blocks(part: Part, kind: str) -> Iterator[Part]:
    """Every block of a kind without a label directly in a part: `config`, `resources`."""
    for block in part.each(kind):
        yield part.inner(block, kind)


def texts(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text in something, with the keys that lead to it."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from texts(inner, (*path, str(key)))
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner, path)
    elif isinstance(value, str):
        yield path, value


def _named(outer: Part, kind: str) -> Iterator[Part]:
    for block in outer.each(kind):
        for name, body in block.items():
            yield outer.inner(body, f"{kind} {name}")


def _value(variable: jobspec.Variable, given: Any) -> Any:
    """What Nomad makes of the text that the stack gives; the default where it gives none."""
    if given is None:
        return variable.default
    return given if given in (UNKNOWN, SECRET) else variable.value(given)
