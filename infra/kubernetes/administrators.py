"""Who may look into the clusters and mend what runs there: `gcp.administrators`, and nobody else but owners.

Owns one role, for all clusters of the project, which is one stack's. It is IAM's and not RBAC's: a binding in a cluster
names a group only where the organisation has set up Google Groups for RBAC, and IAM knows groups anyway. What the
program itself registers is not theirs to change, and no Secret is theirs to read.
"""

import pulumi
import pulumi_random
from pulumi_gcp import projects

from infra import outputs
from infra.foundation.foundation import Foundation
from infra.settings import PROJECT, Settings

PERMISSIONS = (
    # The DNS endpoint asks for `connect`; `gcloud container clusters get-credentials` for `get`.
    "container.clusters.connect",
    "container.clusters.get",
    "container.clusters.list",
    # What runs where, and why something does not.
    "container.events.get",
    "container.events.list",
    "container.namespaces.get",
    "container.namespaces.list",
    "container.nodes.get",
    "container.nodes.list",
    "container.pods.get",
    "container.pods.getLogs",
    "container.pods.list",
    # `kubectl port-forward service/...`, the only way to Argo Server.
    "container.pods.portForward",
    "container.services.get",
    "container.services.list",
    # Whatever has a CRD: workflows to start, stop and delete, schedules to suspend, SparkApplications.
    "container.thirdPartyObjects.create",
    "container.thirdPartyObjects.delete",
    "container.thirdPartyObjects.get",
    "container.thirdPartyObjects.list",
    "container.thirdPartyObjects.update",
)
"""Of https://cloud.google.com/iam/docs/roles-permissions/container: what the runbooks of clusters need of people."""


class ClusterAdministrators(pulumi.ComponentResource):
    """What administrators may do in the clusters: reach them, see what runs, and start and end runs."""

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        foundation: Foundation,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Grant it.

        Args:
            name: The component's name.
            settings: The stack's settings.
            foundation: Its APIs, which come first.
            opts: Its options; the provider of Google Cloud is among them.
        """
        super().__init__(f"{PROJECT}:kubernetes:ClusterAdministrators", name, None, opts)
        assert settings.gcp, "the settings were checked"  # noqa: S101
        project, administrators = settings.gcp.project, settings.gcp.administrators
        below = pulumi.ResourceOptions(parent=self, depends_on=[foundation])
        if administrators:
            # The id of a deleted role stays taken for 37 days.
            suffix = pulumi_random.RandomId(f"{name}-suffix", byte_length=3, opts=below)
            role = projects.IAMCustomRole(
                f"{name}-role",
                role_id=outputs.concat("mlopsClusterAdministrator_", suffix.hex),
                title="mlops: administer what runs in clusters",
                description="Connects to clusters, sees what runs, forwards ports, starts and ends runs.",
                project=project,
                permissions=list(PERMISSIONS),
                opts=below,
            )
            for member in administrators:
                projects.IAMMember(f"{name}-{member}", project=project, role=role.name, member=member, opts=below)
        self.register_outputs({})
