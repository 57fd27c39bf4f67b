"""Rules on names and labels; their tables name every type of a stack that takes labels."""

from pathlib import Path

import pytest
import yaml

from inventory.recorder import record
from inventory.resources import Inventory
from inventory.values import at
from policy.rules import names
from tests.engine.provider import properties
from tests.policy.cases import Case, check, put

BUCKET = "foundation-buckets-models"
CASES = (
    Case("label-missing", BUCKET, put("labels", "part-of", to=None), "labels.part-of is not set"),
    Case("label-missing", BUCKET, put("labels", "managed-by", to="hand"), "labels.managed-by is hand, not pulumi"),
    Case("label-missing", BUCKET, put("labels", "environment", to="staging"), "environment is staging, and the stack"),
    Case("label-missing", "kubernetes-eu-cluster", put("resourceLabels", "component", to=None), "component is not set"),
    Case(
        "label-missing-in-cluster",
        "kubernetes-eu-accounts-trainer-role",
        put("metadata", "labels", to=None),
        "part-of is not set",
    ),
    Case("name-made-up", "foundation-network-vpc", put("name", to=None), "Pulumi makes up a name"),
    Case(
        "name-length", "nomad-identity-eu", put("displayName", to=33 * "x"), "displayName has 33 characters, and Google"
    ),
    Case(
        "name-length",
        "eu-sales-close-prediction-store-reads-models",
        put("condition", "title", to=101 * "x"),
        "condition.title has 101 characters",
    ),
    Case("name-bucket", BUCKET, put("name", to="hybrid-mlops-models"), "does not hold the stack's"),
)


def test_the_longest_names_that_settings_take_are_taken_by_google(scratch_checkout: Path) -> None:
    longest = "n" * 20
    path = scratch_checkout / "stacks" / "Pulumi.dev.yaml"
    stack = yaml.safe_load(path.read_text())
    nomad, kubernetes = stack["config"]["hybrid-mlops:nomad"], stack["config"]["hybrid-mlops:kubernetes"]
    region, cluster = nomad["regions"].pop("eu"), kubernetes["clusters"].pop("eu")
    region["pools"][longest] = region["pools"]["train"]
    cluster["node_pools"][longest] = cluster["node_pools"]["workflows"]
    nomad["regions"], kubernetes["clusters"] = {longest: region}, {longest: cluster}
    if "authoritative_region" in nomad:
        nomad["authoritative_region"] = longest
    path.write_text(yaml.safe_dump(stack))
    found = record("dev", root=scratch_checkout)
    seen = set()
    for resource in found.resources:
        for where, most in names.LENGTHS.get(resource.type, {}).items():
            text = at(resource.inputs, *where.split(".")) or ""
            assert len(text) <= most, f"{resource.urn}: {where}: {text}"
            if longest in text:
                seen.add(resource.type)
    assert "gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider" in seen


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)


def test_every_type_that_takes_labels_is_in_the_table(each_stack: Inventory) -> None:
    takes = {
        resource.type: name
        for resource in each_stack.resources
        if resource.type.startswith("gcp:")
        for name in ("resourceLabels", "userLabels", "labels")
        if name in properties(resource.type).inputs
    }
    # Labels of a notification channel are its address.
    takes.pop("gcp:monitoring/notificationChannel:NotificationChannel", None)
    assert takes.items() <= names.LABELS.items()
