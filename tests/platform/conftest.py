"""What the tests of whole stacks share: each stack's inventory, recorded once."""

from collections.abc import Callable
from functools import cache

import pytest

from mlops.plan import Inventory, record


@pytest.fixture(scope="session")
def recorded() -> Callable[..., Inventory]:
    """`recorded(stack, preview=False)`: the program of each stack is run once a session."""
    return cache(record)
