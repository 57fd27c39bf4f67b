"""What the stand-in provider answers beyond the types that an SDK promises: ids, links, PEMs, UUIDs that can be used.

Owns the tables `KINDS` and `INVOKES`. Deliberately none of a provider's checks, and of its replacements only those that
a test is about. Keys and certificates are real ones, made at once: what a program derives from them must parse.
"""

import base64
import datetime
import hashlib
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

PROJECT, NUMBER = "stand-in-project", "000000000000"
"""What settings stand in for, when a resource names no project of its own."""


@dataclass(frozen=True)
class Kind:
    """What a resource type's SDK class does not tell.

    Attributes:
        replaces: Inputs whose change makes a new resource.
        secrets: Outputs that the real provider marks secret.
        outputs: The id and the outputs that have a form, from the resource's name and its inputs.
    """

    replaces: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    outputs: Callable[[str, Mapping[str, Any]], Mapping[str, Any]] = lambda _name, _inputs: {}


Outputs = Mapping[str, Any]


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _uuid(text: str) -> str:
    return str(uuid.UUID(bytes=_digest(text)[:16], version=4))


# Nomad.


def _job(_name: str, inputs: Outputs) -> Outputs:
    found = re.search(r'^\s*job\s+"([^"]+)"', inputs["jobspec"], re.MULTILINE)
    if not found:
        raise ValueError("the jobspec names no job")
    job = found[1]
    return {"id": job, "name": job, "namespace": "default", "region": "global", "status": "running", "type": "batch"}


def _nomad_named(_name: str, inputs: Outputs) -> Outputs:
    return {"id": inputs["name"]} if "name" in inputs else {}


def _nomad_token(name: str, _inputs: Outputs) -> Outputs:
    return {"id": _uuid(f"{name}-accessor"), "accessorId": _uuid(f"{name}-accessor"), "secretId": _uuid(name)}


# Google Cloud.


def _google(name: str, inputs: Outputs) -> Outputs:
    """Any resource: an id and a link of the right form."""
    project, own = inputs.get("project", PROJECT), inputs.get("name", name)
    path = (
        f"projects/{project}/{inputs.get('region') or inputs.get('location') or inputs.get('zone') or 'global'}/{own}"
    )
    return {
        "id": path,
        "name": own,
        "selfLink": f"https://www.googleapis.com/compute/v1/{path}",
        "selfLinkUnique": f"https://www.googleapis.com/compute/v1/{path}?uniqueId=1",
        "instanceGroup": f"https://www.googleapis.com/compute/v1/{path}",
    }


def _below(form: str) -> Kind:
    """A resource whose id and name are a path that its inputs make."""

    def outputs(name: str, inputs: Outputs) -> Outputs:
        values = {"project": PROJECT, "location": inputs.get("region", "global"), "name": name, **inputs}
        path = re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[1])), form)
        return {**_google(name, inputs), "id": path, "name": path}

    return Kind(outputs=outputs)


def _service_account(_name: str, inputs: Outputs) -> Outputs:
    project = inputs.get("project", PROJECT)
    email = f"{inputs['accountId']}@{project}.iam.gserviceaccount.com"
    path = f"projects/{project}/serviceAccounts/{email}"
    unique = str(int.from_bytes(_digest(email)[:8], "big") % 10**21).zfill(21)
    return {"id": path, "name": path, "email": email, "member": f"serviceAccount:{email}", "uniqueId": unique}


def _service_identity(_name: str, inputs: Outputs) -> Outputs:
    agent = inputs["service"].partition(".")[0]
    email = f"service-{NUMBER}@gcp-sa-{agent}.iam.gserviceaccount.com"
    path = f"projects/{inputs.get('project', PROJECT)}/services/{inputs['service']}"
    return {"id": path, "email": email, "member": f"serviceAccount:{email}"}


def _bucket(name: str, inputs: Outputs) -> Outputs:
    own = inputs.get("name", name)
    return {
        "id": own,
        "url": f"gs://{own}",
        "selfLink": f"https://www.googleapis.com/storage/v1/b/{own}",
        "projectNumber": int(NUMBER),
    }


