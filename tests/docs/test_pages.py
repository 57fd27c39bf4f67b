"""The generated pages are what the code makes of them now."""

import pytest

from tests.stack_inventories import inventory
from tools.docs.__main__ import FOLDER, OF_STACKS, PAGES


@pytest.mark.parametrize("name", [*PAGES, *OF_STACKS])
def test_a_page_is_current(name: str) -> None:
    page = PAGES[name]() if name in PAGES else OF_STACKS[name](inventory)
    assert (FOLDER / name).read_text(encoding="utf-8") == page, "write it: python -m tools.docs"
