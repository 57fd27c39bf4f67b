"""The parts of a Nomad job: its groups and tasks, with the values of its HCL variables in their places."""

from collections.abc import Iterator
from functools import lru_cache

from infra.workloads import jobspec
from mlops.plan.inventory import Resource
from policy.rule import Part, whole

JOB = "nomad:index/job:Job"


def job(resource: Resource) -> Iterator[Part]:
    """The job as a whole.

    Raises:
        UndecidedError: The jobspec is not known.
    """
    registered = next(iter(whole(resource)))
    parsed = _parse(registered.get("jobspec"))
    yield registered.inner(parsed.body, "")


def tasks(resource: Resource) -> Iterator[Part]:
    """Every task of every group; `outer` is its group, and the group's is the job."""
    for of in job(resource):
        for groups in of.each("group"):
            for group, body in groups.items():
                inside = of.inner(body, f"group {group}")
                for named in inside.each("task"):
                    for task, definition in named.items():
                        yield inside.inner(definition, f"task {task}")


@lru_cache(maxsize=64)
def _parse(text: str) -> jobspec.Jobspec:
    return jobspec.parse(text, "the jobspec")
