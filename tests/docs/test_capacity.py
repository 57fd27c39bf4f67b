"""The page of capacity says of everything that stays on overnight why it does."""

import re

import pytest

from infra import settings
from inventory.capacity import capacity as capacities
from tests.stack_inventories import inventory
from tools.docs import capacity


def test_what_stays_on_adds_up_to_the_minimum_of_the_stack() -> None:
    page = capacity.page(inventory)
    for stack, vcpu in (("dev", 5), ("staging", 8), ("prod", 14)):
        (section,) = re.findall(rf"^## {stack}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
        kept = re.findall(r"^- `.*?: (\d+) n1-standard-(\d+), (\d+) GB of disks\. \S", section, re.MULTILINE)
        assert sum(int(count) * int(size) for count, size, _ in kept) == vcpu
        assert f"with {vcpu} vCPU" in section
        assert f" and {sum(int(disk) for *_, disk in kept)} GB of disks stay on" in section


def test_a_pool_that_is_kept_warm_is_named_with_the_setting_that_lets_it_go() -> None:
    dev = settings.load("dev")
    pools = {pool.name: pool for pool in capacities(inventory("dev")).pools}
    reasons = {name: capacity.reason(dev, inventory("dev"), pool) for name, pool in pools.items()}
    assert "kubernetes.clusters.eu.node_pools.h2o.min: 0" in reasons["kubernetes-eu-pools-h2o"]
    assert "nomad.regions.eu.pools.train.size: {min: 0" in reasons["nomad-eu-clients-train"]


def test_a_machine_without_a_reason_is_an_error() -> None:
    without = settings.load("dev").model_copy(update={"kubernetes": None})
    with pytest.raises(KeyError, match="kubernetes-eu-pools-system"):
        list(capacity.section(without, inventory("dev")))
