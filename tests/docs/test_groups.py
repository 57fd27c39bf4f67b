"""The page of resource groups says of every component what it reads, holds and allows."""

import re

import pytest

from inventory.permissions import permissions
from tests.stack_inventories import inventory
from tools.docs import groups


def test_the_page_has_every_component_and_every_grant() -> None:
    page = groups.page(inventory)
    titles = set(re.findall(r"^## (\w+): (\w+)$", page, re.MULTILINE))
    prod = inventory("prod")
    components = {tuple(one.type.split(":")[1:]) for one in prod.resources if not one.custom}
    assert components <= titles
    # By workloads' components too, whose grants stand beside their jobs.
    rows = [line for line in page.splitlines() if re.fullmatch(r"\| (?!who|---).+ \| .+ \| .+ \| .*\|", line)]
    assert len(rows) >= len({grant.key for grant in permissions(prod)})


@pytest.mark.parametrize(
    ("group", "key"),
    [
        ("Buckets", "storage.retention_days"),
        ("Clients", "nomad.regions.<name>"),
        ("NomadRegion", "nomad.access"),
        ("Network", "network.subnets"),
        ("NomadJobs", "salesforce"),
    ],
)
def test_a_group_names_the_settings_that_it_reads(group: str, key: str) -> None:
    (section,) = re.findall(rf"^## \w+: {group}$(.*?)(?=^## |\Z)", groups.page(inventory), re.MULTILINE | re.DOTALL)
    settings_line = next(line for line in section.splitlines() if line.startswith("- settings: "))
    assert f"`{key}" in settings_line, settings_line
