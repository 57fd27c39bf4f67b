"""The foundation: quotas, conditions of grants, names of public images, and what stack settings alone add to it."""

from pathlib import Path

import pytest
import yaml

from infra import naming, settings
from infra.foundation import apis, buckets, keys, quota
from infra.foundation.quota import Demand
from mlops.plan import record
from mlops.plan.permissions import permissions

DEV = settings.load("dev")


def test_a_stack_asks_for_the_cpus_of_all_its_machines_by_region() -> None:
    clusters = dict(DEV.kubernetes.clusters) if DEV.kubernetes else {}
    moved = clusters["eu"].model_copy(update={"region": "europe-west4"})
    pools = dict(DEV.nomad.regions["eu"].pools)
    big = {"machine_type": "n1-highmem-8", "size": {"min": 1, "max": 5}, "spot": True}
    nomad = DEV.nomad.regions["eu"].model_copy(update={"pools": {**pools, "big": pools["train"].model_validate(big)}})
    stack = DEV.model_copy(
        update={
            "nomad": DEV.nomad.model_copy(update={"regions": {"eu": nomad}}),
            "kubernetes": DEV.kubernetes.model_copy(update={"clusters": {"eu": moved}}) if DEV.kubernetes else None,
        }
    )
    assert quota.demand(stack) == {
        # A server with 1, a client with 2, and 1 to 5 spot machines with 8.
        "europe-west1": Demand(least=1 + 2 + 8, most=1 + 2 + 40, most_spot=40),
        "europe-west4": Demand(least=2, most=2 * 2 + 3 * 2 + 4 * 4 + 3 * 2, most_spot=16),
    }


@pytest.mark.parametrize(
    ("asked", "quotas", "stops", "says"),
    [
        (Demand(7, 37, 16), {"CPUS": (100.0, 0.0)}, None, ""),
        # What others of the project use is not free.
        (Demand(7, 37, 0), {"CPUS": (40.0, 34.0)}, True, "6 vCPU are free and the stack needs 7 at once"),
        (Demand(7, 37, 0), {}, True, "0 vCPU are free"),
        (Demand(7, 37, 0), {"CPUS": (36.0, 0.0)}, False, "36 vCPU are free and the stack's pools grow to 37"),
        # Spot machines have a quota of their own as soon as the project was given one.
        (Demand(7, 37, 16), {"CPUS": (24.0, 0.0), "PREEMPTIBLE_CPUS": (16.0, 0.0)}, None, ""),
        (Demand(7, 37, 16), {"CPUS": (24.0, 0.0), "PREEMPTIBLE_CPUS": (0.0, 0.0)}, False, "grow to 37"),
        (Demand(7, 37, 16), {"CPUS": (24.0, 0.0), "PREEMPTIBLE_CPUS": (8.0, 0.0)}, False, "spot pools grow to 16"),
    ],
)
def test_too_small_a_quota_stops_what_cannot_come_up_and_tells_of_what_would_wait(
    asked: Demand, quotas: dict[str, tuple[float, float]], stops: bool | None, says: str
) -> None:
    found = quota.problem("europe-west1", asked, quotas)
    assert (found[0] if found else None) is stops
    if found:
        assert says in found[1]
        assert ", so " in found[1]
        assert "; ask for more: https://console.cloud.google.com/iam-admin/quotas" in found[1]


def test_a_quota_that_cannot_be_read_is_told_and_stops_nothing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/credentials.json")
    quota.check("stand-in-project", "europe-west1", Demand(7, 37, 0))
    told = capfd.readouterr().err
    assert "quota in europe-west1: could not be read, so it was not checked: " in told
    assert "/nowhere/credentials.json" in told


def test_a_grant_below_a_prefix_holds_for_reading_and_for_listing_there() -> None:
    assert buckets.below("example-models", "models/a/") == (
        'resource.name.startsWith("projects/_/buckets/example-models/objects/models/a/") || '
        'api.getAttribute("storage.googleapis.com/objectListPrefix", "").startsWith("models/a/")'
    )


@pytest.mark.parametrize("prefix", ['a") || true || ("', "a\\"])
def test_a_prefix_cannot_widen_its_condition(prefix: str) -> None:
    with pytest.raises(ValueError, match="cannot stand in a condition"):
        buckets.below("example-models", prefix)


