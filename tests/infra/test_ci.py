"""Identities of continuous integration: taken from one repository's environments alone, and granted what is listed."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from infra import settings
from infra.foundation import ci
from infra.settings import SettingsError
from inventory.permissions import permissions
from inventory.recorder import record
from inventory.resources import Inventory
from inventory.values import with_references
from policy.checkout import judged
from tests.infra.test_settings_of_google import GOOD
from tests.platform import invariants

OTHER = "serviceAccount:mlops-ci-images@prod-project.iam.gserviceaccount.com"
PROJECT, STATE = "project stand-in-project", "bucket stand-in-pulumi-state"
CI = {
    "repository": "example/mlops",
    "owner_id": 4711,
    "state_bucket": "example-pulumi",
    "state_key": "projects/example/locations/europe-west1/keyRings/pulumi/cryptoKeys/state",
}


@pytest.fixture
def recorded(scratch_checkout: Path) -> Inventory:
    """Stack staging with continuous integration, and stand-ins for what only its owner knows."""
    path = scratch_checkout / "stacks" / "Pulumi.staging.yaml"
    stack = yaml.safe_load(path.read_text())
    stack["config"]["hybrid-mlops:ci"] = {"image_readers": [OTHER]}
    path.write_text(yaml.safe_dump(stack))
    return with_references(record("staging", root=scratch_checkout))


def test_each_account_is_granted_what_is_listed_and_no_data(recorded: Inventory) -> None:
    grants = [grant for grant in permissions(recorded) if "foundation:Ci$" in grant.urn]
    found: dict[str, set[tuple[str, str]]] = {}
    for grant in grants:
        who = re.sub(r"^\$\{foundation-ci-(\w+)\.member\}$", r"\1", grant.principal)
        role = re.sub(r"^\$\{foundation-ci-\w+-role\.name\}$", "its own", grant.role.removeprefix("roles/"))
        found.setdefault(who, set()).add((role, grant.resource))
    everyone = {
        ("its own", PROJECT),
        ("iap.tunnelResourceAccessor", PROJECT),
        (
            "cloudkms.cryptoKeyDecrypter",
            "crypto key projects/stand-in-project/locations/europe-west1/keyRings/pulumi/cryptoKeys/state",
        ),
    }
    preview = everyone | {("compute.viewer", PROJECT), ("storage.objectViewer", STATE)}
    data = "bucket hybrid-mlops-staging-data"
    assert found["preview"] == preview
    assert found["read"] == preview | {("container.viewer", PROJECT), ("storage.objectViewer", data)}
    assert found["images"] == {("artifactregistry.writer", "repository images")}
    assert found[OTHER] == {("artifactregistry.reader", "repository images")}
    roles = {(role.removeprefix("roles/"), PROJECT) for role in ci.JOBS["deploy"].roles}
    assert found["deploy"] == everyone | roles | {("storage.objectUser", STATE), ("storage.objectUser", data)}

    below = {grant.condition for grant in grants if grant.resource == data}
    assert len(below) == 1
    assert "objects/platform/mlops-registry/" in str(below)
    assert {grant.condition for grant in grants if "iap." in grant.role} == {"destination.port == 4646"}
    for rule in invariants.RULES:
        assert not [line for line in rule(recorded) if "foundation:Ci$" in line], rule.__name__
    assert judged(settings.ROOT, recorded).broken == []


def test_updates_may_make_machines_that_run_as_the_stacks_own_accounts_alone(recorded: Inventory) -> None:
    who = "serviceAccount:mlops-ci-deploy@stand-in-project.iam.gserviceaccount.com"
    grants = [grant for grant in permissions(recorded) if grant.role == "roles/iam.serviceAccountUser"]
    assert {(grant.principal, grant.resource) for grant in grants} == {
        (who, f"service account ${{{name}.name}}")
        for name in ("nomad-secrets-accounts-eu-client", "nomad-secrets-accounts-eu-server", "kubernetes-eu-nodes")
    }
    accounts = {one.inputs["accountId"] for one in recorded.of_type("gcp:serviceaccount/account:Account")}
    assert who.partition(":")[2].partition("@")[0] in accounts
    # Before the first machine starts.
    before = invariants.ancestors(recorded)
    made = {grant.urn for grant in grants}
    machines = recorded.of_type("gcp:container/nodePool:NodePool")
    machines += recorded.of_type("gcp:compute/instanceGroupManager:InstanceGroupManager")
    machines += recorded.of_type("gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager")
    assert machines
    assert [one.urn for one in machines if not before[one.urn] & made] == []


def test_each_environment_gets_its_own_account_and_the_names_are_told(recorded: Inventory) -> None:
    accounts = {
        grant.principal.rpartition("/attribute.environment/")[2]: grant.resource
        for grant in permissions(recorded)
        if grant.role == "roles/iam.workloadIdentityUser" and "foundation:Ci$" in grant.urn
    }
    assert accounts == {
        "staging": "service account ${foundation-ci-deploy.name}",
        "staging-images": "service account ${foundation-ci-images.name}",
        "staging-preview": "service account ${foundation-ci-preview.name}",
        "staging-read": "service account ${foundation-ci-read.name}",
    }
    assert recorded.outputs["ci"].keys() == {"workload_identity_provider", *accounts}


def allowed(**claims: str) -> bool:
    """Whether Google takes a token for stack staging, read as Google's language reads the condition."""
    stack = settings.parse({**GOOD, "ci": CI}, "stack")
    expression = ci.condition("staging", stack).replace("&&", "and").replace("||", "or")
    token = {
        "repository": "example/mlops",
        "repository_owner_id": "4711",
        "environment": "staging",
        "ref": "refs/heads/main",
        "event_name": "push",
    }
    return bool(eval(expression, {}, {"assertion": SimpleNamespace(**token | claims)}))  # noqa: S307