def _cluster(name: str, inputs: Outputs) -> Outputs:
    own, location = inputs.get("name", name), inputs.get("location", "global")
    path = f"projects/{inputs.get('project', PROJECT)}/locations/{location}/clusters/{own}"
    _, pem = _certificate(own)
    return {
        "id": path,
        "name": own,
        "selfLink": f"https://container.googleapis.com/v1/{path}",
        "endpoint": "10.0.0.2",
        "masterVersion": "1.33.0-gke.1",
        "masterAuth": {"clusterCaCertificate": base64.b64encode(pem.encode()).decode()},
    }


# Random values and TLS: pure functions of the name, so that the same stack has the same.


def _random_uuid(name: str, _inputs: Outputs) -> Outputs:
    return {"id": _uuid(name), "result": _uuid(name)}


def _random_bytes(name: str, inputs: Outputs) -> Outputs:
    value = (_digest(name) * 64)[: int(inputs["length"])]
    return {"id": "none", "base64": base64.b64encode(value).decode(), "hex": value.hex()}


def _random_text(name: str, inputs: Outputs) -> Outputs:
    return {"id": "none", "result": (_digest(name).hex() * 64)[: int(inputs["length"])], "bcryptHash": "$2a$10$"}


def _random_id(name: str, inputs: Outputs) -> Outputs:
    value = (_digest(name) * 8)[: int(inputs["byteLength"])]
    prefix = inputs.get("prefix", "")
    url = base64.urlsafe_b64encode(value).decode().rstrip("=")
    return {
        "id": url,
        "hex": prefix + value.hex(),
        "dec": prefix + str(int.from_bytes(value, "big")),
        "b64Std": prefix + base64.b64encode(value).decode(),
        "b64Url": prefix + url,
    }


def _key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(_digest(name), "big") % 2**255 + 1, ec.SECP256R1())


def _public_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


def _private_key(name: str, _inputs: Outputs) -> Outputs:
    key = _key(name)
    pem, openssh, pkcs8 = (
        key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()
        for form in (
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.PrivateFormat.OpenSSH,
            serialization.PrivateFormat.PKCS8,
        )
    )
    ssh = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return {
        "id": _digest(name).hex(),
        "privateKeyPem": pem,
        "privateKeyOpenssh": openssh,
        "privateKeyPemPkcs8": pkcs8,
        "publicKeyPem": _public_pem(key),
        "publicKeyOpenssh": ssh,
        "publicKeyFingerprintMd5": hashlib.md5(pem.encode(), usedforsecurity=False).hexdigest(),
        "publicKeyFingerprintSha256": f"SHA256:{base64.b64encode(_digest(pem)).decode()}",
    }


def _certificate(name: str) -> tuple[ec.EllipticCurvePrivateKey, str]:
    key, subject = _key(name), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), int.from_bytes(_digest(name)[:8], "big"))
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(key, hashes.SHA256())
    )
    return key, made.public_bytes(serialization.Encoding.PEM).decode()


def _signed(name: str, _inputs: Outputs) -> Outputs:
    key, pem = _certificate(name)
    return {
        "id": _digest(name).hex(),
        "certPem": pem,
        "caKeyAlgorithm": "ECDSA",
        "keyAlgorithm": "ECDSA",
        "validityStartTime": "2026-01-01T00:00:00Z",
        "validityEndTime": "2035-12-30T00:00:00Z",
        "readyForRenewal": False,
        "publicKeyPem": _public_pem(key),
    }


def _request(name: str, _inputs: Outputs) -> Outputs:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name[:64])])
    made = x509.CertificateSigningRequestBuilder(subject).sign(_key(name), hashes.SHA256())
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    return {"id": _digest(name).hex(), "certRequestPem": pem, "keyAlgorithm": "ECDSA"}


# Kubernetes.


def _object(name: str, inputs: Outputs) -> Outputs:
    metadata = inputs.get("metadata", {})
    namespace, own = metadata.get("namespace"), metadata.get("name", name)
    return {"id": f"{namespace}/{own}" if namespace else own}


def _release(name: str, inputs: Outputs) -> Outputs:
    own, namespace = inputs.get("name", name), inputs.get("namespace", "default")
    status = {
        "name": own,
        "namespace": namespace,
        "revision": 1,
        "status": "deployed",
        "version": inputs.get("version"),
    }
    return {"id": f"{namespace}/{own}", "status": {key: value for key, value in status.items() if value is not None}}


