"""Rules on names and labels; their tables name every type of a stack that takes labels."""

import pytest

from mlops.plan import Inventory
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
    Case("name-bucket", BUCKET, put("name", to="hybrid-mlops-models"), "does not hold the stack's"),
)


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
