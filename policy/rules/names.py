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
_TEXTS = {"displayName": 32, "description": 256}
LENGTHS = {
    "gcp:artifactregistry/repository:Repository": {"repositoryId": 63},
    "gcp:billing/budget:Budget": {"displayName": 60},
    "gcp:compute/address:Address": {"name": 63},
    "gcp:compute/firewall:Firewall": {"name": 63},
    "gcp:compute/healthCheck:HealthCheck": {"name": 63},
    "gcp:compute/instanceGroupManager:InstanceGroupManager": {"name": 63, "baseInstanceName": 58},
    "gcp:compute/instanceTemplate:InstanceTemplate": {"namePrefix": 54},
    "gcp:compute/network:Network": {"name": 63},
    "gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager": {"name": 63, "baseInstanceName": 58},
    "gcp:compute/subnetwork:Subnetwork": {"name": 63},
    "gcp:container/cluster:Cluster": {"name": 40},
    "gcp:container/nodePool:NodePool": {"name": 40},
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": _TEXTS,
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": {
        "workloadIdentityPoolProviderId": 32,
        **_TEXTS,
    },
    "gcp:kms/cryptoKey:CryptoKey": {"name": 63},
    "gcp:kms/keyRing:KeyRing": {"name": 63},
    "gcp:monitoring/alertPolicy:AlertPolicy": {"displayName": 512},
    "gcp:projects/iAMCustomRole:IAMCustomRole": {"title": 100, "description": 300},
    "gcp:secretmanager/secret:Secret": {"secretId": 255},
    "gcp:serviceaccount/account:Account": {"accountId": 30, "displayName": 100, "description": 256},
    "gcp:storage/bucket:Bucket": {"name": 63},
    "gcp:storage/bucketIAMMember:BucketIAMMember": {"condition.title": 100},
}
"""How many characters Google takes, where its reference says so. Pulumi's provider checks hardly any of them. Ids that
end in random digits are not among them: nothing that is set makes them longer, and in a plan they are stood in for."""
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


def _too_long(part: Part, _: Stack) -> Iterator[str]:
    if part.resource is None:
        return
    for path, most in LENGTHS[part.resource.type].items():
        if len(text := str(part.get(*path.split(".")) or "")) > most:
            yield f"{path} has {len(text)} characters, and Google takes {most}"


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
        id="name-length",
        level=Level.MANDATORY,
        holds="Names, titles and descriptions are no longer than Google takes.",
        why="Google's API references: what is too long is refused in the middle of an update, and by no preview.",
        fix="Shorten the text, or the name in the stack file that it is made of.",
        check=_too_long,
        types=tuple(LENGTHS),
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
