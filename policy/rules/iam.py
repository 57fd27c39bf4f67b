"""Rules on grants: who may do what, how widely, and with which proof of being themselves.

Numbers are those of the CIS Google Cloud Platform Foundation Benchmark 2.0.
"""

import re
from collections.abc import Iterator

from infra.naming import MODEL_ALIASES
from inventory.resources import Resource
from policy.parts import google
from policy.rule import Level, Part, Rule, Stack

_IAM = ("gcp:*", "kubernetes:rbac.authorization.k8s.io/*", "nomad:index/acl*")
_PRIMITIVE = ("roles/owner", "roles/editor", "roles/viewer", "roles/browser")
# Roles on what a bucket, a key, a secret or a repository holds: on a project they are on all that there are.
_OF_ONE = re.compile(r"roles/(storage|secretmanager|cloudkms|artifactregistry)\.")
_IMPERSONATES = re.compile(
    r"roles/iam\.(serviceAccountUser|serviceAccountTokenCreator|serviceAccountOpenIdTokenCreator|workloadIdentityUser)"
)
_ADMIN = re.compile(r"roles/[\w.]*(?:[aA]dmin|owner)(?:\.v\d)?")
# Permissions by which one identity becomes another, or grants itself more.
_TAKES_OVER = re.compile(
    r"setIamPolicy|iam\.serviceAccounts\.(getAccessToken|getOpenIdToken|implicitDelegation|signBlob|signJwt)"
    r"|iam\.serviceAccountKeys\.create|iam\.roles\.(create|update)|\*"
)
_READS = ("roles/storage.objectViewer", "roles/storage.legacyObjectReader", "roles/storage.legacyBucketReader")
# As infra/foundation/buckets.py writes it: below a folder, and nothing below aliases/.
_VERSIONS = re.compile(
    r'resource\.name\.startsWith\("projects/_/buckets/[^/"]+/objects/([^/"]+/)+"\) && '
    rf'resource\.name\.extract\("/{MODEL_ALIASES}/\{{\w+\}}"\) == ""'
)
_PROVIDER = "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider"
# Issuers whose tokens anyone can have: https://cloud.google.com/iam/docs/workload-identity-federation-with-deployment-pipelines
_SHARED = re.compile(
    r"https://(token\.actions\.githubusercontent\.com|gitlab\.com|accounts\.google\.com|app\.terraform\.io)"
)


def _primitive(grant: Part, _: Stack) -> Iterator[str]:
    if grant.get("role") in _PRIMITIVE:
        yield f"{grant.get('principal')} gets {grant.get('role')}, which is of everything"


def _public(grant: Part, _: Stack) -> Iterator[str]:
    principal = grant.get("principal")
    if principal in ("allUsers", "allAuthenticatedUsers", "Group system:unauthenticated", "Group system:authenticated"):
        yield f"{principal} gets {grant.get('role')} on {grant.get('resource')}"


def _wide(grant: Part, _: Stack) -> Iterator[str]:
    if grant.get("resource").startswith("project ") and _OF_ONE.match(grant.get("role")):
        yield f"{grant.get('principal')} gets {grant.get('role')} on all of the project"


def _creates(grant: Part, stack: Stack) -> Iterator[str]:
    role = str(grant.get("role"))
    if role in _READS or grant.get("resource") not in stack.once(_models):
        return
    condition = str(grant.get("condition") or "")
    if role != "roles/storage.objectCreator":
        yield f"{role} replaces and deletes versions, or more"
    elif not _VERSIONS.fullmatch(condition):
        yield f"its condition is {condition or 'not set'}, so that it holds for more than versions"


def _models(stack: Stack) -> frozenset[str]:
    """The buckets of models, as grants name them."""
    buckets = stack.inventory.of_type("gcp:storage/bucket:Bucket")
    return frozenset(f"bucket {one.inputs['name']}" for one in buckets if one.inputs["labels"].get("use") == "models")


def _impersonation(grant: Part, _: Stack) -> Iterator[str]:
    if grant.get("resource").startswith("project ") and _IMPERSONATES.fullmatch(grant.get("role")):
        yield f"{grant.get('principal')} may act as every service account of the project, by {grant.get('role')}"


