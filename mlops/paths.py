"""Where things stand: the checkout that the command works on, and the state folder of the embedded platform."""

import os
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
"""The project: its `jobs/`, `images/` and `stacks/` are what the command runs."""


def state() -> Path:
    """The embedded platform's state folder: MLOPS_STATE, or `.state` in the checkout."""
    return Path(os.environ.get("MLOPS_STATE") or CHECKOUT / ".state").absolute()
