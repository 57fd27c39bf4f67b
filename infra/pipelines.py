"""The pipelines of a checkout: which folder of `jobs/` goes to which engine, and whether a stack's settings fit it.

Owns finding them. It deliberately reads none of their definitions: that is `nomad_jobs` and `workflow_templates`.
"""

from pathlib import Path

from infra import naming
from infra.settings import PROJECT, Settings, SettingsError

NOMAD = "job.nomad.hcl"
"""The file of a pipeline that is a Nomad job."""
ARGO = "templates.py"
"""The file of a pipeline that is workflow templates."""


def files(root: Path, name: str) -> list[Path]:
    """Every pipeline's file of that name, in the order of their folders."""
    return sorted((root / "jobs").glob(f"*/{name}"))


def check(root: Path, settings: Settings) -> None:
    """Hold what a stack sets for pipelines to those that there are.

    Raises:
        SettingsError: Something would do nothing.
    """
    ids = {name: [naming.job_id(file.parent.name) for file in files(root, name)] for name in (NOMAD, ARGO)}
    for job_id, job in sorted(settings.jobs.items()):
        path = f"{PROJECT}:jobs.{job_id}"
        if job_id not in ids[NOMAD] + ids[ARGO]:
            raise SettingsError(
                f"{path}: there is no such job under jobs/, so it would do nothing; remove it, or use one of: "
                f"{', '.join(sorted(ids[NOMAD] + ids[ARGO]))}"
            )
        if job_id not in ids[ARGO] and job.resources:
            raise SettingsError(
                f"{path}.resources: a Nomad job has its sizes in HCL variables, so this would do nothing; set "
                f"{path}.variables instead"
            )
        if job_id not in ids[NOMAD] and "count" in job.model_fields_set:
            raise SettingsError(f"{path}.count: only Nomad jobs have a count, so it would do nothing; remove it")
        if job_id not in ids[NOMAD] and settings.kubernetes is None:
            raise SettingsError(
                f"{path}: its workflow templates are registered on stacks with {PROJECT}:kubernetes only, so it would "
                "do nothing; add that, or remove this"
            )
