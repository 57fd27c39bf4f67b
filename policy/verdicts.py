"""What rules say of a stack, as a plan shows it, and which of it a change brings or ends.

Owns the records alone. It deliberately knows no rule: whoever asks for a plan hands over what judges a stack.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from inventory.resources import Inventory

Level: TypeAlias = Literal["mandatory", "advisory", "disabled"]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Verdict(_Model):
    """What a rule says of one part of a stack, where it is not a pass."""

    rule: str = Field(description="The rule's id.")
    level: Literal["mandatory", "advisory"] = Field(description="What follows.")
    state: Literal["violated", "not decided", "exempt"] = Field(description="Broken, not known yet, or excused.")
    resource: str = Field(description="The resource's logical name; `stack` for the stack itself.")
    urn: str | None = Field(description="The resource's URN; None for the stack itself.")
    where: str = Field(description="Where inside of it; empty for the resource itself.")
    message: str = Field(description="What is wrong, or which value is not known.")
    fix: str = Field(description="What to do.")


class Policies(_Model):
    """What all rules say of a stack."""

    levels: dict[str, Level] = Field(description="The level of each rule in this stack.")
    verdicts: list[Verdict] = Field(description="What is broken, not decided or exempt; mandatory ones first.")

    @property
    def broken(self) -> list[Verdict]:
        """What keeps the stack from being deployed."""
        return [one for one in self.verdicts if one.level == "mandatory" and one.state == "violated"]


class PolicyChange(_Model):
    """What of that is another than before."""

    new: list[Verdict] = Field(description="Verdicts that there were not.")
    gone: list[Verdict] = Field(description="Verdicts that there are no more.")
    unchanged: int = Field(description="How many are as before.")
    levels: dict[str, tuple[Level, Level]] = Field(description="Rules that have another level: before and after.")


Judge: TypeAlias = Callable[[Path, Inventory], Policies]
"""Judges a stack by the policy settings of a checkout; it raises PlanError if they cannot be used."""


def policy_change(old: Policies, new: Policies) -> PolicyChange:
    """What changes from one judgement to another by the same rules."""
    before, after = set(map(_told, old.verdicts)), set(map(_told, new.verdicts))
    brought = [one for one in new.verdicts if _told(one) not in before]
    return PolicyChange(
        new=brought,
        gone=[one for one in old.verdicts if _told(one) not in after],
        unchanged=len(new.verdicts) - len(brought),
        levels={
            rule: (old.levels[rule], level)
            for rule, level in new.levels.items()
            if rule in old.levels and old.levels[rule] != level
        },
    )


def _told(verdict: Verdict) -> tuple[str, ...]:
    return verdict.rule, verdict.level, verdict.state, verdict.resource, verdict.where, verdict.message
