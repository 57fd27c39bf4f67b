"""One Nomad region that the stack provisions: certificates, firewall, servers, clients, alerts, in their order."""

import pulumi
from pulumi_gcp import compute, serviceaccount

from infra import naming
from infra.foundation.foundation import Foundation
from infra.labels import labels
from infra.nomad.alerts import NomadAlerts
from infra.nomad.api import Later
from infra.nomad.certificates import Certificates, NomadSecrets
from infra.nomad.clients import Clients
from infra.nomad.firewall import NomadFirewall
from infra.nomad.servers import Servers
from infra.nomad.store_program import StoreProgramUpload
from infra.settings import PROJECT, Settings


def address(settings: Settings, region: str) -> str:
    """Where the program reaches a region: known before it exists."""
    if settings.nomad.access == "direct":
        return f"https://{naming.nomad_balancer(settings, region)}:4646"
    return f"https://127.0.0.1:{settings.nomad.regions[region].local_port}"


class NomadRegion(pulumi.ComponentResource):
    """A Nomad region.

    Attributes:
        name: Its name.
        certificates: Its certificates.
        bootstrap_token: The token that its ACLs are bootstrapped with (secret).
        server_groups: The groups of one server each.
        client_groups: The groups of clients, by pool.
        client_service_account: What clients run as.
        ready: What must exist before a first request to Nomad makes sense.
    """

    name: str
    certificates: Certificates
    bootstrap_token: pulumi.Output[str]
    server_groups: list[pulumi.Resource]
    client_groups: dict[str, pulumi.Resource]
    client_service_account: serviceaccount.Account
    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        region: str,
        foundation: Foundation,
        secrets: NomadSecrets,
        store_program: StoreProgramUpload,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make it; `opts` has the providers of Google Cloud, random and tls.

        Args:
            name: The component's name.
            settings: The stack's settings.
            region: The region's name in them.
            foundation: What it stands on.
            secrets: What is shared by all regions.
            store_program: The store program, which is too.
            opts: Its options.
        """
        super().__init__(f"{PROJECT}:nomad:NomadRegion", name, None, opts)
        of = settings.nomad.regions[region]
        below = pulumi.ResourceOptions(parent=self, depends_on=[foundation.apis])
        self.name = region
        self.bootstrap_token = secrets.bootstrap_token
        self.client_service_account = secrets.accounts.of[region, "client"]

        balancer = compute.Address(
            f"{name}-balancer",
            name=f"mlops-nomad-{region}",
            description=f"Nomad's API in region {region}; used where nomad.access is direct, and in every certificate.",
            address_type="INTERNAL",
            address=naming.nomad_balancer(settings, region),
            region=of.region,
            subnetwork=foundation.network.subnets[of.region].id,
            labels=labels(settings, "nomad"),
            opts=below,
        )
        check = compute.HealthCheck(
            f"{name}-check",
            name=f"mlops-nomad-{region}",
            description="Whether an agent's port is open.",
            tcp_health_check=compute.HealthCheckTcpHealthCheckArgs(port=4646),
            check_interval_sec=30,
            timeout_sec=10,
            unhealthy_threshold=10,
            opts=below,
        )
        self.certificates = Certificates(
            f"{name}-certificates",
            settings=settings,
            region=region,
            balancer=naming.nomad_balancer(settings, region),
            foundation=foundation,
            secrets=secrets,
            opts=below,
        )
        firewall = NomadFirewall(
            f"{name}-firewall",
            settings=settings,
            region=region,
            foundation=foundation,
            accounts=secrets.accounts,
            opts=below,
        )
        after = [*secrets.ready, *self.certificates.ready, *firewall.rules]
        servers = Servers(
            f"{name}-servers",
            settings=settings,
            region=region,
            foundation=foundation,
            secrets=secrets,
            balancer=balancer,
            check=check,
            later=Later(region, address(settings, region), secrets.ca_pem, secrets.bootstrap_token),
            after=after,
            opts=below,
        )
        clients = Clients(
            f"{name}-clients",
            settings=settings,
            region=region,
            foundation=foundation,
            secrets=secrets,
            store_program=store_program,
            check=check,
            after=after,
            opts=below,
        )
        NomadAlerts(
            f"{name}-alerts",
            settings=settings,
            region=region,
            foundation=foundation,
            opts=pulumi.ResourceOptions(parent=self, depends_on=servers.groups),
        )
        self.server_groups = list(servers.groups)
        self.client_groups = dict(clients.groups)
        self.ready = [*servers.groups, *servers.entry, *firewall.rules]
        self.register_outputs({})