PULL_REQUEST = {"ref": "refs/pull/7/merge", "event_name": "pull_request"}


@pytest.mark.parametrize("environment", ["staging", "staging-images", "staging-read"])
def test_what_acts_on_the_stack_is_taken_from_the_branch_that_is_applied_alone(environment: str) -> None:
    assert allowed(environment=environment)
    assert not allowed(environment=environment, ref="refs/heads/other")
    assert not allowed(environment=environment, ref="refs/tags/main")
    assert not allowed(environment=environment, **PULL_REQUEST)


def test_previews_are_taken_from_pull_requests_alone() -> None:
    assert allowed(environment="staging-preview", **PULL_REQUEST)
    assert not allowed(environment="staging-preview")


@pytest.mark.parametrize(
    "claims",
    [
        {"repository": "other/mlops"},
        # Someone took the name after its owner had given it up.
        {"repository_owner_id": "4712"},
        {"environment": "prod"},
        {"environment": "prod-preview", **PULL_REQUEST},
    ],
)
def test_no_other_repository_owner_or_stack_is_taken(claims: dict[str, str]) -> None:
    assert not allowed(**claims)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"repository": 'a/b" || true || "'}, "hybrid-mlops:ci.repository"),
        ({"branch": 'main" || true || "'}, "hybrid-mlops:ci.branch"),
        ({"state_key": "gcpkms://projects/p"}, "hybrid-mlops:ci.state_key"),
    ],
)
def test_a_setting_cannot_widen_the_condition(change: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(says)):
        settings.parse({**GOOD, "ci": {**CI, **change}}, "stack")


def test_without_a_project_it_would_do_nothing() -> None:
    with pytest.raises(SettingsError, match="hybrid-mlops:ci: there is no project to make identities in"):
        settings.parse({"buckets": GOOD["buckets"], "images": {"repository": "example.org/x"}, "ci": CI}, "stack")
