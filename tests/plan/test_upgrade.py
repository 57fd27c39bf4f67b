"""The page about upgrades lists every resource of 1b41903 that is registered no longer."""

import json
import re
from pathlib import Path

import pytest
import yaml

from infra.settings import ROOT
from tests.stack_inventories import inventory

PAGE = (ROOT / "docs" / "how-to" / "upgrade-from-an-older-checkout.md").read_text(encoding="utf-8")
OLDER = yaml.safe_load(Path(__file__).with_name("registered_at_1b41903.yaml").read_text(encoding="utf-8"))


def _section(title: str) -> set[str]:
    """The names of resources in a section: in the first cell of its table, or in its first sentence."""
    text = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    return set(re.findall(r"^\|? ?`([\w-]+)`", text, re.MULTILINE))


@pytest.mark.parametrize("stack", OLDER)
def test_nothing_leaves_a_stack_that_the_page_does_not_list(stack: str) -> None:
    resources = inventory(stack).resources
    registered = {(one.type, one.name) for one in resources}
    named_before = {json.loads(alias).get("name") for one in resources for alias in one.aliases if alias[0] == "{"}
    gone = {name for kind, names in OLDER[stack].items() for name in names if (kind, name) not in registered}
    assert gone - named_before == (_section("What leaves the stack") if gone else set())
    assert gone & named_before == (_section("What is renamed") if gone else set())