def test_public_images_are_pulled_through_the_stack_where_it_has_a_registry() -> None:
    image = "quay.io/argoproj/argocli:v4.0.10"
    assert naming.public_image(settings.load("local"), image) == image
    mirrored = naming.public_image(DEV, image)
    assert mirrored == "europe-west1-docker.pkg.dev/stand-in-project/quay-io/argoproj/argocli:v4.0.10"


def test_keys_and_apis_are_those_of_the_engines_that_a_stack_has() -> None:
    alone = DEV.model_copy(update={"kubernetes": None})
    assert "container" in apis.needed(DEV)
    assert "container" not in apis.needed(alone)
    assert keys.uses(alone) == {"europe-west1": ("artifacts", "disks", "nomad", "secrets", "storage")}
    eu = DEV.nomad.regions["eu"]
    regions = {"eu": eu, "us": eu.model_copy(update={"region": "us-central1"})}
    # Secrets are in the stack's own region alone.
    federated = alone.model_copy(update={"nomad": DEV.nomad.model_copy(update={"regions": regions})})
    assert keys.uses(federated)["us-central1"] == ("disks", "nomad")
    existing = DEV.model_copy(update={"nomad": DEV.nomad.model_copy(update={"regions": {}})})
    assert keys.uses(existing) == {"europe-west1": ("artifacts", "disks", "kubernetes", "storage")}


def test_a_bucket_is_added_and_kept_by_settings_alone(scratch_checkout: Path) -> None:
    path = scratch_checkout / "stacks" / "Pulumi.dev.yaml"
    stack = yaml.safe_load(path.read_text())
    stack["config"]["hybrid-mlops:buckets"]["more"] = {"exports": "example-exports"}
    storage = stack["config"]["hybrid-mlops:storage"]
    storage["retention_days"] = {"exports": 10}
    storage["delete_after_days"]["exports"] = 20
    stack["config"]["hybrid-mlops:gcp"]["protect"] = True
    path.write_text(yaml.safe_dump(stack))

    made = {
        bucket.inputs["name"]: bucket
        for bucket in record("dev", root=scratch_checkout).of_type("gcp:storage/bucket:Bucket")
    }
    exports, models = made["example-exports"], made["hybrid-mlops-dev-models"]
    # Whatever every other bucket has, it has: how it is reached, encrypted, restored, protected.
    differing = {name for name in exports.inputs if exports.inputs[name] != models.inputs.get(name)}
    assert differing == {"name", "labels", "lifecycleRules", "retentionPolicy", "versioning"}
    assert exports.protect
    assert exports.dependencies == models.dependencies
    assert exports.inputs["retentionPolicy"] == {"retentionPeriod": "864000"}
    # Cloud Storage refuses a bucket with both.
    assert exports.inputs["versioning"] == {"enabled": False}
    assert models.inputs["versioning"] == {"enabled": True}
    assert {"action": {"type": "Delete"}, "condition": {"age": 20, "withState": "LIVE"}} in (
        exports.inputs["lifecycleRules"]
    )


def test_administrators_reach_machines_by_ssh_and_nomad_alone(scratch_checkout: Path) -> None:
    who = "group:platform@example.com"
    path = scratch_checkout / "stacks" / "Pulumi.dev.yaml"
    stack = yaml.safe_load(path.read_text())
    stack["config"]["hybrid-mlops:gcp"]["administrators"] = [who]
    path.write_text(yaml.safe_dump(stack))

    granted = [grant for grant in permissions(record("dev", root=scratch_checkout)) if grant.principal == who]
    account = "service account projects/stand-in-project/serviceAccounts/mlops-nomad-eu-{}@stand-in-project.iam"
    assert {(grant.role, grant.resource.partition(".gserviceaccount")[0]) for grant in granted} == {
        ("roles/compute.viewer", "project stand-in-project"),
        ("roles/compute.osAdminLogin", "project stand-in-project"),
        ("roles/iap.tunnelResourceAccessor", "project stand-in-project"),
        ("roles/secretmanager.secretAccessor", "secret mlops-nomad-ca"),
        ("roles/iam.serviceAccountUser", account.format("server")),
        ("roles/iam.serviceAccountUser", account.format("client")),
        # And clusters, by a role of the program's own.
        ("kubernetes-administrators-role-name", "project stand-in-project"),
    }
    tunnel = next(grant for grant in granted if grant.role == "roles/iap.tunnelResourceAccessor")
    assert tunnel.condition == "destination.port == 22 || destination.port == 4646"
