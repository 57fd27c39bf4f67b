"""Taking away, one by one, what workloads need: each time a test must fail that names the workload.

`python -m tests.platform.take_away [STACK]...` tries every grant, service account, namespace and the like of a stack:
once the resource is gone, and once nothing waits for it any more. Exit code 1 if one is missed by no workload.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from infra import settings
from inventory.recorder import record
from inventory.resources import Inventory
from inventory.values import with_references
from policy.needs import Supply, unmet

# What a workload is given, by type. What holds data, and machines, stand for themselves.
_GIVEN = (
    "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember",
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider",
    "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember",
    "gcp:projects/iAMMember:IAMMember",
    "gcp:secretmanager/secretIamMember:SecretIamMember",
    "gcp:secretmanager/secretVersion:SecretVersion",
    "gcp:serviceaccount/account:Account",
    "gcp:storage/bucketIAMMember:BucketIAMMember",
    "kubernetes:core/v1:Namespace",
    "kubernetes:core/v1:ServiceAccount",
    "kubernetes:helm.sh/v3:Release",
    "kubernetes:rbac.authorization.k8s.io/v1:Role",
    "kubernetes:rbac.authorization.k8s.io/v1:RoleBinding",
    "nomad:index/namespace:Namespace",
    "nomad:index/nodePool:NodePool",
    "nomad:index/variable:Variable",
)

_PEOPLE = "people's machines read it, by `mlops tunnel`"
_LATER = "it is used once someone looks at a run"
_SCALING = "only what scales a region uses it, and nothing scales in this stack"
UNMISSED = {
    ("nomad-secrets-ca-pem-version", "gone"): _PEOPLE,
    ("nomad-secrets-ca-pem-version", "not waited for"): _PEOPLE,
    ("kubernetes-access-argo-server-artifacts-viewer", "not waited for"): _LATER,
    ("nomad-access-platform", "gone"): _SCALING,
    ("nomad-access-platform", "not waited for"): _SCALING,
}
"""What no workload misses, by logical name and attempt, and why that is right."""


@dataclass(frozen=True)
class Tried:
    """One attempt.

    Attributes:
        urn: What was taken away.
        how: `gone`, or `not waited for`.
        missed: What the check said then, a line each.
    """

    urn: str
    how: str
    missed: tuple[str, ...]


def supply(inventory: Inventory, *, salesforce: bool | None = None) -> Supply:
    """A stack, with what its settings say of dispatches; `salesforce` as if it had credentials for it."""
    of = settings.load(inventory.stack)
    models = {name: job.parameters.get("gcp_bucket_path") for name, job in of.jobs.items()}
    return Supply(
        inventory,
        salesforce=of.salesforce is not None if salesforce is None else salesforce,
        models={name: path for name, path in models.items() if isinstance(path, str)},
    )


def tried(inventory: Inventory) -> Iterator[Tried]:
    """Every attempt on a stack, whose outputs are named."""
    for resource in inventory.resources:
        if resource.type in _GIVEN:
            for how, left in (
                ("gone", _without(inventory, resource.urn)),
                ("not waited for", _cut(inventory, resource.urn)),
            ):
                yield Tried(resource.urn, how, tuple(line for _, line in unmet(supply(left))))


def _without(inventory: Inventory, urn: str) -> Inventory:
    return inventory.model_copy(update={"resources": [one for one in inventory.resources if one.urn != urn]})


def _cut(inventory: Inventory, urn: str) -> Inventory:
    """The inventory without an edge to a resource: it is made at any time."""
    resources = [
        one.model_copy(
            update={
                "dependencies": [other for other in one.dependencies if other != urn],
                # As if the value had been written down instead of taken from the resource.
                "property_dependencies": {
                    name: [other for other in urns if other != urn] for name, urns in one.property_dependencies.items()
                },
            }
        )
        if urn in one.dependencies
        else one
        for one in inventory.resources
    ]
    return inventory.model_copy(update={"resources": resources})


def main(*stacks: str) -> int:
    """Try every stack, and print what was missed by whom."""
    unneeded = 0
    for stack in stacks or settings.stacks():
        for one in tried(with_references(record(stack))):
            name = one.urn.rpartition("$")[2]
            why = UNMISSED.get((name.rpartition("::")[2], one.how))
            sys.stdout.write(f"{stack}: {name} {one.how}: {(*one.missed, why or 'NOBODY MISSES IT')[0]}\n")
            unneeded += not one.missed and not why
    return 1 if unneeded else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
