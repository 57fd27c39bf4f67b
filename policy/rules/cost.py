"""Rules on cost: how far a stack can grow, what it keeps running, and who is told."""

from collections.abc import Iterator

from policy.rule import Level, Part, Rule, Stack, UndecidedError

_GROUPS = (
    "gcp:compute/instanceGroupManager:InstanceGroupManager",
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager",
    "gcp:container/nodePool:NodePool",
)


def _capped(_: Part, stack: Stack) -> Iterator[str]:
    capacity = stack.capacity
    cap = stack.parameters.vcpu_cap
    known = sum(pool.maximum.vcpu or 0 for pool in capacity.pools)
    # What is known already may be too much; what is not known cannot make it less.
    if known > cap:
        yield f"all pools full it has {known:g} vCPU, more than vcpu_cap {cap}"
    elif capacity.maximum.vcpu is None:
        raise UndecidedError("the size of a pool")


def _idle(_: Part, stack: Stack) -> Iterator[str]:
    capacity = stack.capacity
    cap = stack.parameters.idle_vcpu_cap
    known = sum(pool.minimum.vcpu or 0 for pool in capacity.pools)
    if known > cap:
        yield f"it keeps {known:g} vCPU running when nothing is to do, more than idle_vcpu_cap {cap}"
    elif capacity.minimum.vcpu is None:
        raise UndecidedError("the size of a pool")


def _to_nothing(part: Part, stack: Stack) -> Iterator[str]:
    if part.resource is None:
        return
    for pool in stack.capacity.pools:
        if pool.urn == part.resource.urn and pool.scaled_by:
            if pool.minimum.machines is None:
                raise UndecidedError("its smallest size")
            if pool.minimum.machines and pool.name.rpartition("-")[2] not in stack.parameters.always_on:
                yield f"it never has fewer than {pool.minimum.machines} machines"


def _budget(_: Part, stack: Stack) -> Iterator[str]:
    machines = any(resource.type in _GROUPS for resource in stack.inventory.resources)
    budgets = stack.inventory.of_type("gcp:billing/budget:Budget")
    if machines and not any(Part(one, one.inputs).get("thresholdRules") for one in budgets):
        yield "no budget tells anyone what it costs"
    for one in budgets:
        amount = Part(one, one.inputs).get("amount", "specifiedAmount", "units")
        if amount is not None and float(amount) > stack.parameters.budget_cap:
            yield f"the budget of {amount} is more than budget_cap {stack.parameters.budget_cap}"


RULES = (
    Rule(
        id="cost-vcpu-cap",
        level=Level.MANDATORY,
        holds="A stack with all pools full has no more vCPUs than its cap.",
        why="A loop that dispatches jobs fills every pool: the caps of the pools together are the bill's only limit.",
        fix="Lower the maximum of a pool in stacks/, or raise vcpu_cap in policy/stacks/ with whoever pays.",
        check=_capped,
        across=True,
    ),
    Rule(
        id="cost-idle",
        level=Level.MANDATORY,
        holds="A stack with nothing to do keeps no more vCPUs than its idle cap.",
        why="Machines that run overnight and on weekends are three quarters of a month.",
        fix="Lower the minimum of a pool in stacks/, or raise idle_vcpu_cap in policy/stacks/ with whoever pays.",
        check=_idle,
        across=True,
    ),
    Rule(
        id="cost-scale-to-zero",
        level=Level.MANDATORY,
        holds="A pool that an autoscaler moves can become empty, unless it runs the platform itself.",
        why="A pool for training that keeps one machine for nobody is what the platform was built to end.",
        fix="Set the pool's minimum to 0, or name the pool under always_on in policy/stacks/.",
        check=_to_nothing,
        types=_GROUPS,
        across=True,
    ),
    Rule(
        id="cost-budget",
        level=Level.MANDATORY,
        holds="A stack with machines has a budget with thresholds, which is no more than its cap.",
        why="Google's Well-Architected Framework, Cost optimization: a bill is otherwise read a month too late.",
        fix="Set `gcp.budget` in the stack's settings; raise budget_cap in policy/stacks/ with whoever pays.",
        check=_budget,
        across=True,
    ),
)
