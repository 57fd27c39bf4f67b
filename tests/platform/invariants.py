"""What holds for every resource of every stack, whichever room it is from: a function a rule, over an inventory alone.

What a change to a stack's settings could break is a policy (`policy/rules`); here is how the program itself is made. A
violation is a line that begins with the resource's URN. Deliberately knows no component and no stack.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from inventory.order import ancestors
from inventory.resources import SECRET, Inventory, Resource

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
    """Nothing is given a key file of a service account: identities are of machines and workloads."""
    for resource in inventory.resources:
        if any("GOOGLE_CREDENTIALS" in text or '"private_key"' in text for text in _texts(resource.inputs)):
            yield f"{resource.urn}: is given a key file"


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
    encrypted,
    without_keys,
    after_its_api,
    used,
)
"""The rules of every stack; `unprotected` is of those whose settings say so."""


def _is_provider(resource: Resource) -> bool:
    return resource.type.startswith("pulumi:providers:")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