def _wildcard(grant: Part, _: Stack) -> Iterator[str]:
    role = str(grant.get("role"))
    if role == "*" or role.startswith("*") or role in ("ClusterRole cluster-admin", "ClusterRole admin"):
        yield f"{grant.get('principal')} gets every right, as {role}"


def _administers(grant: Part, stack: Stack) -> Iterator[str]:
    role, principal = str(grant.get("role")), str(grant.get("principal"))
    if not _ADMIN.fullmatch(role) or principal.startswith(("user:", "group:")):
        return
    # What deploys the platform administers it; of that the stack's `ci` says who.
    accounts = stack.once(_idle_accounts)
    if grant.resource is not None and not _of_these(grant.resource, accounts):
        yield f"{principal.rpartition('/')[2]} administers {grant.get('resource')}, by {role}"


def _idle_accounts(stack: Stack) -> frozenset[str]:
    """The URNs of accounts that no machine acts as."""
    attached = stack.once(google.attached)
    return frozenset(one.urn for one in stack.inventory.of_type(google.ACCOUNT) if one.urn not in attached)


def _of_these(grant: Resource, accounts: frozenset[str]) -> bool:
    return bool(accounts & set(grant.property_dependencies.get("member", [])))


def _custom(role: Part, stack: Stack) -> Iterator[str]:
    accounts = stack.once(_idle_accounts)
    urn = role.resource.urn if role.resource else None
    holders = [
        one
        for one in stack.inventory.resources
        if urn in one.property_dependencies.get("role", []) and not _of_these(one, accounts)
    ]
    for permission in role.each("permissions"):
        if holders and _TAKES_OVER.search(str(permission)):
            yield f"whom {holders[0].name} grants it can become someone else, by {permission}"


def _key_file(_: Part, __: Stack) -> Iterator[str]:
    yield "it is a credential that works from anywhere until someone deletes it"


def _authoritative(_: Part, __: Stack) -> Iterator[str]:
    yield "it takes away what others granted, Google's own agents among them"


def _condition(provider: Part, _: Stack) -> Iterator[str]:
    condition = provider.get("attributeCondition")
    issuer = str(provider.get("oidc", "issuerUri") or "")
    if not condition:
        yield f"it takes every token of {issuer or 'its issuer'}"
    elif _SHARED.match(issuer) and not re.search(r"repository|namespace|organization|hd", str(condition)):
        yield f"{issuer} signs tokens for everyone, and attributeCondition names no owner"


