"""The Pulumi program: what a stack provisions and registers. Composition only; the logic is in `infra`."""

from pathlib import Path

import pulumi

from infra import engines, providers, settings
from infra.workloads import pipelines
from infra.workloads.nomad_jobs import NomadJobs
from infra.workloads.workflow_templates import WorkflowTemplates

root = Path(__file__).parent

with settings.mistakes_told_plainly():
    stack = settings.from_pulumi()
    pipelines.check(root, stack)
    regions = clusters = None
    if stack.gcp:
        from infra.foundation.foundation import Foundation

        made_by = providers.provisioning(stack)
        foundation = Foundation("foundation", settings=stack, opts=pulumi.ResourceOptions(providers=made_by))
        below = pulumi.ResourceOptions(providers=made_by, depends_on=[foundation])
        if stack.kubernetes and stack.kubernetes.clusters:
            from infra.kubernetes.platform import KubernetesPlatform

            clusters = KubernetesPlatform("kubernetes", settings=stack, foundation=foundation, opts=below)
    for region in engines.nomads(stack, regions):
        nomad = region.provider
        after = pulumi.ResourceOptions(provider=nomad, depends_on=region.ready)
        jobs = NomadJobs(region.component("nomad-jobs"), root=root, settings=stack, opts=after)
        pulumi.export("nomad_jobs", jobs.ids)
    for cluster in engines.clusters(stack, clusters):
        after = pulumi.ResourceOptions(provider=cluster.provider, depends_on=cluster.ready)
        templates = WorkflowTemplates(
            cluster.component("workflow-templates"), root=root, settings=stack, cluster=cluster.name, opts=after
        )
        pulumi.export("workflow_templates", templates.names)
