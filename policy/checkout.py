"""Judging a stack as a plan shows it: by the rules that run here, and by the settings of the checkout that is planned.

A change that is planned may come from anybody: of its policies only the settings are read, which are YAML; a change
of the rules themselves judges nothing before it is checked out to plan with.
"""

import datetime
from pathlib import Path

from inventory.resources import Inventory
from policy.judge import judge, levels_of
from policy.rules import ALL
from policy.settings import load
from policy.verdicts import Policies


def judged(root: Path, inventory: Inventory) -> Policies:
    """What every rule says of a stack.

    Args:
        root: The checkout whose policy settings are read.
        inventory: The stack's resources, with references.

    Raises:
        PolicyError: The settings cannot be used.
    """
    settings = load(inventory.stack, root / "policy" / "stacks")
    today = datetime.datetime.now(tz=datetime.UTC).date()
    return Policies(
        levels={rule: level.value for rule, level in levels_of(ALL, settings).items()},
        verdicts=judge(inventory, settings, ALL, today),
    )
