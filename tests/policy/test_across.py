"""Rules across resources: one changed line takes from a workload what it needs, or leaves what nobody needs."""

from collections.abc import Callable
from typing import Any

import pytest

from inventory.resources import UNKNOWN
from inventory.values import with_references
from policy.judge import judge
from policy.rules import ALL
from policy.settings import load
from tests.policy.cases import Case, becomes, check, put
from tests.policy.conftest import TODAY, stack

POOL = "kubernetes-eu-pools-h2o"
WRITES = "eu-sales-close-prediction-store-writes-models"


def _step(name: str, *path: str, to: Any) -> Callable[[dict[str, Any]], object]:
    def edit(inputs: dict[str, Any]) -> None:
        (step,) = (one for one in inputs["spec"]["templates"] if one["name"] == name)
        put(*path, to=to)(step)

    return edit


CASES = (
    Case(
        "workload-need",
        WRITES,
        put("role", to="roles/storage.objectViewer"),
        "task store: needs to create objects of the bucket of models, which nothing gives",
        verdict="eu-sales-close-prediction",
    ),
    Case(
        "workload-need",
        "kubernetes-eu-accounts-trainer-role",
        put("rules", 0, "verbs", to=["get"]),
        "step train: needs that trainer may",
        verdict="workflow-templates-eu-model-refit",
    ),
    Case(
        "grant-unneeded",
        "nomad-secrets-accounts-eu-server-reports",
        put("role", to="roles/compute.viewer"),
        "roles/compute.viewer, and nothing that it runs needs it",
    ),
    Case(
        "machine-bucket",
        "nomad-eu-clients-reads-store-program",
        put("condition", to=None),
        "every task on the machine gets roles/storage.objectViewer",
    ),
    Case(
        "service-account-unused",
        "kubernetes-eu-nodes",
        becomes(urn="urn:pulumi:prod::hybrid-mlops::gcp:serviceaccount/account:Account::other"),
        "no machine acts as it",
    ),
    Case(
        "node-pool-unused",
        POOL,
        put("nodeConfig", "taints", 0, "value", to="gpu"),
        "no pod of a template selects it",
    ),
    Case(
        "client-pool-unused",
        "nomad-eu-clients-train-template",
        put("labels", "nomad-pool", to="gpu"),
        "no job names its pool gpu",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_changed_line_breaks_the_rule(case: Case) -> None:
    check(case)


def test_nothing_is_said_of_grants_while_one_of_them_may_be_anyones() -> None:
    inventory = stack("prod")
    resources = [
        one.model_copy(update={"inputs": {**one.inputs, "member": UNKNOWN}}) if one.name == WRITES else one
        for one in inventory.resources
    ]
    found = judge(inventory.model_copy(update={"resources": resources}), load("prod"), ALL, TODAY)
    needs = {(verdict.resource, verdict.state) for verdict in found if verdict.rule == "workload-need"}
    assert needs == {("eu-sales-close-prediction", "not decided")}
    assert with_references(inventory) == inventory
