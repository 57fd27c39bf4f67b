"""`mlops plan` as data: what a stack is, and against another commit what a change does to it.

Owns what is run: the working tree's program and, for a comparison, the other commit's, each in a checkout of its own
and confined. How it looks is `render`'s.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from infra.settings import stacks
from inventory.capacity import Capacity, capacity
from inventory.checkout import checkout, commit
from inventory.exposure import Exposure, exposure
from inventory.kept import recorded
from inventory.permissions import Grant, permissions
from inventory.recorder import PlanError, record, unconfined
from inventory.resources import Inventory
from inventory.values import with_references
from mlops.changes.diff import Difference, difference
from policy.verdicts import Judge, Policies, PolicyChange, policy_change


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Entry(_Model):
    """A resource's place in a stack."""

    layer: str = Field(description="The layer that its outermost component belongs to; `stack` outside of all.")
    component: str | None = Field(description="The name of the component that it is directly in.")
    type: str = Field(description="Type token.")
    name: str = Field(description="Logical name.")
    protect: bool = Field(description="Whether Pulumi refuses to delete it.")


class Comparison(_Model):
    """Against which commit, and what differs."""

    base: str = Field(description="The commit, as it was named.")
    commit: str = Field(description="Its full id.")
    new_stack: bool = Field(description="Whether the stack is not there yet in that commit.")
    difference: Difference = Field(description="What changes from it to the working tree.")
    policies: PolicyChange | None = Field(description="What rules say now and did not, or did; None if none judged.")


class Plan(_Model):
    """What a stack is, without a cloud."""

    stack: str = Field(description="The stack's name.")
    unconfined: str | None = Field(
        description="Why programs ran with network and files in reach; None if they did not."
    )
    resources: list[Entry] = Field(description="By layer, component, type and name.")
    capacity: Capacity = Field(description="Machines, vCPU, memory and disk, at least and at most.")
    permissions: list[Grant] = Field(description="Who may do what on which resource.")
    exposure: list[Exposure] = Field(description="What can be reached, and from where.")
    policies: Policies | None = Field(description="What rules say of it; None if none judged.")
    comparison: Comparison | None = Field(description="The change against another commit, if one was named.")


def plan(
    stack: str, root: Path, base: str | None = None, judge: Judge | None = None, *, allow_unconfined: bool = False
) -> Plan:
    """Plan a stack of a checkout.

    Args:
        stack: The stack's name.
        root: The checkout, a git repository's.
        base: A commit to compare with.
        judge: Judges by rules. That commit is judged by its own settings, or if they cannot be used any more by those
            of the checkout.
        allow_unconfined: Run the programs with files and network in reach where the kernel cannot confine them.

    Raises:
        PlanError: A program cannot be run or confined, there is no such commit, or the checkout cannot be judged.
    """
    commit_id = commit(root, base) if base is not None else None
    confine = (reason := unconfined(stack, allowed=allow_unconfined)) is None
    with ExitStack() as trees, ExitStack() as base_trees, ThreadPoolExecutor() as threads:

        def of_base(base: str, commit_id: str) -> tuple[Path, Inventory | None]:
            base_tree = base_trees.enter_context(checkout(root, commit_id))
            return base_tree, _of_commit(stack, base_tree, base, confine=confine)

        # Both programs run at once. If both fail, the error of the checkout's own is shown.
        compared = threads.submit(of_base, base, commit_id) if base is not None and commit_id is not None else None
        tree = trees.enter_context(checkout(root))
        inventory = record(stack, root=tree, confine=confine)
        named = with_references(inventory)
        policies = judge(tree, named) if judge else None
        comparison = None
        if base is not None and commit_id is not None and compared:
            base_tree, before = compared.result()
            comparison = Comparison(
                base=base,
                commit=commit_id,
                new_stack=before is None,
                difference=difference(before or _empty(inventory), inventory),
                policies=_policy_change(before, policies, judge, [base_tree, tree]) if judge and policies else None,
            )
    return Plan(
        stack=stack,
        unconfined=reason,
        resources=entries(named),
        capacity=capacity(named),
        permissions=permissions(named),
        exposure=exposure(named),
        policies=policies,
        comparison=comparison,
    )


def _empty(inventory: Inventory) -> Inventory:
    return Inventory(stack=inventory.stack, mode=inventory.mode, resources=[], outputs={})


def _of_commit(stack: str, tree: Path, base: str, *, confine: bool) -> Inventory | None:
    if stack not in stacks(tree / "stacks"):
        return None
    try:
        return recorded(stack, tree, confine=confine)
    except PlanError as error:
        raise PlanError(f"{base} cannot be planned with the Python environment of this checkout: {error}") from None


def _policy_change(before: Inventory | None, now: Policies, judge: Judge, trees: Sequence[Path]) -> PolicyChange:
    if before is None:
        return policy_change(Policies(levels={}, verdicts=[]), now)
    named = with_references(before)
    try:
        old = judge(trees[0], named)
    except PlanError:
        old = judge(trees[1], named)
    return policy_change(old, now)


def entries(inventory: Inventory) -> list[Entry]:
    """Every resource that is no component, in its place; providers are left out."""
    by_urn = {resource.urn: resource for resource in inventory.resources}
    found = []
    for resource in inventory.resources:
        if not resource.custom or resource.type.startswith("pulumi:providers:"):
            continue
        inside = by_urn.get(resource.parent or "")
        top = resource
        while top.parent in by_urn:
            top = by_urn[top.parent]
        # hybrid-mlops:workloads:NomadJobs is of the layer `workloads`.
        layer = "stack" if top.custom else top.type.split(":")[1].partition("/")[0]
        component = inside.name if inside else None
        found.append(
            Entry(layer=layer, component=component, type=resource.type, name=resource.name, protect=resource.protect)
        )
    return sorted(found, key=lambda entry: (entry.layer, entry.component or "", entry.type, entry.name))
