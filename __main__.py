"""The Pulumi program: what a stack provisions and registers. Composition only; the logic is in `infra`."""

from pathlib import Path

import pulumi

from infra import providers, settings
from infra.workloads import pipelines
from infra.workloads.nomad_jobs import NomadJobs
from infra.workloads.workflow_templates import WorkflowTemplates

root = Path(__file__).parent

with settings.mistakes_told_plainly():
    stack = settings.from_pulumi()
    pipelines.check(root, stack)
    if stack.gcp:
        from infra.foundation.foundation import Foundation

        below = pulumi.ResourceOptions(providers=providers.provisioning(stack))
        foundation = Foundation("foundation", settings=stack, opts=below)
    nomad = providers.nomad(stack)
    kubernetes = providers.kubernetes(stack)
    jobs = NomadJobs(
        "nomad-jobs",
        root=root,
        settings=stack,
        opts=pulumi.ResourceOptions(provider=nomad),
    )
    pulumi.export("nomad_jobs", jobs.ids)
    if kubernetes:
        templates = WorkflowTemplates(
            "workflow-templates",
            root=root,
            settings=stack,
            opts=pulumi.ResourceOptions(provider=kubernetes),
        )
        pulumi.export("workflow_templates", templates.names)
