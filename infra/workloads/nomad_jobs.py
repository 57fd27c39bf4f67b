"""The Nomad jobs: every `jobs/*/job.nomad.hcl`, registered as it is written.

Owns which jobs there are, the values of their HCL variables, and what stands beside a job: Salesforce's credentials,
and in a Nomad that the stack provisions what its tasks may do in Google Cloud. It deliberately renders nothing: jobspec
and variables go to Nomad as known text, so that a preview shows them, Nomad keeps the source, and the embedded engine
runs the same. Runs are dispatched by people and never managed here; no credential is in a jobspec.
"""

import difflib
from functools import cache
from pathlib import Path
from typing import Any

import pulumi
import pulumi_nomad

from definitions.nomad import jobspec
from infra import images, naming, pipelines
from infra.nomad import job_fit
from infra.nomad.place import Place
from infra.settings import PROJECT, JobSettings, Settings, SettingsError
from infra.workloads import identities


class NomadJobs(pulumi.ComponentResource):
    """Every Nomad job of a checkout.

    Attributes:
        ids: The jobs' ids.
    """

    ids: list[str]

    def __init__(
        self,
        name: str,
        *,
        root: Path,
        settings: Settings,
        place: Place | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Register the jobs.

        Args:
            name: The component's name.
            root: The checkout, with its `jobs/` and `images/`.
            settings: The stack's settings.
            place: Where, in a Nomad that the stack provisions; its `options()` are then `opts`.
            opts: Its options; the provider of Nomad is among them.

        Raises:
            SettingsError: A job and the stack's settings do not go together. Nothing is registered then.
        """
        files = pipelines.files(root, pipelines.NOMAD)
        jobs = [_job(file, root, settings) for file in files]
        tasks = {spec.id: identities.tasks(spec, settings) for spec, _, _ in jobs} if place else {}

        super().__init__(f"{PROJECT}:workloads:NomadJobs", name, None, opts)
        self.ids = [spec.id for spec, _, _ in jobs]
        for spec, text, values in jobs:
            # In one region a job has its own name, and in several they must differ.
            own = f"{place.region}-{spec.id}" if place else spec.id
            engine = place.engine if place else None
            below = pulumi.ResourceOptions(parent=self, deleted_with=engine)
            first: list[pulumi.Resource] = []
            if settings.salesforce and _SALESFORCE in text:
                given = settings.salesforce.model_dump()
                credentials = {f"salesforce_{key}": value.get_secret_value() for key, value in given.items()}
                first.append(
                    pulumi_nomad.Variable(
                        f"{own}-salesforce",
                        path=f"nomad/jobs/{spec.id}",
                        items=pulumi.Output.secret(credentials),
                        opts=below,
                    )
                )
            if place:
                first += identities.make(own, tasks[spec.id], place, below)
            pulumi_nomad.Job(
                own,
                jobspec=text,
                hcl2={"vars": values},
                # Nomad never collects a stopped parameterized job (hashicorp/nomad#2247): unpurged it would stay.
                purge_on_destroy=True,
                # A parameterized job places nothing by itself, so there is nothing that Nomad could be waited for.
                detach=True,
                opts=pulumi.ResourceOptions(
                    parent=self,
                    depends_on=first,
                    deleted_with=engine,
                    hooks=pulumi.ResourceHookBinding(before_delete=[place.drain]) if place else None,
                ),
            )
        self.register_outputs({"ids": self.ids})


_image = cache(images.name)
"""An image's name, worked out once: jobs and regions share images, and the hash is of every file in one."""
_SALESFORCE = "salesforce_client_id"
"""The key of a Nomad Variable by which a job says that it reads Salesforce."""


def _job(file: Path, root: Path, settings: Settings) -> tuple[jobspec.Jobspec, str, dict[str, str]]:
    origin = str(file.relative_to(root))
    text = file.read_text(encoding="utf-8")
    try:
        spec = jobspec.parse(text, origin)
        expected = naming.job_id(file.parent.name)
        if spec.id != expected:
            raise SettingsError(
                f"{origin}: the job's id is {spec.id!r}, so its folder's settings and parameters would not be found; "
                f"name it {expected!r}"
            )
        values = _values(spec, settings, origin, root)
    except (jobspec.JobspecError, images.ImageError) as error:
        raise SettingsError(str(error)) from None
    job_fit.check(spec, settings)
    return spec, text, values


def _values(spec: jobspec.Jobspec, settings: Settings, origin: str, root: Path) -> dict[str, str]:
    job = settings.jobs.get(spec.id, JobSettings())
    path = f"{PROJECT}:jobs.{spec.id}"
    given: dict[str, Any] = dict(job.variables)
    for name in given:
        if name == "count" or name.startswith("image_"):
            fix = f"set {path}.count" if name == "count" else "change the image's folder"
            raise SettingsError(f"{path}.variables.{name}: the program sets it, so this would be lost; {fix} instead")
        if name not in spec.variables:
            near = difflib.get_close_matches(name, spec.variables, 1)
            fix = f"did you mean {near[0]!r}?" if near else f"it declares: {', '.join(spec.variables)}"
            raise SettingsError(
                f"{path}.variables.{name}: {origin} declares no such variable, so it would do nothing; {fix}"
            )
    if job.count is not None:
        if "count" in spec.variables:
            given["count"] = job.count
        else:
            raise SettingsError(f"{path}.count: {origin} declares no variable count, so it would do nothing; remove it")
    given |= _images(spec, settings, origin, root)

    values = {}
    for name, variable in spec.variables.items():
        if name not in given:
            if variable.required:
                raise SettingsError(
                    f"{path}.variables.{name}: is missing and has no default in {origin}, so the job cannot be "
                    f"registered; add it ({variable.description})"
                )
            continue
        value = variable.text(given[name])
        if value is None:
            raise SettingsError(
                f"{path}.variables.{name}: is {given[name]!r}, not of the type {variable.type}, so the job cannot be "
                f"registered; correct it ({variable.description})"
            )
        values[name] = value
    return values


def _images(spec: jobspec.Jobspec, settings: Settings, origin: str, root: Path) -> dict[str, str]:
    folders = {naming.image_variable(path.name): path.name for path in (root / "images").glob("*") if path.is_dir()}
    names = {}
    for variable in spec.variables:
        if not variable.startswith("image_"):
            continue
        if variable not in folders:
            raise SettingsError(
                f"{origin}: variable {variable} names no folder under images/, so the job has no image; "
                f"there are: {', '.join(sorted(folders))}"
            )
        names[variable] = _image(root, folders[variable], naming.image_repository(settings))
    return names
