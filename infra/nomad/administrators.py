"""Who may open tunnels to Nomad's machines and log in to them: `gcp.administrators`, and nobody else but owners.

Owns what Google Cloud lets them do. What they may do in Nomad is said by a token of its own, which this gives nobody.
"""

import pulumi
from pulumi_gcp import projects, secretmanager, serviceaccount

from infra import naming
from infra.nomad.accounts import Role, account_id
from infra.settings import PROJECT, Settings

_PORTS = (22, 4646)


class Administrators(pulumi.ComponentResource):
    """What administrators may do with machines of Nomad.

    To find machines, to reach two ports of them through Identity-Aware Proxy, to log in by OS Login, and to know
    Nomad's certificate.
    """

    def __init__(self, name: str, *, settings: Settings, opts: pulumi.ResourceOptions | None = None) -> None:
        """Grant it; `opts` has the provider of Google Cloud, and depends on the machines' accounts and secrets."""
        super().__init__(f"{PROJECT}:nomad:Administrators", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        project = settings.gcp.project
        below = pulumi.ResourceOptions(parent=self)
        roles: tuple[Role, ...] = ("server", "client")
        for member in settings.gcp.administrators:
            of = f"{name}-{member}"
            for role in ("roles/compute.viewer", "roles/compute.osAdminLogin"):
                projects.IAMMember(
                    f"{of}-{role.rpartition('.')[2]}", project=project, role=role, member=member, opts=below
                )
            projects.IAMMember(
                f"{of}-tunnel",
                project=project,
                role="roles/iap.tunnelResourceAccessor",
                member=member,
                condition=projects.IAMMemberConditionArgs(
                    title="SSH and Nomad",
                    expression=" || ".join(f"destination.port == {port}" for port in _PORTS),
                ),
                opts=below,
            )
            secretmanager.SecretIamMember(
                f"{of}-ca",
                project=project,
                secret_id=naming.NOMAD_CA_SECRET,
                role="roles/secretmanager.secretAccessor",
                member=member,
                opts=below,
            )
            # Whoever is root on a machine is what the machine runs as, so OS Login asks for the right to be that.
            for region in settings.nomad.regions:
                for role in roles:
                    email = f"{account_id(region, role)}@{project}.iam.gserviceaccount.com"
                    serviceaccount.IAMMember(
                        f"{of}-{region}-{role}",
                        service_account_id=f"projects/{project}/serviceAccounts/{email}",
                        role="roles/iam.serviceAccountUser",
                        member=member,
                        opts=below,
                    )
        self.register_outputs({})
