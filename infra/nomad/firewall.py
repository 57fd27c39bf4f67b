"""Who may reach Nomad's machines, by service account: the VPC refuses all else.

Nothing is open to the internet. People come through Identity-Aware Proxy, which asks who they are, or from inside the
VPC.
"""

import pulumi
from pulumi_gcp import compute

from infra.foundation.foundation import Foundation
from infra.nomad.accounts import NomadAccounts
from infra.settings import PROJECT, Settings

# https://cloud.google.com/iap/docs/using-tcp-forwarding
_IAP = ["35.235.240.0/20"]
# https://cloud.google.com/load-balancing/docs/health-check-concepts
_PROBES = ["35.191.0.0/16", "130.211.0.0/22"]


class NomadFirewall(pulumi.ComponentResource):
    """The rules for the machines of one Nomad region.

    Attributes:
        rules: All of them.
    """

    rules: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        region: str,
        foundation: Foundation,
        accounts: NomadAccounts,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:nomad:NomadFirewall", name, None, opts)
        server, client = accounts.of[region, "server"].email, accounts.of[region, "client"].email
        others = [accounts.of[other, "server"].email for other in settings.nomad.regions if other != region]
        self.rules = []

        def rule(
            what: str,
            description: str,
            ports: list[str],
            to: list[pulumi.Output[str]],
            *,
            accounts: list[pulumi.Output[str]] | None = None,
            ranges: list[str] | None = None,
            udp: list[str] | None = None,
        ) -> None:
            allows = [compute.FirewallAllowArgs(protocol="tcp", ports=ports)]
            if udp:
                allows.append(compute.FirewallAllowArgs(protocol="udp", ports=udp))
            self.rules.append(
                compute.Firewall(
                    f"{name}-{what}",
                    name=f"mlops-nomad-{region}-{what}",
                    description=description,
                    network=foundation.network.id,
                    direction="INGRESS",
                    allows=allows,
                    source_ranges=ranges,
                    source_service_accounts=accounts,
                    target_service_accounts=to,
                    opts=pulumi.ResourceOptions(parent=self),
                )
            )

        both = [server, client]
        rule(
            "members",
            "Servers and clients of the region: HTTP, RPC and gossip.",
            ["4646-4648"],
            both,
            accounts=both,
            udp=["4648"],
        )
        if others:
            rule(
                "federation",
                "Servers of other regions: HTTP, RPC and gossip.",
                ["4646-4648"],
                [server],
                accounts=others,
                udp=["4648"],
            )
        rule("ssh", "Administrators, through Identity-Aware Proxy.", ["22"], both, ranges=_IAP)
        rule("tunnel", "Nomad's API, through Identity-Aware Proxy.", ["4646"], [server], ranges=_IAP)
        rule("probes", "Google's health checks.", ["4646"], both, ranges=_PROBES)
        if settings.nomad.access == "direct" and settings.network:
            nodes = [subnet.nodes for subnet in settings.network.subnets.values()]
            rule("direct", "Nomad's API, from inside the VPC.", ["4646"], [server], ranges=nodes)
        self.register_outputs({})
