"""The keys in Cloud KMS, and that Google's own services may use them.

Owns one key ring a region and a key for each kind of thing that is encrypted there, since most services take a key of
their own region only. Who else uses a key (Nomad's servers for their key ring) is granted beside that. A key ring can
never be deleted, so its name has a random part: a stack that is torn down can come up again in the same project.
"""

from collections.abc import Mapping

import pulumi
import pulumi_random
from pulumi_gcp import kms, projects, storage

from infra import outputs
from infra.foundation.apis import Apis
from infra.labels import labels
from infra.settings import PROJECT, Settings

ENCRYPT_AND_DECRYPT = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
_APIS = {
    "storage": "storage",
    "artifacts": "artifactregistry",
    "secrets": "secretmanager",
    "disks": "compute",
    "kubernetes": "container",
}
"""The API whose own account uses each kind of key."""


class RegionKeys:
    """The keys of one region. One that nothing in the region would use is not there: asking for it is an error."""

    storage: kms.CryptoKey
    """Buckets."""
    artifacts: kms.CryptoKey
    """Artifact Registry."""
    secrets: kms.CryptoKey
    """Secret Manager."""
    disks: kms.CryptoKey
    """Disks of machines and nodes."""
    nomad: kms.CryptoKey
    """What Nomad's servers wrap their own keys with."""
    kubernetes: kms.CryptoKey
    """Secrets in the cluster's database."""

    def __init__(self, keys: Mapping[str, kms.CryptoKey]) -> None:
        self.__dict__.update(keys)


def uses(settings: Settings) -> dict[str, tuple[str, ...]]:
    """What is encrypted in each region of Google Cloud; the stack's own region is always among them."""
    assert settings.gcp, "the settings were checked"  # noqa: S101
    found: dict[str, set[str]] = {settings.gcp.region: {"storage", "artifacts"}}
    if settings.nomad.regions:
        # Of all regions they are in the stack's own.
        found[settings.gcp.region].add("secrets")
    for nomad in settings.nomad.regions.values():
        found.setdefault(nomad.region, set()).update(("disks", "nomad"))
    for cluster in settings.kubernetes.clusters.values() if settings.kubernetes else ():
        found.setdefault(cluster.region, set()).update(("disks", "kubernetes"))
    return {region: tuple(sorted(kinds)) for region, kinds in found.items()}


class Keys(pulumi.ComponentResource, RegionKeys):
    """The keys of a stack; its attributes are those of the stack's own region.

    Attributes:
        ready: The grants that must exist before the first thing is encrypted with one of the keys.
    """

    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        apis: Apis,
        network: pulumi.Resource,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud.

        Args:
            name: The component's name.
            settings: The stack's settings.
            apis: The APIs.
            network: What uses Compute Engine, so that its service agent exists.
            opts: Its options.
        """
        pulumi.ComponentResource.__init__(self, f"{PROJECT}:foundation:Keys", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        stateful = pulumi.ResourceOptions(parent=self, protect=settings.gcp.protect)
        suffix = pulumi_random.RandomId(f"{name}-suffix", byte_length=3, opts=pulumi.ResourceOptions(parent=self))
        # A grant comes after what makes its agent.
        made: dict[str, list[pulumi.Resource]] = {"disks": [network]}
        agents = self._agents(name, settings, apis, made)
        self.ready = []
        self._regions: dict[str, RegionKeys] = {}
        for region, kinds in uses(settings).items():
            ring = kms.KeyRing(
                f"{name}-{region}",
                name=outputs.concat("mlops-", suffix.hex),
                location=region,
                opts=stateful,
            )
            keys = {}
            for kind in kinds:
                keys[kind] = kms.CryptoKey(
                    f"{name}-{region}-{kind}",
                    name=kind,
                    key_ring=ring.id,
                    purpose="ENCRYPT_DECRYPT",
                    rotation_period=f"{settings.keys.rotation_days * 86400}s",
                    labels=labels(settings, "keys", use=kind),
                    opts=stateful,
                )
                if kind in agents:
                    self.ready.append(
                        kms.CryptoKeyIAMMember(
                            f"{name}-{region}-{kind}-agent",
                            crypto_key_id=keys[kind].id,
                            role=ENCRYPT_AND_DECRYPT,
                            member=agents[kind],
                            opts=pulumi.ResourceOptions(
                                parent=self,
                                depends_on=[apis.by_name[_APIS[kind]], *made.get(kind, [])],
                            ),
                        )
                    )
            self._regions[region] = RegionKeys(keys)
        self.__dict__.update(vars(self._regions[settings.gcp.region]))
        self.register_outputs({})

    def at(self, region: str) -> RegionKeys:
        """The keys of a region of Google Cloud that has an engine."""
        return self._regions[region]

    def _agents(
        self, name: str, settings: Settings, apis: Apis, made: dict[str, list[pulumi.Resource]]
    ) -> dict[str, pulumi.Input[str]]:
        """The account by which Google's service uses each kind of key, as a member.

        It exists some time after its API is first used (cloud.google.com/iam/docs/service-agents), and a grant to one
        that does not exist is refused. So it is made here where Google makes one on request. That of Cloud Storage is
        made when it is first asked for, which is what the call is for (hashicorp/terraform-provider-google#9730). That
        of Compute Engine cannot be requested (terraform-google-modules/terraform-google-project-factory#628): its grant
        waits for the network, which uses the API.
        """
        assert settings.gcp, "the settings were checked"  # noqa: S101
        project, number = settings.gcp.project, settings.gcp.project_number

        def requested(kind: str) -> projects.ServiceIdentity:
            identity = projects.ServiceIdentity(
                f"{name}-{_APIS[kind]}-agent",
                project=project,
                service=f"{_APIS[kind]}.googleapis.com",
                opts=pulumi.ResourceOptions(parent=self, depends_on=[apis.by_name[_APIS[kind]]]),
            )
            made[kind] = [identity]
            return identity

        asked = storage.get_project_service_account_output(
            project=project, opts=pulumi.InvokeOutputOptions(parent=self, depends_on=[apis.by_name["storage"]])
        )
        if settings.kubernetes and settings.kubernetes.clusters:
            # Its address is known, and what Google answers need not hold one.
            requested("kubernetes")
        return {
            "storage": asked.member,
            "artifacts": requested("artifacts").member,
            **({"secrets": requested("secrets").member} if settings.nomad.regions else {}),
            "disks": f"serviceAccount:service-{number}@compute-system.iam.gserviceaccount.com",
            "kubernetes": f"serviceAccount:service-{number}@container-engine-robot.iam.gserviceaccount.com",
        }
