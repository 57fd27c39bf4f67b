"""Alerts of a Nomad region: Google takes them before anything was reported, and they ask for what servers report."""

import re
from typing import Any

import pytest

from infra import settings
from infra.nomad import boot
from tests.stack_inventories import inventory

STACKS = [stack for stack in settings.stacks() if settings.load(stack).nomad.regions]


def conditions(stack: str) -> list[dict[str, Any]]:
    alerts = inventory(stack).of_type("gcp:monitoring/alertPolicy:AlertPolicy")
    return [condition for alert in alerts for condition in alert.inputs["conditions"]]


@pytest.mark.parametrize("stack", STACKS)
def test_no_alert_needs_a_metric_that_only_a_running_server_makes(stack: str) -> None:
    """Google refuses a filter on a metric that was never written, and a query unless it is told not to look."""
    own = 0
    for condition in conditions(stack):
        query = condition.get("conditionPrometheusQueryLanguage")
        if query is None:
            assert "custom.googleapis.com" not in str(condition)
        elif "custom_googleapis_com:" in query["query"]:
            own += 1
            assert query["disableMetricValidation"] is True
    assert own >= 4


@pytest.mark.parametrize("stack", STACKS)
def test_alerts_ask_for_what_servers_report(stack: str) -> None:
    script = (boot.FILES / "report.sh").read_text()
    (prefix,) = re.findall(r'type: "([\w./]+)\\\(\$name\)"', script)
    # How Google writes a metric's type in a query: the first slash is a colon, and what else is no letter is a line.
    domain, _, rest = prefix.partition("/")
    stem = f"{domain.replace('.', '_')}:{rest.replace('/', '_')}"
    reported = {stem + name for name in re.findall(r'series\("(\w+)"', script)}
    texts = [condition.get("conditionPrometheusQueryLanguage", {}).get("query", "") for condition in conditions(stack)]
    asked = {name for text in texts for name in re.findall(r"custom_googleapis_com:\w+", text)}
    assert asked
    assert asked <= reported
    for text in texts:
        # A metric of several kinds of monitored resources is not taken without one.
        assert text.count("{") == text.count('{monitored_resource="')
