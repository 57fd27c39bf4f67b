"""`python -m tools.docs`: write the pages of docs/reference that are made from the program, the settings and the rules.

Owns which there are; each is in the file of its subject. A test says when one is due (`tests/docs`).
"""

from collections.abc import Callable, Mapping

from infra.settings import ROOT
from inventory.recorder import record
from inventory.resources import Inventory
from tools.docs import capacity, embedded_argo, embedded_nomad, groups, policies, settings

FOLDER = ROOT / "docs" / "reference"
PAGES: Mapping[str, Callable[[], str]] = {
    "embedded-argo.md": embedded_argo.page,
    "embedded-nomad.md": embedded_nomad.page,
    "policies.md": policies.catalogue,
    "policy.schema.json": policies.schema,
    "stack-settings.md": settings.table,
    "stack.schema.json": settings.schema,
}
OF_STACKS: Mapping[str, Callable[[Callable[[str], Inventory]], str]] = {
    "capacity.md": capacity.page,
    "resource-groups.md": groups.page,
}
"""Pages that are made from what stacks register."""


def main() -> None:
    """Write all of them."""
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
    for name, page_of in OF_STACKS.items():
        (FOLDER / name).write_text(page_of(record), encoding="utf-8")


if __name__ == "__main__":
    main()
