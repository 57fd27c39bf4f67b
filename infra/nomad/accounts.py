"""The identities of Nomad's machines: a service account a role and region, with the least that its boot script needs.

Owns the accounts, and the role by which agents find the servers. What an account may do with a secret, a key or a
bucket stands beside that. No key file is ever made.
"""

import hashlib
from typing import Literal

import pulumi
import pulumi_random
from pulumi_gcp import projects, serviceaccount

from infra import outputs
from infra.foundation.ci import may_run_as
from infra.settings import PROJECT, Settings
from infra.settings.nomad import ScalingSettings

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
        scale: Name of the role to resize groups of machines; None where no pool scales.
        ready: Grants that a machine needs when it starts.
    """

    of: dict[tuple[str, Role], serviceaccount.Account]
    discover: pulumi.Output[str]
    scale: pulumi.Output[str] | None
    ready: list[pulumi.Resource]

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Make them; `opts` has the provider of Google Cloud."""
        super().__init__(f"{PROJECT}:nomad:NomadAccounts", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        project = settings.gcp.project
        below = pulumi.ResourceOptions(parent=self)
        # The id of a deleted role stays taken for 37 days.
        suffix = pulumi_random.RandomId(f"{name}-suffix", byte_length=3, opts=below)

        def role(what: str, title: str, description: str, *permissions: str) -> projects.IAMCustomRole:
            return projects.IAMCustomRole(
                f"{name}-{what}",
                role_id=outputs.concat(f"mlopsNomad{what.capitalize()}_", suffix.hex),
                title=title,
                description=description,
                project=project,
                permissions=list(permissions),
                opts=below,
            )

        self.discover = role(
            "discover",
            "mlops: find Nomad's servers",
            "Lists the project's machines and zones, for go-discover and Prometheus.",
            "compute.instances.list",
            "compute.zones.list",
        ).name
        self.scale = None
        if any(
            isinstance(pool.size, ScalingSettings)
            for of in settings.nomad.regions.values()
            for pool in of.pools.values()
        ):
            # What resizing a group takes beside the group: Google makes and removes machines in the caller's name.
            self.scale = role(
                "scale",
                "mlops: scale Nomad's clients",
                "Resizes groups of machines and deletes machines out of them, for Nomad Autoscaler.",
                "compute.instanceGroupManagers.get",
                "compute.instanceGroupManagers.update",
                "compute.instances.delete",
                "compute.instances.get",
            ).name
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
                self.ready += may_run_as(f"{name}-{region}-{kind}", account, settings, below)
                self.ready.append(
                    projects.IAMMember(
                        f"{name}-{region}-{kind}-discover",
                        project=project,
                        role=self.discover,
                        member=account.member,
                        opts=below,
                    )
                )
            # For what files/report.sh tells.
            self.ready.append(
                projects.IAMMember(
                    f"{name}-{region}-server-reports",
                    project=project,
                    role="roles/monitoring.metricWriter",
                    member=self.of[region, "server"].member,
                    opts=below,
                )
            )
        self.register_outputs({})
