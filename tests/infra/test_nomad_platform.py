"""What the program puts into Nomad regions before jobs: once in the authoritative one, and the rest in each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from inventory.recorder import PlanError, record
from inventory.resources import SECRET, UNKNOWN, Inventory, Resource
from tests.platform import invariants

POOL = "principal://iam.googleapis.com/projects/000000000000/locations/global/workloadIdentityPools/mlops-nomad-"
JWKS = '{"keys":[{"alg":"RS256","e":"AQAB","kid":"example","kty":"RSA","n":"AQAB","use":"sig"}]}'


def changed(checkout: Path, change: Callable[[dict[str, Any]], None], *, preview: bool = False) -> Inventory:
    """What stack `dev` registers after a change of its file."""
    path = checkout / "stacks" / "Pulumi.dev.yaml"
    stack = yaml.safe_load(path.read_text())
    change(stack["config"])
    path.write_text(yaml.safe_dump(stack))
    return record("dev", root=checkout, preview=preview)


def inside(inventory: Inventory) -> list[Resource]:
    return [resource for resource in inventory.resources if resource.type.startswith("nomad:")]


def add_us(config: dict[str, Any]) -> None:
    """What docs/how-to/add-a-nomad-region.md adds, and Salesforce."""
    nomad = config["hybrid-mlops:nomad"]
    nomad["authoritative_region"] = "eu"
    nomad["regions"]["us"] = nomad["regions"]["eu"] | {
        "region": "us-central1",
        "zones": ["us-central1-a"],
        "local_port": 14656,
    }
    config["hybrid-mlops:network"]["subnets"]["us-central1"] = {"nodes": "10.20.0.0/20"}
    config["hybrid-mlops:salesforce"] = {key: {"secure": "v1:ciphertext"} for key in ("client_id", "client_secret")}


def test_a_region_is_added_by_settings_alone(scratch_checkout: Path) -> None:
    before = {resource.urn for resource in record("dev", root=scratch_checkout).resources}
    inventory = changed(scratch_checkout, add_us)
    assert before <= {resource.urn for resource in inventory.resources}, "nothing that was there is made anew"
    assert list(invariants.used(inventory)) == []
    by_name = {resource.name: resource for resource in inventory.resources}

    addresses = {
        resource.name: (resource.inputs["address"], resource.inputs["region"])
        for resource in inventory.of_type("pulumi:providers:nomad")
    }
    assert addresses == {
        "nomad-eu-provider": ("https://127.0.0.1:14646", "eu"),
        "nomad-us-provider": ("https://127.0.0.1:14656", "us"),
    }
    assert by_name["nomad-us-provider"].inputs["secretId"] == SECRET

    # What Nomad copies from the authoritative region is there alone; whatever is there is gone with its own region.
    of = {region: f"nomad-{region}-provider" for region in ("eu", "us")}
    held: dict[str, set[str]] = {provider: set() for provider in of.values()}
    for resource in inside(inventory):
        assert resource.provider, resource.urn
        assert resource.deleted_with, resource.urn
        provider = resource.provider.rpartition("::")[2]
        assert resource.deleted_with.endswith(f":NomadRegion::{provider.removesuffix('-provider')}"), resource.urn
        held[provider].add(resource.type.rpartition(":")[2])
    assert held[of["us"]] == {"SchedulerConfig", "Variable", "Job"}
    assert held[of["eu"]] == held[of["us"]] | {"Namespace", "NodePool", "AclPolicy", "AclRole"}

    # The first object of a region waits for it; in the second region also for what Nomad copies there.
    first = {region: by_name[f"nomad-{region}-scheduler"] for region in of}
    gates = {
        resource.name: resource.hooks["beforeCreate"]
        for resource in inside(inventory)
        if "beforeCreate" in resource.hooks
    }
    assert gates == {f"nomad-{region}-scheduler": [f"nomad-gate-{region}"] for region in of}
    assert first["eu"].urn not in first["us"].dependencies
    assert {urn for urn in first["us"].dependencies if "::nomad-access-" in urn} >= {
        resource.urn for resource in inventory.of_type("nomad:index/aclPolicy:AclPolicy")
    }
    for region in of:
        servers = {urn for urn in first[region].dependencies if f"::nomad-{region}-servers-" in urn}
        assert servers, "the first object comes after the servers"

    for region, provider in of.items():
        job = by_name[f"{region}-sales-close-prediction"]
        assert job.hooks == {"beforeDelete": ["nomad-drain"]}
        paths = {
            resource.inputs["path"]: resource.inputs["items"]
            for resource in inventory.of_type("nomad:index/variable:Variable")
            if resource.provider and resource.provider.endswith(provider)
        }
        assert paths == {
            "nomad/jobs/sales-close-prediction": SECRET,
            "nomad/jobs/sales-close-prediction/training": SECRET,
        }
        trust = by_name[f"nomad-identity-{region}"].inputs
        assert trust["oidc"]["issuerUri"] == f"https://{region}.nomad.stand-in-project.internal"
        assert trust["attributeCondition"] == f'assertion.sub.startsWith("{region}:")'
        assert trust["oidc"]["jwksJson"] == JWKS
    assert "[secret hybrid-mlops:salesforce" not in inventory.model_dump_json(), "it is marked wherever it goes"


def test_a_task_may_create_and_read_its_own_jobs_models_and_nothing_else(scratch_checkout: Path) -> None:
    def elsewhere(config: dict[str, Any]) -> None:
        parameters = config["hybrid-mlops:jobs"]["sales-close-prediction"]["parameters"]
        parameters["gcp_bucket_path"] = "gs://hybrid-mlops-dev-data/a/b"

    inventory = changed(scratch_checkout, elsewhere)
    granted = {
        (member.rpartition(":training:")[2], grant.inputs["role"].partition("/")[2], grant.inputs["bucket"]): (
            (grant.inputs.get("condition") or {}).get("title", "all")
        )
        for grant in inventory.of_type("gcp:storage/bucketIAMMember:BucketIAMMember")
        if (member := str(grant.inputs["member"])).startswith(POOL)
    }
    bucket, below = "hybrid-mlops-dev-data", "below a/b/sales-close-prediction/"
    assert granted == {
        (f"{task}:google", role, bucket): where
        for task in ("store",)
        for role, where in {
            "storage.legacyBucketReader": "all",
            "storage.objectViewer": below,
            "storage.objectCreator": f"{below}, aliases excepted",
        }.items()
    }


def test_a_preview_of_a_new_stack_knows_nothing_of_nomads_keys(scratch_checkout: Path) -> None:
    inventory = changed(scratch_checkout, lambda _: None, preview=True)
    (trust,) = inventory.of_type("gcp:iam/workloadIdentityPoolProvider:WorkloadIdentityPoolProvider")
    assert trust.inputs["oidc"]["jwksJson"] == UNKNOWN


def test_an_existing_nomad_is_used_by_its_address_and_ca(tree: Path) -> None:
    path = tree / "stacks" / "Pulumi.local.yaml"
    stack = yaml.safe_load(path.read_text())
    pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    stack["config"]["hybrid-mlops:nomad"] = {"address": "https://nomad.example.com:4646", "ca_pem": pem}
    path.write_text(yaml.safe_dump(stack))
    inventory = record("local", root=tree)
    (provider,) = inventory.of_type("pulumi:providers:nomad")
    assert provider.inputs == {"address": "https://nomad.example.com:4646", "caPem": pem}
    assert {resource.type for resource in inside(inventory)} == {"nomad:index/job:Job"}
    assert inventory.of_type("gcp:compute/instanceTemplate:InstanceTemplate") == []


def test_models_in_a_foreign_bucket_are_told_in_one_line(scratch_checkout: Path) -> None:
    def foreign(config: dict[str, Any]) -> None:
        parameters = config["hybrid-mlops:jobs"]["sales-close-prediction"]["parameters"]
        parameters["gcp_bucket_path"] = "gs://somebody-elses/models"

    with pytest.raises(PlanError, match=r"parameters\.gcp_bucket_path: somebody-elses is no bucket of this stack, so "):
        changed(scratch_checkout, foreign)
