"""What holds for every resource of every stack, whichever room it is from: a function a rule, over an inventory alone.

A violation is a line that begins with the resource's URN. Deliberately knows no component and no stack.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from infra.machines import machine
from mlops.plan import SECRET, Inventory, Resource
from mlops.plan.exposure import exposure
from mlops.plan.order import ancestors
from mlops.plan.permissions import permissions
from mlops.plan.values import at
from tests.engine.provider import properties

LABELS = {"part-of": "hybrid-mlops", "managed-by": "pulumi"}
"""What tells every resource of Google Cloud apart from what others made."""
KUBERNETES_LABELS = {"app.kubernetes.io/part-of": "hybrid-mlops"}

# Inputs by which a resource takes labels of its own; others of these names mean something else.
_LABEL_INPUTS = ("labels", "userLabels", "resourceLabels")
_NOT_LABELS = {("gcp:monitoring/notificationChannel:NotificationChannel", "labels")}
_STATEFUL = (
    "gcp:artifactregistry/repository:Repository",
    "gcp:compute/disk:Disk",
    "gcp:compute/regionDisk:RegionDisk",
    "gcp:container/cluster:Cluster",
    "gcp:kms/cryptoKey:CryptoKey",
    "gcp:kms/keyRing:KeyRing",
    "gcp:secretmanager/secret:Secret",
    "gcp:storage/bucket:Bucket",
)
# Outputs that give whoever reads them a right, whatever their provider marks.
_SENSITIVE = {
    "nomad:index/aclToken:AclToken": ("secretId",),
    "random:index/randomBytes:RandomBytes": ("base64", "hex"),
    "random:index/randomPassword:RandomPassword": ("result", "bcryptHash"),
    # A program has no other use for one than as a token: Nomad takes any UUID.
    "random:index/randomUuid:RandomUuid": ("result", "id"),
    "tls:index/privateKey:PrivateKey": ("privateKeyPem", "privateKeyOpenssh", "privateKeyPemPkcs8"),
}
_PEM = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----")
_KEYS = ("gcp:serviceaccount/key:Key", "gcp:storage/hmacKey:HmacKey")
_PRIMITIVE = ("roles/owner", "roles/editor", "roles/viewer", "roles/browser")
# Roles on what a bucket, a key or a secret holds: on a project they would be on all there are.
_OF_ONE = re.compile(r"roles/(storage|secretmanager|cloudkms|artifactregistry)\.")

# The API that each module of Google's provider needs turned on.
_APIS = {
    "artifactregistry": "artifactregistry",
    "billing": "billingbudgets",
    "compute": "compute",
    "container": "container",
    "iam": "iam",
    "iap": "iap",
    "kms": "cloudkms",
    "logging": "logging",
    "monitoring": "monitoring",
    "secretmanager": "secretmanager",
    "serviceaccount": "iam",
    "storage": "storage",
}
_API = "gcp:projects/service:Service"


def placed(inventory: Inventory) -> Iterator[str]:
    """Every resource has a provider that someone chose, and a parent, which is a component."""
    components = {resource.urn for resource in inventory.resources if not resource.custom}
    for resource in inventory.resources:
        if resource.custom and not _is_provider(resource):
            if not resource.provider or "::default" in resource.provider:
                yield f"{resource.urn}: has no explicit provider"
            if resource.parent not in components:
                yield f"{resource.urn}: has no component as its parent"


def labelled(inventory: Inventory) -> Iterator[str]:
    """Everything that takes labels has those of the program."""
    for resource in inventory.resources:
        if resource.type.startswith("kubernetes:"):
            if "metadata" in properties(resource.type).inputs:
                labels = at(resource.inputs, "metadata", "labels") or {}
                yield from _missing(resource, "metadata.labels", labels, KUBERNETES_LABELS)
        elif resource.type.startswith("gcp:"):
            takes = [name for name in _LABEL_INPUTS if name in properties(resource.type).inputs]
            for name in takes:
                if (resource.type, name) not in _NOT_LABELS:
                    yield from _missing(resource, name, resource.inputs.get(name) or {}, LABELS)


def unreachable(inventory: Inventory) -> Iterator[str]:
    """Nothing has a public address or lets in the internet; a cluster's DNS endpoint is open to who IAM lets in."""
    for way in exposure(inventory):
        if way.public is not False and way.source != "anywhere, by IAM":
            yield f"{way.urn}: {way.target} can be reached from {way.source} by {way.way}"


def of_n1(inventory: Inventory) -> Iterator[str]:
    """Every machine is an n1 that there is, on a CPU that is pinned, so that plan and schedulers use one number."""
    for resource in inventory.resources:
        for where, config in _machines(resource.inputs):
            kind = config["machineType"]
            name = kind.rpartition("/")[2] if isinstance(kind, str) else ""
            if not machine(name):
                yield f"{resource.urn}: {where}machineType is {kind}, no n1"
            # The pool that GKE makes and throws away at once runs nothing.
            discarded = where == "nodeConfig." and resource.inputs.get("removeDefaultNodePool") is True
            if not config.get("minCpuPlatform") and not discarded:
                yield f"{resource.urn}: {where}minCpuPlatform is not set"


def protected(inventory: Inventory) -> Iterator[str]:
    """What holds data cannot be deleted by mistake; for a stack that is not protected, none of it may be."""
    for resource in inventory.resources:
        if resource.type in _STATEFUL and not resource.protect:
            yield f"{resource.urn}: is not protected"
        if resource.type == "gcp:container/cluster:Cluster" and resource.inputs.get("deletionProtection") is not True:
            yield f"{resource.urn}: has no deletionProtection"