KINDS: Mapping[str, Kind] = {
    # A package's own name stands for every resource of it that has no entry.
    "gcp": Kind(outputs=_google),
    "gcp:artifactregistry/repository:Repository": _below(
        "projects/{project}/locations/{location}/repositories/{repositoryId}"
    ),
    "gcp:container/cluster:Cluster": Kind(outputs=_cluster),
    "gcp:iam/workloadIdentityPool:WorkloadIdentityPool": _below(
        f"projects/{NUMBER}/locations/global/workloadIdentityPools/{{workloadIdentityPoolId}}"
    ),
    "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider": _below(
        f"projects/{NUMBER}/locations/global/workloadIdentityPools/{{workloadIdentityPoolId}}/providers/"
        "{workloadIdentityPoolProviderId}"
    ),
    "gcp:kms/cryptoKey:CryptoKey": _below("{keyRing}/cryptoKeys/{name}"),
    "gcp:kms/keyRing:KeyRing": _below("projects/{project}/locations/{location}/keyRings/{name}"),
    "gcp:projects/iAMCustomRole:IAMCustomRole": _below("projects/{project}/roles/{roleId}"),
    "gcp:projects/serviceIdentity:ServiceIdentity": Kind(outputs=_service_identity),
    "gcp:secretmanager/secret:Secret": _below("projects/{project}/secrets/{secretId}"),
    "gcp:secretmanager/secretVersion:SecretVersion": _below("{secret}/versions/1"),
    "gcp:serviceaccount/account:Account": Kind(outputs=_service_account),
    "gcp:storage/bucket:Bucket": Kind(outputs=_bucket),
    "kubernetes": Kind(outputs=_object),
    "kubernetes:helm.sh/v3:Release": Kind(outputs=_release),
    "nomad": Kind(outputs=_nomad_named),
    "nomad:index/aclToken:AclToken": Kind(secrets=frozenset({"secretId"}), outputs=_nomad_token),
    "nomad:index/job:Job": Kind(outputs=_job),
    "random:index/randomBytes:RandomBytes": Kind(secrets=frozenset({"base64", "hex"}), outputs=_random_bytes),
    "random:index/randomId:RandomId": Kind(outputs=_random_id),
    "random:index/randomPassword:RandomPassword": Kind(
        secrets=frozenset({"result", "bcryptHash"}), outputs=_random_text
    ),
    "random:index/randomString:RandomString": Kind(outputs=_random_text),
    "random:index/randomUuid:RandomUuid": Kind(outputs=_random_uuid),
    "tls:index/certRequest:CertRequest": Kind(outputs=_request),
    "tls:index/locallySignedCert:LocallySignedCert": Kind(outputs=_signed),
    "tls:index/privateKey:PrivateKey": Kind(
        secrets=frozenset({"privateKeyPem", "privateKeyOpenssh", "privateKeyPemPkcs8"}), outputs=_private_key
    ),
    "tls:index/selfSignedCert:SelfSignedCert": Kind(outputs=_signed),
}


@cache
def _jwks_answer() -> Outputs:
    """One RSA key, as Nomad publishes them; made once, so that it does not change under a stack."""
    public = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    numbers = public.public_numbers()
    modulus = base64.urlsafe_b64encode(numbers.n.to_bytes(256, "big")).decode().rstrip("=")
    key = {"keyType": "RSA", "keyUse": "sig", "keyId": _uuid("nomad"), "algorithm": "RS256"}
    key |= {"modulus": modulus, "exponent": "AQAB", "curve": "", "x": ""}
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    return {"id": "jwks", "keys": [key], "pemKeys": [pem]}


INVOKES: Mapping[str, Callable[[Outputs], Outputs]] = {
    "gcp:organizations/getProject:getProject": lambda _: {"projectId": PROJECT, "number": NUMBER, "id": PROJECT},
    "gcp:storage/getProjectServiceAccount:getProjectServiceAccount": lambda _: {
        "emailAddress": f"service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com",
        "member": f"serviceAccount:service-{NUMBER}@gs-project-accounts.iam.gserviceaccount.com",
    },
    "nomad:index/getJwks:getJwks": lambda _: _jwks_answer(),
    "nomad:index/getRegions:getRegions": lambda _: {"regions": ["global"]},
}
"""Answers to functions, by token."""
