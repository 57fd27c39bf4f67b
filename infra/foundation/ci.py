"""Continuous integration: who the jobs of GitHub's workflows are to Google Cloud, and what each may do.

Owns the pool that trusts GitHub's tokens, an account for each kind of job, and what these are granted; that machines
may be made to run as an account is granted beside that account, by `may_run_as`. There is no key: a job proves by a
token that GitHub signs for it that it runs for this repository, and in which of the repository's environments; for each
environment there is one account. Who has to approve a job before it gets such a token is set in GitHub, and
deliberately not here (docs/how-to/run-in-ci.md).

Every account but `images` reads Pulumi's state, and with it Nomad's management token and the key of its CA: what an
account is not granted here, whoever runs as it can still do in Nomad.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pulumi
import pulumi_random
from pulumi_gcp import artifactregistry, iam, kms, projects, serviceaccount, storage

from infra import naming, outputs
from infra.foundation.buckets import Buckets
from infra.foundation.registry import Registry
from infra.settings import PROJECT, Settings

ISSUER = "https://token.actions.githubusercontent.com"


@dataclass(frozen=True)
class Job:
    """A kind of job.

    Attributes:
        title: What its account is for.
        suffix: What follows the stack in the name of its environment.
        applied: Whether it runs for the branch that is applied only; otherwise for pull requests only.
        state: Its role on the objects of the bucket with Pulumi's state; None for a job that needs no state.
        program: Its role on the program that the stack keeps in the data bucket for Nomad's store tasks.
        roles: Its roles on the project.
        permissions: What no predefined role has without more that it must not have, as a role of its own.
    """

    title: str
    suffix: str
    applied: bool = True
    state: str | None = None
    program: str | None = None
    roles: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()


_READ, _WRITE = "roles/storage.objectViewer", "roles/storage.objectUser"

_PREVIEW_ROLES = (
    # `mlops tunnel` finds Nomad's servers; the tunnel itself is granted below, for one port.
    "roles/compute.viewer",
)
_PREVIEW = (
    # The provider of Kubernetes asks a cluster through its DNS endpoint which kinds of objects it knows.
    "container.clusters.connect",
    "container.clusters.get",
    # Cloud Storage is asked for its own account (keys.py).
    "resourcemanager.projects.get",
    # Requests count against the project (providers.py).
    "serviceusage.services.use",
)

JOBS: Mapping[str, Job] = {
    # Without a refresh nothing of what is provisioned is read: the state says what it is.
    "preview": Job(
        "Previews of pull requests",
        "-preview",
        applied=False,
        state=_READ,
        roles=_PREVIEW_ROLES,
        permissions=_PREVIEW,
    ),
    # A refresh reads back everything that the program makes, grants too, but no object of a bucket except the program.
    "read": Job(
        "Plans and the search for drift",
        "-read",
        state=_READ,
        program=_READ,
        roles=(
            *_PREVIEW_ROLES,
            # Objects in the clusters, Secrets not.
            "roles/container.viewer",
        ),
        permissions=(
            *_PREVIEW,
            "artifactregistry.repositories.get",
            "artifactregistry.repositories.getIamPolicy",
            "cloudkms.cryptoKeys.get",
            "cloudkms.cryptoKeys.getIamPolicy",
            "cloudkms.keyRings.get",
            # Helm keeps what it released in Secrets.
            "container.secrets.get",
            "container.secrets.list",
            "iam.roles.get",
            "iam.serviceAccounts.get",
            "iam.serviceAccounts.getIamPolicy",
            "iam.workloadIdentityPoolProviders.get",
            "iam.workloadIdentityPools.get",
            "monitoring.alertPolicies.get",
            "monitoring.notificationChannels.get",
            "resourcemanager.projects.getIamPolicy",
            "secretmanager.secrets.get",
            "secretmanager.secrets.getIamPolicy",
            # The provider reads back what a version holds; all of it is in the state too.
            "secretmanager.versions.access",
            "secretmanager.versions.get",
            "serviceusage.services.get",
            "serviceusage.services.list",
            "storage.buckets.get",
            "storage.buckets.getIamPolicy",
        ),
    ),
    # On the repository alone, below.
    "images": Job("Building and copying images", "-images"),
    "deploy": Job(
        "Updates of the stack",
        "",
        state=_WRITE,
        program=_WRITE,
        roles=(
            # Machines, their groups, templates and disks; VPC, NAT, addresses, balancers, health checks; firewall.
            "roles/compute.instanceAdmin.v1",
            "roles/compute.networkAdmin",
            "roles/compute.securityAdmin",
            # Clusters, and roles in them: Kubernetes lets nobody grant there what they do not have.
            "roles/container.admin",
            # Accounts of machines and nodes, and the program's own roles.
            "roles/iam.roleAdmin",
            "roles/iam.serviceAccountAdmin",
            "roles/iam.workloadIdentityPoolAdmin",
            "roles/monitoring.alertPolicyEditor",
            "roles/monitoring.notificationChannelEditor",
            # What the program grants on the project. With it, an account can make itself anything here.
            "roles/resourcemanager.projectIamAdmin",
            "roles/serviceusage.serviceUsageAdmin",
        ),
        # Of what holds data, the thing itself and who may use it, and not the data in it.
        permissions=(
            "artifactregistry.repositories.create",
            "artifactregistry.repositories.delete",
            "artifactregistry.repositories.get",
            "artifactregistry.repositories.getIamPolicy",
            "artifactregistry.repositories.list",
            "artifactregistry.repositories.setIamPolicy",
            "artifactregistry.repositories.update",
            "cloudkms.cryptoKeyVersions.destroy",
            "cloudkms.cryptoKeyVersions.get",
            "cloudkms.cryptoKeyVersions.list",
            "cloudkms.cryptoKeys.create",
            "cloudkms.cryptoKeys.get",
            "cloudkms.cryptoKeys.getIamPolicy",
            "cloudkms.cryptoKeys.list",
            "cloudkms.cryptoKeys.setIamPolicy",
            "cloudkms.cryptoKeys.update",
            "cloudkms.keyRings.create",
            "cloudkms.keyRings.get",
            "cloudkms.keyRings.list",
            "secretmanager.secrets.create",
            "secretmanager.secrets.delete",
            "secretmanager.secrets.get",
            "secretmanager.secrets.getIamPolicy",
            "secretmanager.secrets.list",
            "secretmanager.secrets.setIamPolicy",
            "secretmanager.secrets.update",
            # The provider reads back what a version holds.
            "secretmanager.versions.access",
            "secretmanager.versions.add",
            "secretmanager.versions.destroy",
            "secretmanager.versions.disable",
            "secretmanager.versions.enable",
            "secretmanager.versions.get",
            "secretmanager.versions.list",
            "storage.buckets.create",
            "storage.buckets.delete",
            "storage.buckets.get",
            "storage.buckets.getIamPolicy",
            "storage.buckets.list",
            "storage.buckets.setIamPolicy",
            "storage.buckets.update",
        ),
    ),
}
"""The kinds of jobs. Permissions are those of https://cloud.google.com/iam/docs/roles-permissions; none was tried."""


