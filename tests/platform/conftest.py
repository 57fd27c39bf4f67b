"""What the tests of whole stacks share: each stack's inventory, recorded once."""

from collections.abc import Callable

import pytest

from inventory.resources import Inventory
from tests.stack_inventories import inventory


@pytest.fixture(scope="session")
def recorded() -> Callable[..., Inventory]:
    """`recorded(stack, preview=False)`."""
    return inventory
