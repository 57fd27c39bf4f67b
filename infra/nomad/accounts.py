"""The identities of Nomad's machines: a service account a role and region, with the least that its boot script needs.

Owns the accounts, and the role by which agents find the servers. What an account may do with a secret, a key or a
bucket stands beside that. No key file is ever made.
"""

import hashlib
from typing import Literal

import pulumi
import pulumi_random
from pulumi_gcp import projects, serviceaccount

from infra.settings import PROJECT, Settings

Role = Literal["server", "client"]


def account_id(region: str, role: Role) -> str:
    """The name of an account; Google allows 30 characters."""
    name = f"mlops-nomad-{region}-{role}"
    return name if len(name) <= 30 else f"{name[:23]}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


class NomadAccounts(pulumi.ComponentResource):
    """The identities of the machines of all Nomad regions.

    Attributes:
        of: An account, by its region and role.
        discover: Name of the role to list machines, by which go-discover finds servers.
        ready: Grants that a machine needs when it starts.
    """

    of: dict[tuple[str, Role], serviceaccount.Account]
    discover: pulumi.Output[str]
    ready: list[pulumi.Resource]

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make them; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:nomad:NomadAccounts", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        project = settings.gcp.project
        below = pulumi.ResourceOptions(parent=self)
        # The id of a deleted role stays taken for 37 days.
        suffix = pulumi_random.RandomId(f"{name}-suffix", byte_length=3, opts=below)
        role = projects.IAMCustomRole(
            f"{name}-discover",
            role_id=pulumi.Output.concat("mlopsNomadDiscover_", suffix.hex),
            title="mlops: find Nomad's servers",
            description="Lists the project's machines and zones, for go-discover and Prometheus.",
            project=project,
            permissions=["compute.instances.list", "compute.zones.list"],
            opts=below,
        )
        self.discover = role.name
        self.of, self.ready = {}, []
        roles: tuple[Role, ...] = ("server", "client")
        for region in settings.nomad.regions:
            for kind in roles:
                account = serviceaccount.Account(
                    f"{name}-{region}-{kind}",
                    account_id=account_id(region, kind),
                    display_name=f"Nomad {kind}s of region {region}",
                    description=f"What the {kind}s of the Nomad region {region} run as.",
                    project=project,
                    opts=below,
                )
                self.of[region, kind] = account
                self.ready.append(
                    projects.IAMMember(
                        f"{name}-{region}-{kind}-discover",
                        project=project,
                        role=role.name,
                        member=account.member,
                        opts=below,
                    )
                )
        self.register_outputs({})