def environment(stack: str, job: Job) -> str:
    """The environment of GitHub in which a kind of job gets its account."""
    return f"{stack}{job.suffix}"


def condition(stack: str, settings: Settings) -> str:
    """What must be true of a token for it to be taken at all, in Google's expression language.

    Repository and owner: a name that its owner gave up can be taken by another, the owner's number cannot. The branch:
    an environment is limited to it in GitHub too, but that is a setting which no review of this program sees.
    """
    ci = settings.ci
    assert ci, "the caller has looked"  # noqa: S101
    applied = ", ".join(f'"{environment(stack, job)}"' for job in JOBS.values() if job.applied)
    proposed = ", ".join(f'"{environment(stack, job)}"' for job in JOBS.values() if not job.applied)
    return (
        f'assertion.repository == "{ci.repository}" && assertion.repository_owner_id == "{ci.owner_id}" && '
        f'((assertion.environment in [{applied}] && assertion.ref == "refs/heads/{ci.branch}") || '
        f'(assertion.environment in [{proposed}] && assertion.event_name == "pull_request"))'
    )


def may_run_as(
    name: str, account: serviceaccount.Account, settings: Settings, opts: pulumi.ResourceOptions
) -> list[pulumi.Resource]:
    """Let an update by continuous integration make machines that run as an account; nothing for a stack without it.

    Args:
        name: The logical name of whose account it is.
        account: The account.
        settings: The stack's settings.
        opts: The grant's options; its parent is the account's.
    """
    if not settings.ci or not settings.gcp:
        return []
    return [
        serviceaccount.IAMMember(
            f"{name}-made-by-ci",
            service_account_id=account.name,
            role="roles/iam.serviceAccountUser",
            member=f"serviceAccount:{account_id('deploy')}@{settings.gcp.project}.iam.gserviceaccount.com",
            opts=opts,
        )
    ]


def account_id(job: str) -> str:
    """What the account of a kind of job is called before the @."""
    return f"mlops-ci-{job}"


