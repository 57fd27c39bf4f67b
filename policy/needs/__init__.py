"""What each workload of a stack needs before it can run, read from what the workload itself refers to.

A need is derived from a job's or a template's own text: the buckets, secrets, images, service accounts and namespaces
that it names. It is met by a resource of the same inventory which gives it, and which the workload waits for. So that a
grant which is forgotten is found by the workload that would fail, and not by a list that repeats the program.

Owns: whether needs are met. Deliberately not: what they are, which is a subject a file.
"""

from collections.abc import Iterator

from inventory.order import ancestors
from policy.needs import keys, kubernetes, machines, nomad
from policy.needs.kubernetes import TEMPLATES
from policy.needs.supply import Need, Supply

__all__ = ("TEMPLATES", "Need", "Supply", "needs", "unmet")


def unmet(supply: Supply) -> list[tuple[str, str]]:
    """What workloads need and do not have, or do not wait for.

    Returns:
        The URN of what should wait for it, and a line which begins with the workload.
    """
    before = ancestors(supply.inventory)
    found = []
    for need in needs(supply):
        if not need.met:
            found.append((need.of, f"{need.workload}: needs {need.what}, which nothing gives"))
        elif need.waits and not need.met & before[need.of]:
            found.append((need.of, f"{need.workload}: needs {need.what}, and does not wait for it"))
    return found


def needs(supply: Supply) -> Iterator[Need]:
    """Everything that every workload needs."""
    for subject in (nomad, kubernetes, machines, keys):
        yield from subject.needs(supply)
