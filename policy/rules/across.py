"""Rules across resources: what a workload needs and does not have, and what is there for no workload."""

from collections.abc import Iterator, Mapping
from typing import Any

from inventory.resources import SECRET, UNKNOWN
from policy import needs
from policy.parts import nomad, pods
from policy.parts.google import ACCOUNT, NODE_POOL, attached
from policy.parts.workflows import WORKFLOWS
from policy.rule import Level, Part, Rule, Stack, UndecidedError

_GRANTS = (
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember",
    "gcp:projects/iAMMember:IAMMember",
    "gcp:secretmanager/secretIamMember:SecretIamMember",
    "gcp:storage/bucketIAMMember:BucketIAMMember",
)
_CLIENTS = ("gcp:compute/instanceTemplate:InstanceTemplate",)
_NO_SCHEDULE = ("NO_SCHEDULE", "NoSchedule")


def _unmet(stack: Stack) -> Mapping[str, list[str]]:
    """What workloads need and do not have, by the URN that should wait for it."""
    found: dict[str, list[str]] = {}
    for urn, line in needs.unmet(needs.Supply(stack.inventory)):
        found.setdefault(urn, []).append(line)
    return found


def _needed(stack: Stack) -> frozenset[str]:
    """The URNs of everything that some workload needs."""
    return frozenset[str]().union(*(need.met for need in needs.needs(needs.Supply(stack.inventory))))


def _grants_known(stack: Stack) -> None:
    """Refuse to judge by grants while one of them may be anyone's."""
    for resource in stack.inventory.resources:
        if resource.type.startswith("gcp:") and resource.inputs.get("member") in (UNKNOWN, SECRET):
            raise UndecidedError(f"whom {resource.name} grants something")


def _has_what_it_needs(part: Part, stack: Stack) -> Iterator[str]:
    lines = stack.once(_unmet).get(part.resource.urn, []) if part.resource else []
    if lines:
        _grants_known(stack)
    yield from lines


def _needed_by_someone(grant: Part, stack: Stack) -> Iterator[str]:
    if grant.resource is None or grant.resource.urn in stack.once(_needed):
        return
    member = str(grant.get("member"))
    # People's grants are people's business; a workload's show in what the workload says of itself.
    if "/subject/" not in member and not stack.once(attached) & set(
        grant.resource.property_dependencies.get("member", [])
    ):
        return
    _grants_known(stack)
    yield f"{member.rpartition('/')[2]} gets {grant.get('role')}, and nothing that it runs needs it"


def _below_a_prefix(grant: Part, stack: Stack) -> Iterator[str]:
    of = set(grant.resource.property_dependencies.get("member", [])) if grant.resource else set[str]()
    if of & stack.once(attached) and not grant.get("condition", "expression"):
        yield f"every task on the machine gets {grant.get('role')} on all of the bucket"


def _used_account(account: Part, stack: Stack) -> Iterator[str]:
    resource = account.resource
    if resource is None or resource.urn in stack.once(attached):
        return
    # Federated identities act as an account by a grant on the account itself.
    for other in stack.inventory.resources:
        if other.type.startswith("gcp:serviceaccount/iAM") and resource.urn in other.dependencies:
            return
    yield "no machine acts as it, and nobody may"


def _pods(stack: Stack) -> list[tuple[Any, list[Any]]]:
    """The node selector and tolerations of every pod that a template runs."""
    return [
        (pod.get("nodeSelector") or {}, pod.each("tolerations"))
        for resource in stack.inventory.resources
        if resource.type in WORKFLOWS
        for pod in pods.pods(resource)
    ]


def _tolerated(taint: Mapping[str, Any], tolerations: list[Any]) -> bool:
    for one in tolerations:
        exists = one.get("operator") == "Exists"
        key = one.get("key") == taint.get("key") or (exists and not one.get("key"))
        effect = one.get("effect") in (
            None,
            "",
            "NoSchedule" if taint.get("effect") in _NO_SCHEDULE else taint["effect"],
        )
        if key and effect and (exists or one.get("value") == taint.get("value")):
            return True
    return False


def _landed_on(pool: Part, stack: Stack) -> Iterator[str]:
    taints = [taint for taint in pool.each("nodeConfig", "taints") if taint.get("effect") != "PREFER_NO_SCHEDULE"]
    labels = pool.get("nodeConfig", "labels") or {}
    if not taints:
        return
    for selector, tolerations in stack.once(_pods):
        if selector and selector.items() <= labels.items() and all(_tolerated(taint, tolerations) for taint in taints):
            return
    yield f"no pod of a template selects it and tolerates {', '.join(str(taint.get('key')) for taint in taints)}"


def _pools(stack: Stack) -> frozenset[str]:
    """The pools of clients that jobs name."""
    return frozenset(str(job.get("node_pool")) for one in stack.inventory.of_type(nomad.JOB) for job in nomad.job(one))


def _runs_something(template: Part, stack: Stack) -> Iterator[str]:
    labels = template.get("labels") or {}
    if labels.get("nomad-role") == "client" and labels.get("nomad-pool") not in stack.once(_pools):
        yield f"no job names its pool {labels.get('nomad-pool')}"


RULES = (
    Rule(
        id="workload-need",
        level=Level.MANDATORY,
        holds="What a workload names, it has before it starts: bucket, identity, image, secret, namespace, grant.",
        why="What is missing shows in the first run, an hour into it: after training, when the model is stored.",
        fix="Grant or declare it beside what it is about, and let the workload depend on it.",
        check=_has_what_it_needs,
        types=("*",),
        across=True,
    ),
    Rule(
        id="grant-unneeded",
        level=Level.ADVISORY,
        holds="A workload's grants are what it needs.",
        why="A grant that stayed behind is what an intruder finds; least privilege, NIST SP 800-53 AC-6.",
        fix="Remove the grant, or name in the job or template what needs it.",
        check=_needed_by_someone,
        types=_GRANTS,
        across=True,
    ),
    Rule(
        id="machine-bucket",
        level=Level.MANDATORY,
        holds="A machine's own right on a bucket is below a prefix.",
        why="Whatever runs on a machine can be the machine: Nomad's security model, Client agents.",
        fix="Give the grant its prefix, as Buckets.grant does; what a task needs is granted to the task's identity.",
        check=_below_a_prefix,
        types=("gcp:storage/bucketIAMMember:BucketIAMMember",),
        across=True,
    ),
    Rule(
        id="service-account-unused",
        level=Level.ADVISORY,
        holds="A service account is somebody's.",
        why="CIS GCP chapter 1: an account that nobody uses is one whose misuse nobody notices.",
        fix="Remove it, or attach it to what it is for.",
        check=_used_account,
        types=(ACCOUNT,),
        across=True,
    ),
    Rule(
        id="node-pool-unused",
        level=Level.MANDATORY,
        holds="Some pod can land on each node pool.",
        why="Behind a taint that nothing tolerates a pool serves nobody, and is paid for by mistake only.",
        fix="Give a step of a workflow the pool's node selector and toleration, or remove the pool from stacks/.",
        check=_landed_on,
        types=(NODE_POOL,),
        across=True,
    ),
    Rule(
        id="client-pool-unused",
        level=Level.MANDATORY,
        holds="Some job runs on each pool of Nomad clients.",
        why="Machines whose pool no job names are started for nothing.",
        fix="Name the pool as a job's node_pool, or remove it from stacks/.",
        check=_runs_something,
        types=_CLIENTS,
        across=True,
    ),
)
