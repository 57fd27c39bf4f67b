"""The inventory: everything that a stack registers, as data that policies, plans and the embedded engine read.

Owns its form; it deliberately knows no resource type.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

UNKNOWN = "[unknown]"
"""Stands for a value that is known only after the resource exists."""
SECRET = "[secret]"  # noqa: S105  a marker
"""Stands for a value that is marked secret; the value itself is nowhere in an inventory."""


class Model(BaseModel):
    """What is read out of an inventory, or is one: no field more, none changed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Resource(Model):
    """One registered resource, as the program sent it."""

    type: str = Field(description="Type token, such as nomad:index/job:Job.")
    name: str = Field(description="Logical name.")
    urn: str = Field(description="URN, as Pulumi's engine would compose it.")
    custom: bool = Field(description="Whether a provider manages it; false for a component.")
    inputs: dict[str, Any] = Field(description="What the program sets; unknown and secret values are marked.")
    outputs: dict[str, Any] = Field(
        description="What the program is answered, inputs included; in a preview the rest is unknown."
    )
    parent: str | None = Field(
        default=None, description="The parent's URN; none for a resource directly below the stack."
    )
    provider: str | None = Field(default=None, description="The provider's URN; none for a component.")
    dependencies: list[str] = Field(default=[], description="URNs that it depends on, in any way.")
    property_dependencies: dict[str, list[str]] = Field(default={}, description="URNs that each input comes from.")
    protect: bool = Field(default=False, description="Whether Pulumi refuses to delete it.")
    retain_on_delete: bool = Field(default=False, description="Whether a delete only forgets it.")
    delete_before_replace: bool = Field(default=False, description="Whether a replacement deletes first.")
    deleted_with: str | None = Field(default=None, description="The URN whose deletion deletes it too.")
    import_id: str | None = Field(default=None, description="The physical id that it is adopted by.")
    aliases: list[str] = Field(default=[], description="URNs, or earlier names, that it is the successor of.")
    ignore_changes: list[str] = Field(default=[], description="Inputs whose changes are ignored.")
    replace_on_changes: list[str] = Field(default=[], description="Inputs whose changes replace it.")
    additional_secret_outputs: list[str] = Field(
        default=[], description="Outputs that are secret beside the provider's."
    )
    hooks: dict[str, list[str]] = Field(default={}, description="Resource hooks, by the step that they run at.")
    version: str | None = Field(default=None, description="The provider's pinned version.")


class Inventory(Model):
    """Everything that one run of the program registered."""

    stack: str = Field(description="The stack's name.")
    mode: Literal["preview", "update"] = Field(description="preview: computed outputs are unknown; update: made up.")
    resources: list[Resource] = Field(description="In the order of registration.")
    outputs: dict[str, Any] = Field(description="The stack's outputs.")

    def of_type(self, type_token: str) -> list[Resource]:
        """All resources of one type."""
        return [resource for resource in self.resources if resource.type == type_token]
