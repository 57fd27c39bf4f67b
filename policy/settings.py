"""A stack's policies: levels, parameters and exemptions, from `policy/stacks/<stack>.yaml`.

They are not in the stack's own file, so that a repository can give them other owners than the settings that they judge.
"""

import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from definitions import documents
from inventory.recorder import PlanError
from mlops_registry.text import printable

FOLDER = Path(__file__).parent / "stacks"

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
Sentence = Annotated[str, StringConstraints(strip_whitespace=True, min_length=10, max_length=300)]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameters(_Settings):
    """What rules compare with."""

    vcpu_cap: int = Field(default=100, gt=0, description="So many vCPUs a stack may have at the most, all pools full.")
    idle_vcpu_cap: int = Field(default=8, ge=0, description="So many vCPUs a stack may have when nothing is to do.")
    always_on: list[Name] = Field(default=["system"], description="Pools that may keep machines with nothing to do.")
    budget_cap: int = Field(
        default=500, gt=0, description="The largest monthly budget, in the billing account's money."
    )
    data_retention_days: int = Field(
        default=0, ge=0, description="So many days nothing in the bucket `data` may be deleted or replaced."
    )
    zones: int = Field(default=1, ge=1, description="So many zones machines are spread over.")
    protect: bool = Field(default=True, description="Whether what holds data is protected; false for a stack on trial.")
    image_registries: list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9.:-]+/([a-z0-9._-]+/)*$")]] = Field(
        default=[],
        description="What names of images may begin with, beside the stack's own repositories: `ghcr.io/owner/`.",
    )
    schedule_minutes: int = Field(
        default=60, gt=0, description="So many minutes are between two runs of a schedule at the least."
    )
    versions_cap: int = Field(default=10, gt=0, description="So many versions one dispatch makes at the most.")
    token_hours: int = Field(default=24, gt=0, description="So many hours a task's token for others holds at the most.")
    credential_hosts: list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+(\.[a-z0-9-]+)*$")]] = Field(
        default=["salesforce.com"],
        description="Hosts that a job may send credentials to, and whatever is below their names.",
    )


class Exemption(_Settings):
    """A resource that may break a rule for a while."""

    rule: Name = Field(description="The rule's id.")
    resource: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="The resource's logical name; `stack` for a rule that looks at the whole stack."
    )
    reason: Sentence = Field(description="Why it has to, for the next reader.")
    until: datetime.date = Field(description="The last day that it holds; after it the rule and the exemption fail.")


class PolicySettings(_Settings):
    """What one stack sets about policies."""

    levels: dict[Name, Literal["mandatory", "advisory", "disabled"]] = Field(
        default={}, description="Levels other than the rules' own, by rule id."
    )
    parameters: Parameters = Field(default_factory=Parameters, description="What rules compare with.")
    exemptions: list[Exemption] = Field(default=[], description="Resources that may break a rule for a while.")


class PolicyError(PlanError):
    """The policies of a stack cannot be applied; the message says why, a line each problem."""


def load(stack: str, folder: Path = FOLDER) -> PolicySettings:
    """A stack's policy settings; a stack without a file has the rules as they are.

    Raises:
        PolicyError: The file cannot be used.
    """
    path = folder / f"{stack}.yaml"
    name = f"policy/stacks/{path.name}"
    if not path.exists():
        return PolicySettings()
    try:
        document: Any = documents.load(path.read_text(encoding="utf-8"))
    except documents.DocumentError as error:
        raise PolicyError(f"{name}: {error.problem}, so no policy was applied; {error.fix}") from None
    except (UnicodeDecodeError, OSError) as error:
        raise PolicyError(f"{name}: cannot be read, so no policy was applied; correct it: {error}") from None
    try:
        return PolicySettings.model_validate({} if document is None else document)
    except ValidationError as error:
        lines = [
            f"{name}: {'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}, so no policy was applied; mend it"
            for each in error.errors()
        ]
        raise PolicyError("\n".join(printable(line) for line in lines)) from None
