"""What a need is, and who in a stack gives what.

Owns: finding resources by what they are, and grants by whom they are to. Deliberately not: who needs them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from inventory.resources import Inventory, Resource
from inventory.values import at
from policy.parts.google import ACCOUNT

ON_BUCKET = "gcp:storage/bucketIAMMember:BucketIAMMember"
ON_KEY = "gcp:kms/cryptoKeyIAMMember:CryptoKeyIAMMember"
ON_PROJECT = "gcp:projects/iAMMember:IAMMember"
ON_REPOSITORY = "gcp:artifactregistry/repositoryIamMember:RepositoryIamMember"
ON_SECRET = "gcp:secretmanager/secretIamMember:SecretIamMember"  # noqa: S105  a type
BUCKET = "gcp:storage/bucket:Bucket"
KEY = "gcp:kms/cryptoKey:CryptoKey"
READER = "roles/artifactregistry.reader"

# What a role lets its holder do with objects.
_OBJECTS = {
    "roles/storage.legacyBucketReader": {"list"},
    "roles/storage.objectViewer": {"get", "list"},
    "roles/storage.objectCreator": {"create"},
    "roles/storage.objectUser": {"get", "list", "create", "delete"},
}
_BELOW = re.compile(r'resource\.name\.startsWith\("projects/_/buckets/([^/"]+)/objects/([^"]*)"\)')
_IMAGE = re.compile(r"\b[a-z0-9-]+-docker\.pkg\.dev/[a-z0-9-]+/([a-z0-9-]+)")


@dataclass(frozen=True)
class Need:
    """One thing that one workload needs.

    Attributes:
        workload: Who needs it, as messages name it.
        of: The URN of what must wait for it.
        what: What is needed.
        met: The URNs of what gives it; any of them does.
        waits: Whether it must be there first; what is asked for later only has to be there.
    """

    workload: str
    of: str
    what: str
    met: frozenset[str]
    waits: bool = True


@dataclass
class Supply:
    """An inventory, to be asked who gives what.

    Attributes:
        inventory: The inventory, in update mode.
        salesforce: Whether the stack has credentials for Salesforce, which jobs can do without.
        models: Where a job stores its models, `gs://BUCKET/PREFIX` by job id, as far as that is known.
    """

    inventory: Inventory
    salesforce: bool = False
    models: Mapping[str, str] = field(default_factory=dict)
    by_type: dict[str, list[Resource]] = field(init=False)
    by_urn: dict[str, Resource] = field(init=False)
    _grants: dict[tuple[str, str], list[Resource]] = field(init=False)

    def __post_init__(self) -> None:
        self.by_urn = {resource.urn: resource for resource in self.inventory.resources}
        self.by_type = {}
        # Each job has grants of its own, and asks for them alone: by type, and by what the member ends in.
        self._grants = {}
        for resource in self.inventory.resources:
            self.by_type.setdefault(resource.type, []).append(resource)
            if "member" in resource.inputs:
                key = resource.type, _end(str(resource.inputs["member"]))
                self._grants.setdefault(key, []).append(resource)

    def of(self, *types: str) -> Iterator[Resource]:
        """All resources of some types."""
        for kind in types:
            yield from self.by_type.get(kind, ())

    def find(
        self, kind: str, *, to: str | None = None, on: frozenset[str] | None = None, **inputs: str
    ) -> frozenset[str]:
        """The URNs of resources of a type.

        Args:
            kind: The type.
            to: Whom a grant is to: the e-mail address of a service account, or a federated identity's `/subject/...`.
            on: URNs, of which it depends on one.
            **inputs: What the program sets it to.
        """
        return urns(
            one
            for one in (self.of(kind) if to is None else self._granted(kind, to))
            if (on is None or not on.isdisjoint(one.dependencies))
            and all(one.inputs.get(key) == value for key, value in inputs.items())
        )

    def inside(self, kind: str, provider: str | None, name: str, namespace: str | None = None) -> frozenset[str]:
        """Objects of a cluster, by name."""
        own = provider, name, namespace
        return urns(
            one
            for one in self.of(kind)
            if (one.provider, at(one.inputs, "metadata", "name"), at(one.inputs, "metadata", "namespace")) == own
        )

    def on_bucket(self, action: str, bucket: str, prefix: str | None, to: str) -> frozenset[str]:
        """Grants that let someone do something with the objects of a bucket; without a prefix, with all of them."""
        found = set[str]()
        for grant in self._granted(ON_BUCKET, to):
            if grant.inputs.get("bucket") != bucket or action not in _OBJECTS.get(str(grant.inputs.get("role")), ()):
                continue
            condition = at(grant.inputs, "condition", "expression")
            below = _BELOW.search(condition) if condition else None
            covers = prefix is not None and below and below[1] == bucket and prefix.startswith(below[2])
            if condition is None or covers:
                found.add(grant.urn)
        return frozenset(found)

    def accounts(self, email: str) -> list[Resource]:
        """The service account of an e-mail address."""
        # In a plan an output is the name of it; in an update Pulumi says what it is.
        return [one for one in self.of(ACCOUNT) if email in (f"${{{one.name}.email}}", one.inputs.get("email"))]

    def _granted(self, kind: str, to: str) -> Iterator[Resource]:
        federated = to.startswith("/subject/")
        names = [to] if federated else [f"serviceAccount:{to}", *(f"${{{a.name}.member}}" for a in self.accounts(to))]
        for name in names:
            for grant in self._grants.get((kind, _end(name)), ()):
                if str(grant.inputs["member"]).endswith(name):
                    yield grant


def urns(resources: Iterable[Resource]) -> frozenset[str]:
    """What gives something, as a need has it."""
    return frozenset(resource.urn for resource in resources)


def images(value: Any) -> list[str]:
    """The repositories of Artifact Registry whose images are named somewhere in a value."""
    return sorted(set(_IMAGE.findall(str(value))))


def _end(member: str) -> str:
    return member.rpartition("/")[2]
