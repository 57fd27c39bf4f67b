"""Rules on names and labels: by what a cost, a log line or an object in the console is told apart from others'."""

from collections.abc import Iterator

from infra.settings import PROJECT
from policy.rule import Level, Part, Rule, Stack

LABELS = {
    "gcp:artifactregistry/repository:Repository": "labels",
    "gcp:compute/address:Address": "labels",
    "gcp:compute/instanceTemplate:InstanceTemplate": "labels",
    "gcp:container/cluster:Cluster": "resourceLabels",
    "gcp:kms/cryptoKey:CryptoKey": "labels",
    "gcp:monitoring/alertPolicy:AlertPolicy": "userLabels",
    "gcp:secretmanager/secret:Secret": "labels",
    "gcp:storage/bucket:Bucket": "labels",
}
"""Of each type that takes labels, the input that they are given by."""
NAMES = {
    "gcp:artifactregistry/repository:Repository": "repositoryId",
    "gcp:compute/firewall:Firewall": "name",
    "gcp:compute/network:Network": "name",
    "gcp:compute/subnetwork:Subnetwork": "name",
    "gcp:container/cluster:Cluster": "name",
    "gcp:container/nodePool:NodePool": "name",
    "gcp:kms/cryptoKey:CryptoKey": "name",
    "gcp:kms/keyRing:KeyRing": "name",
    "gcp:secretmanager/secret:Secret": "secretId",
    "gcp:serviceaccount/account:Account": "accountId",
    "gcp:storage/bucket:Bucket": "name",
}
"""Of each type that others refer to by name, the input that holds it."""
_BUCKET = "gcp:storage/bucket:Bucket"


def _labelled(part: Part, stack: Stack) -> Iterator[str]:
    if part.resource is None:
        return
    where = LABELS[part.resource.type]
    # Who is asked about it, and what made it; the stack's own labels come on top.
    for key, wanted in {"part-of": PROJECT, "managed-by": "pulumi"}.items():
        if part.get(where, key) != wanted:
            yield f"{where}.{key} is {part.get(where, key) or 'not set'}, not {wanted}"
    # A stack's own label, where it has one: scripts that clear away go by it.
    if part.get(where, "environment") not in (None, stack.inventory.stack):
        yield f"{where}.environment is {part.get(where, 'environment')}, and the stack is {stack.inventory.stack}"
    if not part.get(where, "component"):
        yield f"{where}.component is not set"


def _in_kubernetes(part: Part, _: Stack) -> Iterator[str]:
    found = part.get("metadata", "labels", "app.kubernetes.io/part-of") if part.get("metadata") else PROJECT
    if found != PROJECT:
        yield f"metadata.labels.app.kubernetes.io/part-of is {found or 'not set'}, not {PROJECT}"


def _named(part: Part, _: Stack) -> Iterator[str]:
    if part.resource is not None and not part.get(NAMES[part.resource.type]):
        yield f"{NAMES[part.resource.type]} is not set, so that Pulumi makes up a name that nobody knows"


def _of_the_stack(bucket: Part, stack: Stack) -> Iterator[str]:
    if stack.inventory.stack not in str(bucket.get("name")).split("-"):
        yield f"name {bucket.get('name')} does not hold the stack's"


RULES = (
    Rule(
        id="label-missing",
        level=Level.MANDATORY,
        holds="What takes labels in Google Cloud says which project, program and room it is of.",
        why="Costs, quotas and alerts are grouped by labels; what has none is deleted by nobody and paid by all.",
        fix="Give it `infra.labels.labels(settings, <room>)`.",
        check=_labelled,
        types=tuple(LABELS),
    ),
    Rule(
        id="label-missing-in-cluster",
        level=Level.ADVISORY,
        holds="Objects in a cluster say which project they are part of.",
        why="Kubernetes' documentation, Recommended labels: tools find what belongs together by them.",
        fix="Set the label app.kubernetes.io/part-of, as infra/kubernetes/names.py does.",
        check=_in_kubernetes,
        types=("kubernetes:*",),
    ),
    Rule(
        id="name-made-up",
        level=Level.MANDATORY,
        holds="What others refer to has the name that the program gives it.",
        why="Pulumi's automatic names end in random characters: runbooks, alerts and grants name the real ones.",
        fix="Set the name explicitly.",
        check=_named,
        types=tuple(NAMES),
    ),
    Rule(
        id="name-bucket",
        level=Level.MANDATORY,
        holds="A bucket's name holds the name of its stack.",
        why="Bucket names are one space for all of Google Cloud: a stack must not take or share the bucket of another.",
        fix="Name it <project>-<stack>-<use> under `buckets` of the stack's settings.",
        check=_of_the_stack,
        types=(_BUCKET,),
    ),
)