def unprotected(inventory: Inventory) -> Iterator[str]:
    """Nothing stands in the way of tearing a stack down whose settings allow it."""
    for resource in inventory.resources:
        if resource.protect:
            yield f"{resource.urn}: is protected"
        if resource.inputs.get("deletionProtection") is True:
            yield f"{resource.urn}: has deletionProtection"


def encrypted(inventory: Inventory) -> Iterator[str]:
    """Secrets are only where the state encrypts them; to be read from an inventory in update mode.

    Inputs that are made for secrets, such as a Variable's items, the SDKs mark by themselves.
    """
    made_up = {}
    for resource in inventory.resources:
        for name in _SENSITIVE.get(resource.type, ()):
            if name != "id" and resource.outputs.get(name) != SECRET:
                yield f"{resource.urn}: output {name} is not marked secret"
            made_up[f"{resource.name}-{name}"] = resource.urn
    outputs = {f"output {name}": value for name, value in inventory.outputs.items()}
    for where, told in [
        *((resource.urn, resource.model_dump(include={"inputs", "outputs"})) for resource in inventory.resources),
        *outputs.items(),
    ]:
        text = json.dumps(told)
        for value, urn in made_up.items():
            # Its own outputs are told of above.
            if where != urn and re.search(rf"(?<![\w-]){re.escape(value)}(?![\w-])", text):
                yield f"{where}: shows the secret {value}"
        if _PEM.search(text):
            yield f"{where}: shows a private key"
        if "[secret hybrid-mlops:" in text:
            yield f"{where}: shows an encrypted setting"


def without_keys(inventory: Inventory) -> Iterator[str]:
    """No key file of a service account is made: identities are of machines and workloads."""
    for resource in inventory.resources:
        if resource.type in _KEYS:
            yield f"{resource.urn}: is a key file"
        if any("GOOGLE_CREDENTIALS" in text or '"private_key"' in text for text in _texts(resource.inputs)):
            yield f"{resource.urn}: is given a key file"


def least(inventory: Inventory) -> Iterator[str]:
    """No primitive role, nobody unknown, and no role on a whole project that is meant for one bucket, key or secret."""
    for grant in permissions(inventory):
        if grant.role in _PRIMITIVE:
            yield f"{grant.urn}: grants {grant.role}, which is of everything"
        if grant.principal in ("allUsers", "allAuthenticatedUsers"):
            yield f"{grant.urn}: grants {grant.role} to everyone"
        if grant.resource.startswith("project ") and _OF_ONE.match(grant.role):
            yield f"{grant.urn}: grants {grant.role} on all of the project"
        if grant.role == "*" or re.match(r"\*", grant.role):
            yield f"{grant.urn}: grants every verb, as {grant.role}"
    for resource in inventory.resources:
        if resource.type.startswith("gcp:") and re.search(r"I[Aa][Mm](Policy|Binding)$", resource.type):
            yield f"{resource.urn}: is authoritative, and takes away what others granted"


def after_its_api(inventory: Inventory) -> Iterator[str]:
    """Everything in Google Cloud comes after its API is turned on."""
    apis = {
        resource.urn: str(resource.inputs.get("service")).partition(".")[0]
        for resource in inventory.resources
        if resource.type == _API
    }
    before = ancestors(inventory)
    for resource in inventory.resources:
        needed = _APIS.get(resource.type.split(":")[1].partition("/")[0]) if resource.type.startswith("gcp:") else None
        if needed and needed not in {apis[urn] for urn in before[resource.urn] & apis.keys()}:
            yield f"{resource.urn}: does not wait for the API {needed}"


def used(inventory: Inventory) -> Iterator[str]:
    """Every key in Cloud KMS encrypts something: one that nothing uses is paid for all the same."""
    # A grant on a key uses nothing by it.
    using = [resource for resource in inventory.resources if not resource.type.startswith("gcp:kms/")]
    taken = {urn for resource in using for urns in resource.property_dependencies.values() for urn in urns}
    for key in inventory.of_type("gcp:kms/cryptoKey:CryptoKey"):
        if key.urn not in taken:
            yield f"{key.urn}: encrypts nothing"


class Rule(Protocol):
    """What a rule is."""

    __name__: str

    def __call__(self, inventory: Inventory, /) -> Iterator[str]:
        """The violations."""
        ...


RULES: tuple[Rule, ...] = (
    placed,
    labelled,
    unreachable,
    of_n1,
    encrypted,
    without_keys,
    least,
    after_its_api,
    used,
)
"""The rules of every stack; `protected` and `unprotected` are of those whose settings say so."""


def _is_provider(resource: Resource) -> bool:
    return resource.type.startswith("pulumi:providers:")


def _missing(resource: Resource, where: str, labels: Any, wanted: Mapping[str, str]) -> Iterator[str]:
    for key, value in wanted.items():
        if not isinstance(labels, Mapping) or labels.get(key) != value:
            yield f"{resource.urn}: {where} has no {key}={value}"


def _machines(value: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every part of what is set that says of what type machines are."""
    if isinstance(value, Mapping):
        if "machineType" in value:
            yield where, value
        for key, inner in value.items():
            yield from _machines(inner, f"{where}{key}.")
    elif isinstance(value, list):
        for inner in value:
            yield from _machines(inner, where)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
