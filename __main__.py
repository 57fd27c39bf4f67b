"""The Pulumi program: what a stack provisions and registers. Composition only; the logic is in `infra`."""

from pathlib import Path

import pulumi

from infra import engines, next_steps, pipelines, providers, settings
from infra.workloads.nomad_jobs import NomadJobs
from infra.workloads.workflow_templates import WorkflowTemplates

root = Path(__file__).parent

with settings.mistakes_told_plainly():
    stack = settings.from_pulumi()
    pipelines.check(root, stack)
    regions = clusters = None
    if stack.gcp:
        from infra.foundation.foundation import Foundation
        from infra.kubernetes.platform import KubernetesPlatform
        from infra.nomad.platform import NomadPlatform

        made_by = providers.provisioning(stack)
        foundation = Foundation("foundation", settings=stack, opts=pulumi.ResourceOptions(providers=made_by))
        below = pulumi.ResourceOptions(providers=made_by, depends_on=[foundation])
        if stack.nomad.regions:
            regions = NomadPlatform("nomad", settings=stack, foundation=foundation, opts=below)
        if stack.kubernetes and stack.kubernetes.clusters:
            clusters = KubernetesPlatform("kubernetes", settings=stack, foundation=foundation, opts=below)
        if foundation.ci:
            pulumi.export("ci", foundation.ci.identities)
        pulumi.export("next_steps", next_steps.next_steps(pulumi.get_stack(), stack, root))
    for region in engines.nomads(stack, regions):
        nomad = region.provider
        jobs = NomadJobs(region.name, root=root, settings=stack, place=region.place, opts=region.options)
        pulumi.export("nomad_jobs", jobs.ids)
    for one in engines.clusters(stack, clusters):
        templates = WorkflowTemplates(one.name, root=root, settings=stack, cluster=one.cluster, opts=one.options)
        pulumi.export("workflow_templates", templates.names)
