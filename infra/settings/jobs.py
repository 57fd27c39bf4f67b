"""Settings of what runs: images, and what a stack sets for a job."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from infra.settings.fields import Cpu, Memory, Model, StepName, Text, VariableName, VariableValue


class ImageSettings(Model):
    """Where container images are pulled from."""

    repository: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:/-]*[a-z0-9]$")] | None = Field(
        default=None,
        description="Repository that image names begin with, such as europe-docker.pkg.dev/project/images; without "
        "one, the stack's own in Artifact Registry, beside `gcp`.",
    )


class ResourceSettings(Model):
    """What a pod asks for."""

    cpu: Cpu = Field(description="Cores, such as 2 or 500m.")
    memory: Memory = Field(description="Memory, such as 2Gi; for Spark as Spark writes it, such as 2g.")


class JobSettings(Model):
    """What a stack sets for one job."""

    count: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Allocations of one dispatch; each stores its own version. Without it, the job file's default.",
    )
    variables: Mapping[VariableName, VariableValue] = Field(
        default={},
        description="Values of the jobspec's HCL variables, beside `count` and `image_*`, which the program sets; for "
        "workflow templates of what their context.py lets a stack choose, such as `schedules`.",
    )
    resources: Mapping[StepName, ResourceSettings] = Field(
        default={},
        description="What the pods of a workflow's steps ask for, by step; a step without an entry has its default.",
    )
    parameters: Mapping[VariableName, Text] = Field(
        default={}, description="This stack's defaults for parameters of a run (jobs/<name>/parameters.yaml)."
    )
