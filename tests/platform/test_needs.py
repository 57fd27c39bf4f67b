"""Every workload has what it needs before it starts, and misses it when any of it is taken away."""

import re
from collections.abc import Callable

import pytest

from definitions.nomad import jobspec
from infra import settings
from inventory.resources import Inventory
from inventory.values import with_references
from policy.needs import TEMPLATES, needs, unmet
from policy.parts.nomad import JOB
from tests.platform.take_away import UNMISSED, supply, tried

STACKS = settings.stacks()
CLOUD = [stack for stack in STACKS if settings.load(stack).gcp]


@pytest.mark.parametrize("stack", STACKS)
def test_every_workload_has_what_it_needs(stack: str, recorded: Callable[..., Inventory]) -> None:
    assert unmet(supply(with_references(recorded(stack)))) == []


@pytest.mark.parametrize("stack", CLOUD)
def test_what_is_taken_away_is_missed_by_a_workload_that_is_named(
    stack: str, recorded: Callable[..., Inventory]
) -> None:
    attempts = list(tried(with_references(recorded(stack))))
    assert len(attempts) > 80
    unmissed = {(one.urn.rpartition("::")[2], one.how) for one in attempts if not one.missed}
    assert unmissed <= UNMISSED.keys()
    named = re.compile(r"(job|WorkflowTemplate|CronWorkflow|release|node pool|machines of|[A-Z]\w+) \S+.*: needs ")
    for one in attempts:
        assert all(named.match(line) for line in one.missed), one.missed


@pytest.mark.parametrize("stack", CLOUD)
def test_needs_are_read_from_every_job_and_template(stack: str, recorded: Callable[..., Inventory]) -> None:
    inventory = with_references(recorded(stack))
    asked = {need.workload for need in needs(supply(inventory))}
    for job in inventory.of_type(JOB):
        spec = jobspec.parse(job.inputs["jobspec"], job.name)
        assert any(who.startswith(f"job {spec.id} in ") for who in asked), spec.id
    for template in (one for kind in TEMPLATES for one in inventory.of_type(kind)):
        name = template.inputs["metadata"]["name"]
        assert any(who.startswith(f"{template.inputs['kind']} {name} in ") for who in asked), name


def test_credentials_that_a_stack_has_are_needed_by_the_job_that_reads_them(
    recorded: Callable[..., Inventory],
) -> None:
    ((_, line),) = unmet(supply(with_references(recorded(CLOUD[0])), salesforce=True))
    assert line.startswith("job sales-close-prediction in eu: needs the Variable nomad/jobs/sales-close-prediction, ")