RULES = (
    Rule(
        id="iam-primitive-role",
        level=Level.MANDATORY,
        holds="Nobody gets Owner, Editor, Viewer or Browser.",
        why="CIS GCP 1.5: such a role holds thousands of permissions, in services that do not exist yet too.",
        fix="Grant the role that the work needs, on the resource that it is about.",
        check=_primitive,
        types=_IAM,
        parts=google.grants,
    ),
    Rule(
        id="iam-public",
        level=Level.MANDATORY,
        holds="Nothing is granted to everyone.",
        why="CIS GCP 1.9 and 5.1, NSA/CISA Kubernetes Hardening Guide, Authentication and authorization.",
        fix="Name the principal that needs it.",
        check=_public,
        types=_IAM,
        parts=google.grants,
    ),
    Rule(
        id="iam-project-wide",
        level=Level.MANDATORY,
        holds="Roles on buckets, keys, secrets and repositories are granted on the one, not on the project.",
        why="Whoever reads the models of one stack would read every bucket that the project will ever have.",
        fix="Grant it on the resource: BucketIAMMember, CryptoKeyIAMMember, SecretIamMember, RepositoryIamMember.",
        check=_wide,
        types=_IAM,
        parts=google.grants,
    ),
    Rule(
        id="iam-creates-versions",
        level=Level.MANDATORY,
        holds="Who may write to the bucket of models creates versions there, below a folder, and no alias.",
        why="An alias is what serves: whoever may write one makes every user of the model run a version of their own.",
        fix="Grant roles/storage.objectCreator by Buckets.grant of infra/foundation/buckets.py, with a prefix.",
        check=_creates,
        types=("gcp:storage/*",),
        parts=google.grants,
        across=True,
    ),
    Rule(
        id="iam-impersonation",
        level=Level.MANDATORY,
        holds="Nobody may act as every service account of the project.",
        why="CIS GCP 1.6: the strongest account of the project, and each that is made later, is theirs.",
        fix="Grant it on the one service account, by serviceaccount.IAMMember.",
        check=_impersonation,
        types=_IAM,
        parts=google.grants,
    ),
    Rule(
        id="iam-every-right",
        level=Level.MANDATORY,
        holds="No role in a cluster or in Nomad is of every right.",
        why="NSA/CISA Kubernetes Hardening Guide, Authentication and authorization; Nomad's security model, ACLs.",
        fix="List the verbs and kinds, or the capabilities, that the work needs.",
        check=_wildcard,
        types=("kubernetes:rbac.authorization.k8s.io/*", "nomad:index/acl*"),
        parts=google.grants,
    ),
    Rule(
        id="iam-administers",
        level=Level.MANDATORY,
        holds="No workload, machine or agent of Google's administers anything.",
        why="CIS GCP 1.5: a service account with an administrator's role is a way to the whole service.",
        fix="Grant the role that the work needs; roles that end in admin are for people, and for what deploys.",
        check=_administers,
        types=("gcp:*",),
        parts=google.grants,
        across=True,
    ),
    Rule(
        id="iam-custom-role",
        level=Level.MANDATORY,
        holds="No role of the stack's own lets a workload or a machine act as others, or grant.",
        why="Google's documentation, Service account impersonation: such a permission is worth every account there is.",
        fix="Remove the permission; let the one who needs it be granted a role on the one account.",
        check=_custom,
        types=("gcp:projects/iAMCustomRole:IAMCustomRole",),
        across=True,
    ),
    Rule(
        id="iam-key-file",
        level=Level.MANDATORY,
        holds="No key of a service account is made.",
        why="CIS GCP 1.4: key files are copied, committed and never rotated; identities are attached or federated.",
        fix="Attach the service account, or federate the identity that the workload has already.",
        check=_key_file,
        types=("gcp:serviceaccount/key:Key", "gcp:storage/hmacKey:HmacKey"),
    ),
    Rule(
        id="iam-authoritative",
        level=Level.MANDATORY,
        holds="Grants are single members, never a whole binding or policy.",
        why="pulumi-gcp's documentation: a binding or policy removes members that it does not list.",
        fix="Use the IAMMember of the same resource.",
        check=_authoritative,
        types=(
            "gcp:projects/iAMBinding:IAMBinding",
            "gcp:projects/iAMPolicy:IAMPolicy",
            "gcp:storage/bucketIAMBinding:BucketIAMBinding",
            "gcp:storage/bucketIAMPolicy:BucketIAMPolicy",
            "gcp:serviceaccount/iAMBinding:IAMBinding",
            "gcp:serviceaccount/iAMPolicy:IAMPolicy",
            "gcp:kms/cryptoKeyIAMBinding:CryptoKeyIAMBinding",
            "gcp:kms/cryptoKeyIAMPolicy:CryptoKeyIAMPolicy",
            "gcp:secretmanager/secretIamBinding:SecretIamBinding",
            "gcp:secretmanager/secretIamPolicy:SecretIamPolicy",
            "gcp:artifactregistry/repositoryIamBinding:RepositoryIamBinding",
            "gcp:artifactregistry/repositoryIamPolicy:RepositoryIamPolicy",
        ),
    ),
    Rule(
        id="iam-federation-condition",
        level=Level.MANDATORY,
        holds="A workload identity provider says whose tokens it takes.",
        why="Google's Best practices for Workload Identity Federation: without one, it takes anyone's token.",
        fix="Set attribute_condition to the region, or to the repository and its owner's id.",
        check=_condition,
        types=(_PROVIDER,),
    ),
)