class Ci(pulumi.ComponentResource):
    """The identities of continuous integration.

    Attributes:
        identities: What a workflow has to know: the provider of the pool, and each account's address by its
            environment. No secret.
    """

    identities: dict[str, pulumi.Output[str]]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        buckets: Buckets,
        registry: Registry,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them; `opts` has the providers of Google Cloud and random."""
        super().__init__(f"{PROJECT}:foundation:Ci", name, None, opts)
        assert settings.gcp and settings.ci, "the caller has looked"  # noqa: S101, PT018
        self._settings, self._name, self._project = settings, name, settings.gcp.project
        self._below = pulumi.ResourceOptions(parent=self)
        stack = pulumi.get_stack()
        # The id of a deleted pool stays taken for 30 days, that of a deleted role for 37.
        self._suffix = pulumi_random.RandomId(f"{name}-suffix", byte_length=3, opts=self._below)
        pool = iam.WorkloadIdentityPool(
            f"{name}-pool",
            workload_identity_pool_id=outputs.concat("mlops-ci-", self._suffix.hex),
            project=self._project,
            display_name="Continuous integration",
            description="Who jobs of GitHub's workflows are to Google Cloud.",
            opts=self._below,
        )
        provider = iam.WorkloadIdentityPoolProvider(
            f"{name}-github",
            workload_identity_pool_id=pool.workload_identity_pool_id,
            workload_identity_pool_provider_id="github",
            project=self._project,
            display_name="GitHub",
            description=f"Takes tokens that GitHub signed for jobs of {settings.ci.repository}.",
            attribute_mapping={
                # By it the audit log names the run. GitHub's own subject may be longer than Google's 127 bytes.
                "google.subject": 'assertion.environment + ":" + assertion.run_id',
                "attribute.environment": "assertion.environment",
            },
            attribute_condition=condition(stack, settings),
            oidc=iam.WorkloadIdentityPoolProviderOidcArgs(issuer_uri=ISSUER),
            opts=self._below,
        )
        self.identities = {"workload_identity_provider": provider.name}
        for key, job in JOBS.items():
            account = serviceaccount.Account(
                f"{name}-{key}",
                account_id=account_id(key),
                display_name=f"CI: {key}",
                description=f"{job.title}, by GitHub's workflows.",
                project=self._project,
                opts=self._below,
            )
            self.identities[environment(stack, job)] = account.email
            serviceaccount.IAMMember(
                f"{name}-{key}-github",
                service_account_id=account.name,
                role="roles/iam.workloadIdentityUser",
                member=outputs.concat(
                    f"principalSet://iam.googleapis.com/projects/{settings.gcp.project_number}/locations/global/"
                    "workloadIdentityPools/",
                    pool.workload_identity_pool_id,
                    f"/attribute.environment/{environment(stack, job)}",
                ),
                opts=self._below,
            )
            self._grant_project(key, job, account)
            if job.state:
                self._grant_state(key, job.state, account)
            if job.program:
                buckets.grant(
                    f"{name}-{key}-program",
                    "data",
                    job.program,
                    account.member,
                    prefix=naming.STORE_PROGRAM,
                    opts=self._below,
                )
            if key == "images":
                self._grant_images(f"{name}-images-push", "roles/artifactregistry.writer", account.member, registry)
        for member in settings.ci.image_readers:
            self._grant_images(f"{name}-reads-{member}", "roles/artifactregistry.reader", member, registry)
        self.register_outputs({})

    def _grant_project(self, key: str, job: Job, account: serviceaccount.Account) -> None:
        roles: dict[str, pulumi.Input[str]] = {role.rpartition("/")[2]: role for role in job.roles}
        if job.permissions:
            roles["own"] = projects.IAMCustomRole(
                f"{self._name}-{key}-role",
                role_id=outputs.concat(f"mlopsCi{key.capitalize()}_", self._suffix.hex),
                title=f"mlops: CI, {key}",
                description=f"{job.title}: what no predefined role has without more.",
                project=self._project,
                permissions=list(job.permissions),
                opts=self._below,
            ).name
        for what, role in roles.items():
            projects.IAMMember(
                f"{self._name}-{key}-{what}", project=self._project, role=role, member=account.member, opts=self._below
            )
        if job.state:
            projects.IAMMember(
                f"{self._name}-{key}-tunnel",
                project=self._project,
                role="roles/iap.tunnelResourceAccessor",
                member=account.member,
                condition=projects.IAMMemberConditionArgs(title="Nomad", expression="destination.port == 4646"),
                opts=self._below,
            )

    def _grant_state(self, key: str, role: str, account: serviceaccount.Account) -> None:
        """The state was made by hand, before the program; so it is named by settings."""
        assert self._settings.ci, "the caller has looked"  # noqa: S101
        storage.BucketIAMMember(
            f"{self._name}-{key}-state",
            bucket=self._settings.ci.state_bucket,
            role=role,
            member=account.member,
            opts=self._below,
        )
        # Secrets in the state are encrypted with a key that is itself in the stack file, encrypted with this one:
        # decrypting it is enough to write secrets too.
        kms.CryptoKeyIAMMember(
            f"{self._name}-{key}-secrets",
            crypto_key_id=self._settings.ci.state_key,
            role="roles/cloudkms.cryptoKeyDecrypter",
            member=account.member,
            opts=self._below,
        )

    def _grant_images(self, name: str, role: str, member: pulumi.Input[str], registry: Registry) -> None:
        artifactregistry.RepositoryIamMember(
            name,
            project=registry.images.project,
            location=registry.images.location,
            repository=registry.images.repository_id,
            role=role,
            member=member,
            opts=self._below,
        )
