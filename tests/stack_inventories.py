"""Each real stack's inventory: the program is run once for all tests, for those of other workers too.

Owns: where inventories are kept as long as the tests last. Deliberately not: the program of a changed checkout, which
only its own test is about (`inventory.recorder`).
"""

import fcntl
import os
from functools import cache
from pathlib import Path

from inventory.recorder import record
from inventory.resources import Inventory

FOLDER = "MLOPS_TESTS_INVENTORIES"
"""Environment variable: the folder that the workers share, which `tests/conftest.py` makes."""


def inventory(stack: str, *, preview: bool = False) -> Inventory:
    """A stack's inventory, not to be changed: others have the same."""
    return _once(stack, preview)


@cache
def _once(stack: str, preview: bool) -> Inventory:
    if not os.environ.get(FOLDER):
        return record(stack, preview=preview)
    path = Path(os.environ[FOLDER]) / f"{stack}-{'preview' if preview else 'update'}.json"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return Inventory.model_validate_json(path.read_bytes())
        made = record(stack, preview=preview)
        path.write_text(made.model_dump_json())
        return made
