"""The kinds of values that settings are made of: texts with a form, and the model that all settings share."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, StringConstraints, Tag

from definitions.scalars import as_text


class SettingsError(Exception):
    """What a stack file says cannot be used; the message has one line a mistake."""


class Model(BaseModel):
    """A part of the settings: frozen, and without room for a key that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _variable(value: object) -> object:
    if isinstance(value, bool | int | float | str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    ):
        return value
    raise ValueError("should be text, a number, true, false, or a list of texts")


# Which of two forms a value has; no key of a stack file reads so, and no message shows it.
NUMBER, MAP = Tag("(number)"), Tag("(map)")
NUMBER_OR_MAP = Discriminator(lambda value: MAP.tag if isinstance(value, Mapping | BaseModel) else NUMBER.tag)
"""A mistake in a value of one form is told of that form alone."""


def from_outside(*, stand_in: str, description: str) -> Any:
    """A required setting that only its owner can know, such as a project's number.

    Args:
        stand_in: What takes its place where a stack is read without Pulumi, to be planned, tested or run on one
            machine: obviously no real value. Pulumi itself refuses a stack without the setting.
        description: What it is, and the command or page that tells it.
    """
    return Field(description=description, json_schema_extra={"x-stand-in": stand_in})


Text = Annotated[str, BeforeValidator(as_text)]
"""A parameter of a run is text on every way it takes; `reading` refuses a number whose text is not the one written."""
BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$")]
VariableValue = Annotated[bool | int | float | str | list[str], BeforeValidator(_variable)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
StepName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
Url = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@]+$")]
Port = Annotated[int, Field(ge=1024, le=65535)]

# Kubernetes' names: a label of DNS, a key of a label, a label's value, a quantity.
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
LabelKey = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
Cpu = Annotated[str, StringConstraints(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$"), BeforeValidator(as_text)]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*([KMGT]i|[kmgtKMGT])$")]

# Google Cloud's. A name of a resource that others are named after is kept short: 63 characters are all there are.
ProjectId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{4,28}[a-z0-9]$")]
ProjectNumber = Annotated[str, StringConstraints(pattern=r"^[0-9]{6,19}$"), BeforeValidator(as_text)]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]+-[a-z]+[0-9]+$")]
Zone = Annotated[str, StringConstraints(pattern=r"^[a-z]+-[a-z]+[0-9]+-[a-z]$")]
ShortName = Annotated[str, StringConstraints(pattern=r"^[a-z]([a-z0-9-]{0,18}[a-z0-9])?$")]
CloudLabelValue = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{0,63}$")]
Cidr = Annotated[str, StringConstraints(pattern=r"^[0-9]{1,3}(\.[0-9]{1,3}){3}/[0-9]{1,2}$")]
MachineType = Annotated[str, StringConstraints(pattern=r"^n1-(standard|highmem|highcpu)-[0-9]+$")]
CpuPlatform = Annotated[str, StringConstraints(pattern=r"^Intel (Skylake|Broadwell|Haswell)$")]
Member = Annotated[
    str, StringConstraints(pattern=r"^(user|group|serviceAccount):[^\s@:]+@[^\s@:]+$|^principal(Set)?://[^\s]+$")
]
Email = Annotated[str, StringConstraints(pattern=r"^[^\s@]+@[^\s@]+\.[^\s@]+$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
