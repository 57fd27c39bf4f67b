"""What Nomad's agents trust each other by: the CA, each region's certificates, the gossip key, the bootstrap token.

Owns their making and their place in Secret Manager, encrypted with the stack's own key. The CA's private key is in
Pulumi's state only, encrypted. Certificates are made again by whichever `pulumi up` comes in their last months;
machines take them by themselves (files/refresh-certificates.sh).
"""

from collections.abc import Mapping

import pulumi
import pulumi_random
import pulumi_tls
from pulumi_gcp import secretmanager

from infra import naming, outputs
from infra.foundation.foundation import Foundation
from infra.labels import labels
from infra.nomad import boot
from infra.nomad.accounts import NomadAccounts
from infra.settings import PROJECT, Settings

_YEAR = 365 * 24
_CA_YEARS = 10
_RENEWAL = 90 * 24
_USES = ["digital_signature", "key_encipherment", "server_auth", "client_auth"]


class NomadSecrets(pulumi.ComponentResource):
    """What all Nomad regions of a stack share, since federated regions are one circle of trust.

    Attributes:
        ca_pem: The certificate of the CA.
        ca_key_pem: Its private key (secret).
        bootstrap_token: The token that the ACLs are bootstrapped with (secret).
        accounts: The identities of the machines.
        ready: What must exist before a machine starts.
    """

    ca_pem: pulumi.Output[str]
    ca_key_pem: pulumi.Output[str]
    bootstrap_token: pulumi.Output[str]
    accounts: NomadAccounts
    ready: list[pulumi.Resource]

    def __init__(
        self, name: str, *, settings: Settings, foundation: Foundation, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:nomad:NomadSecrets", name, None, opts)
        below = pulumi.ResourceOptions(parent=self)
        after = pulumi.ResourceOptions(parent=self, depends_on=[foundation.apis])
        self.accounts = NomadAccounts(f"{name}-accounts", settings=settings, opts=after)
        key = pulumi_tls.PrivateKey(f"{name}-ca-key", algorithm="ECDSA", ecdsa_curve="P256", opts=below)
        ca = pulumi_tls.SelfSignedCert(
            f"{name}-ca",
            private_key_pem=key.private_key_pem,
            is_ca_certificate=True,
            subject=pulumi_tls.SelfSignedCertSubjectArgs(common_name=f"Nomad CA of {pulumi.get_stack()}"),
            validity_period_hours=_CA_YEARS * _YEAR,
            # Another CA parts the machines that have it from those that do not: it is made by runbook only.
            allowed_uses=["cert_signing", "crl_signing", "digital_signature"],
            set_subject_key_id=True,
            opts=below,
        )
        self.ca_pem, self.ca_key_pem = ca.cert_pem, key.private_key_pem
        gossip = pulumi_random.RandomBytes(f"{name}-gossip", length=32, opts=below)
        # Not a RandomUuid: the id of one is the UUID itself, and an id is plain in the state (pulumi-random#190).
        token = pulumi_random.RandomBytes(f"{name}-bootstrap-token", length=16, opts=below)
        self.bootstrap_token = outputs.made(token.hex, _uuid)

        servers = {region: self.accounts.of[region, "server"].member for region in settings.nomad.regions}
        self.ready = [*self.accounts.ready]
        for what, value in {"gossip": gossip.base64, "bootstrap-token": self.bootstrap_token}.items():
            self.ready += _kept(f"{name}-{what}", boot.secret_name(what), value, servers, settings, foundation, self)
        self.ready += _kept(f"{name}-ca-pem", naming.NOMAD_CA_SECRET, self.ca_pem, {}, settings, foundation, self)
        self.register_outputs({})


class Certificates(pulumi.ComponentResource):
    """The certificates of one Nomad region.

    Attributes:
        ca_pem: The certificate of the CA.
        cli_cert_pem: A certificate for people and programs, where a Nomad asks for one.
        cli_key_pem: Its private key (secret).
        ready: What must exist before a machine starts.
    """

    ca_pem: pulumi.Output[str]
    cli_cert_pem: pulumi.Output[str]
    cli_key_pem: pulumi.Output[str]
    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        region: str,
        balancer: str,
        foundation: Foundation,
        secrets: NomadSecrets,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud.

        Args:
            name: The component's name.
            settings: The stack's settings.
            region: The Nomad region.
            balancer: The address of the region's load balancer.
            foundation: Keys.
            secrets: The CA.
            opts: Its options.
        """
        super().__init__(f"{PROJECT}:nomad:Certificates", name, None, opts)
        self.ca_pem = secrets.ca_pem
        self.ready = []
        pems: dict[str, tuple[pulumi.Output[str], pulumi.Output[str]]] = {}
        for role in ("server", "client", "cli"):
            key = pulumi_tls.PrivateKey(
                f"{name}-{role}-key",
                algorithm="ECDSA",
                ecdsa_curve="P256",
                opts=pulumi.ResourceOptions(parent=self),
            )
            # Nomad itself checks the name of the role; people reach servers by 127.0.0.1, through a tunnel, or by the
            # balancer.
            role_name = naming.nomad_server_name(region) if role == "server" else f"{role}.{region}.nomad"
            request = pulumi_tls.CertRequest(
                f"{name}-{role}-request",
                private_key_pem=key.private_key_pem,
                subject=pulumi_tls.CertRequestSubjectArgs(common_name=role_name),
                dns_names=[role_name, "localhost"],
                ip_addresses=["127.0.0.1", *([balancer] if role == "server" else [])],
                opts=pulumi.ResourceOptions(parent=self),
            )
            certificate = pulumi_tls.LocallySignedCert(
                f"{name}-{role}",
                cert_request_pem=request.cert_request_pem,
                ca_cert_pem=secrets.ca_pem,
                ca_private_key_pem=secrets.ca_key_pem,
                allowed_uses=_USES,
                validity_period_hours=_YEAR,
                early_renewal_hours=_RENEWAL,
                opts=pulumi.ResourceOptions(parent=self),
            )
            pems[role] = certificate.cert_pem, key.private_key_pem
        self.cli_cert_pem, self.cli_key_pem = pems["cli"]
        for role in ("server", "client"):
            bundle = pulumi.Output.json_dumps(
                {"ca": secrets.ca_pem, "certificate": pems[role][0], "key": pems[role][1]}
            )
            readers = {region: secrets.accounts.of[region, role].member}
            secret = boot.secret_name(role, region)
            self.ready += _kept(f"{name}-{role}", secret, bundle, readers, settings, foundation, self)
        self.register_outputs({})


def _uuid(digits: str) -> str:
    """Hexadecimal digits as Nomad wants a token written."""
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:32]))


def _kept(
    name: str,
    secret_id: str,
    value: pulumi.Output[str],
    readers: Mapping[str, pulumi.Output[str]],
    settings: Settings,
    foundation: Foundation,
    parent: pulumi.Resource,
) -> list[pulumi.Resource]:
    """Put a value into Secret Manager, for the machines of some regions to read."""
    google = settings.gcp
    assert google, "the settings were checked"  # noqa: S101
    secret = secretmanager.Secret(
        f"{name}-secret",
        secret_id=secret_id,
        project=google.project,
        labels=labels(settings, "nomad"),
        # In one region, with that region's own key: a secret that Google replicates takes a global key only.
        replication=secretmanager.SecretReplicationArgs(
            user_managed=secretmanager.SecretReplicationUserManagedArgs(
                replicas=[
                    secretmanager.SecretReplicationUserManagedReplicaArgs(
                        location=google.region,
                        customer_managed_encryption=(
                            secretmanager.SecretReplicationUserManagedReplicaCustomerManagedEncryptionArgs(
                                kms_key_name=foundation.keys.secrets.id
                            )
                        ),
                    )
                ]
            )
        ),
        opts=pulumi.ResourceOptions(parent=parent, protect=google.protect, depends_on=foundation.keys.ready),
    )
    version = secretmanager.SecretVersion(
        f"{name}-version",
        secret=secret.id,
        secret_data=pulumi.Output.secret(value),
        opts=pulumi.ResourceOptions(parent=parent),
    )
    grants = [
        secretmanager.SecretIamMember(
            f"{name}-reader-{region}",
            project=google.project,
            secret_id=secret.secret_id,
            role="roles/secretmanager.secretAccessor",
            member=reader,
            opts=pulumi.ResourceOptions(parent=parent),
        )
        for region, reader in readers.items()
    ]
    return [version, *grants]
