"""The Pulumi program: what a stack provisions and registers. Composition only; the logic is in `infra`."""

from pathlib import Path

import pulumi

from infra import providers, settings
from infra.workloads.nomad_jobs import NomadJobs

with settings.mistakes_told_plainly():
    stack = settings.from_pulumi()
    nomad = providers.nomad(stack)
    jobs = NomadJobs(
        "nomad-jobs",
        root=Path(__file__).parent,
        settings=stack,
        opts=pulumi.ResourceOptions(provider=nomad),
    )

pulumi.export("nomad_jobs", jobs.ids)
