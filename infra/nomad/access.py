"""Who may do what in Nomad: namespaces, node pools, ACL policies and roles.

Owns what is the same in all federated regions, and is kept in the authoritative one alone; Nomad copies it from there.
It deliberately makes no tokens: people are given theirs for a day, by docs/runbooks/reach-nomad.md.
"""

from collections.abc import Sequence

import pulumi
import pulumi_nomad

from infra.settings import PROJECT, Settings

NAMESPACE = "default"
"""The namespace of pipelines."""
PLATFORM = "platform"
"""The namespace of the platform's own jobs."""
_BUILT_IN = ("all", "default")

_SEE = '"list-jobs", "read-job", "read-logs"'
# `deregister-job` ends a run, without the right to submit a job of one's own (`submit-job`).
_DISPATCH = f'{_SEE}, "dispatch-job", "deregister-job"'


def rules(capabilities: str) -> str:
    """The rules of a policy, in HCL: capabilities in the namespace of pipelines, and to see what it runs on."""
    return f"""namespace "{NAMESPACE}" {{
  capabilities = [{capabilities}]
}}

node {{
  policy = "read"
}}

node_pool "*" {{
  policy = "read"
}}
"""


ROLES = {
    "reader": ("Sees runs and their logs.", rules(_SEE)),
    "dispatcher": ("Starts, sees and stops runs.", rules(_DISPATCH)),
}
"""Each role, with what it is for and the rules of its one policy."""


class Access(pulumi.ComponentResource):
    """Namespaces, node pools, policies and roles.

    Attributes:
        ready: All of them.
    """

    ready: list[pulumi.Resource]

    def __init__(
        self,
        name: str,
        *,
        settings: Settings,
        engine: pulumi.Resource,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Make them.

        Args:
            name: The component's name.
            settings: The stack's settings.
            engine: What they are gone with.
            opts: Its options; the provider of the authoritative region is among them.
        """
        super().__init__(f"{PROJECT}:nomad:Access", name, None, opts)
        below = pulumi.ResourceOptions(parent=self, deleted_with=engine)
        # Of the tasks' drivers only those with walls around a task.
        walled = pulumi_nomad.NamespaceCapabilitiesArgs(enabled_task_drivers=["docker", "exec"])
        self.ready = [
            pulumi_nomad.Namespace(
                f"{name}-{namespace}", name=namespace, description=description, capabilities=walled, opts=below
            )
            for namespace, description in {
                NAMESPACE: "Pipelines and their runs.",
                PLATFORM: "What the platform itself runs, such as what scales it.",
            }.items()
        ]
        # A job that names a pool which nobody registered is refused, and a pool's first client may come after the job.
        self.ready += [
            pulumi_nomad.NodePool(f"{name}-{pool}", name=pool, description=f"Clients of the pool {pool}.", opts=below)
            for pool in _pools(settings)
        ]
        for role, (description, text) in ROLES.items():
            policy = pulumi_nomad.AclPolicy(
                f"{name}-{role}-policy", name=role, description=description, rules_hcl=text, opts=below
            )
            self.ready += [
                policy,
                pulumi_nomad.AclRole(
                    f"{name}-{role}",
                    name=role,
                    description=description,
                    policies=[pulumi_nomad.AclRolePolicyArgs(name=policy.name)],
                    opts=below,
                ),
            ]
        self.register_outputs({})


def _pools(settings: Settings) -> Sequence[str]:
    named = {pool for region in settings.nomad.regions.values() for pool in region.pools}
    return sorted(named.difference(_BUILT_IN))
