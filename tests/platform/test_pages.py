"""What a stack refers people to is there: the pages that its alerts and its next steps name."""

import json
import re
from collections.abc import Callable

import pytest

from infra import settings
from infra.settings import ROOT
from inventory.resources import Inventory

ALERT = "gcp:monitoring/alertPolicy:AlertPolicy"
_PAGE = re.compile(r"\b(?:docs|jobs)/[\w./-]+\.md\b")


@pytest.mark.parametrize("stack", [stack for stack in settings.stacks() if settings.load(stack).gcp])
def test_every_page_that_is_named_is_there(stack: str, recorded: Callable[..., Inventory]) -> None:
    inventory = recorded(stack)
    alerts = inventory.of_type(ALERT)
    assert alerts
    told = {alert.name: alert.inputs["documentation"]["content"] for alert in alerts}
    told["next_steps"] = json.dumps(inventory.outputs["next_steps"])
    named = {(where, page) for where, text in told.items() for page in _PAGE.findall(text)}
    assert any(where == "next_steps" for where, _ in named)
    assert [(where, page) for where, page in named if not (ROOT / page).is_file()] == []
