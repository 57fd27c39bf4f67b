"""Settings of stacks on Google Cloud: a contradiction is one line with key, consequence and fix; secrets are kept."""

import contextvars
import copy
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pulumi
import pytest
import yaml
from pulumi.runtime import set_all_config

from infra import settings
from infra.settings import SettingsError

REGION, OTHER = "europe-west4", "europe-west1"
GOOD: dict[str, Any] = {
    "gcp": {
        "project": "example-project",
        "project_number": 123456789012,
        "region": REGION,
        "labels": {"team": "ml"},
        "administrators": ["group:platform@example.com"],
        "alert_emails": ["platform@example.com"],
        "budget": {"billing_account": "0A0A0A-0B0B0B-0C0C0C", "monthly_amount": 100, "currency": "EUR"},
    },
    "network": {
        "subnets": {
            REGION: {"nodes": "10.10.0.0/20", "pods": "10.20.0.0/16", "services": "10.30.0.0/20"},
            OTHER: {"nodes": "10.11.0.0/20"},
        }
    },
    "buckets": {
        "models": "example-models",
        "data": "example-data",
        "artifacts": "example-artifacts",
        "logs": "example-logs",
        "more": {"exports": "example-exports"},
    },
    "storage": {"retention_days": {"data": 30}, "delete_after_days": {"artifacts": 30, "data": 60}},
    "nomad": {
        "release": {"version": "2.0.5", "sha256": "a" * 64},
        "authoritative_region": "eu",
        "regions": {
            "eu": {
                "region": REGION,
                "zones": [f"{REGION}-a", f"{REGION}-b"],
                "local_port": 4646,
                "servers": {"machine_type": "n1-standard-1", "count": 3},
                "pools": {
                    "system": {"machine_type": "n1-standard-2", "size": 1, "system": True},
                    "training": {"machine_type": "n1-standard-4", "size": {"min": 0, "max": 4}},
                },
            },
            "west": {
                "region": OTHER,
                "zones": [f"{OTHER}-b"],
                "local_port": 4647,
                "servers": {"machine_type": "n1-standard-1", "count": 1},
                "pools": {"training": {"machine_type": "n1-highmem-2", "size": 1}},
            },
        },
    },
    "salesforce": {"client_id": "the-id-is-secret", "client_secret": "the-secret-is-secret"},
    "kubernetes": {
        "namespace": "mlops",
        "service_accounts": {"workflows": "workflows", "trainer": "trainer"},
        "clusters": {
            "main": {
                "region": REGION,
                "zones": [f"{REGION}-a"],
                "node_pools": {
                    "system": {"machine_type": "n1-standard-2", "min": 1, "max": 2},
                    "spark": {"machine_type": "n1-standard-4", "max": 4, "spot": True},
                },
            }
        },
    },
}
EU, MAIN = "nomad.regions.eu", "kubernetes.clusters.main"
WEST = f"network.subnets.{OTHER}"
GONE = object()
CI = {
    "repository": "example/hybrid-mlops",
    "owner_id": 1,
    "state_bucket": "example-state",
    "state_key": "projects/example/locations/europe-west4/keyRings/pulumi/cryptoKeys/state",
}

# (what is changed in GOOD) -> the key that is named, what is said of it.
BAD: list[tuple[Mapping[str, Any], str, str]] = [
    # What goes with what.
    ({"gcp": GONE}, "images.repository", "images have no names"),
    ({"gcp": GONE}, "network", "there is no project to provision it in"),
    ({"gcp": GONE}, "nomad.regions", "nothing can be provisioned"),
    ({"gcp": GONE}, "kubernetes.clusters", "nothing can be provisioned"),
    ({"gcp": GONE, "ci": CI}, "ci", "there is no project to make identities in"),
    ({"network": GONE}, "network", "nothing of `gcp` has a place"),
    ({"buckets.logs": GONE}, "buckets.logs", "the platform has no place for them"),
    ({"buckets.artifacts": GONE}, "buckets.artifacts", "cannot hand anything on"),
    ({"nomad.release": GONE}, "nomad.release", "machines have no Nomad to run"),
    ({"nomad.address": "https://nomad.example.com"}, "nomad.address", "it is open which is meant"),
    ({"nomad.ca_pem": "-----BEGIN CERTIFICATE-----"}, "nomad.ca_pem", "no existing Nomad is named"),
    ({"kubernetes.context": "existing"}, "kubernetes.context", "it is open which is meant"),
    ({"nomad.regions": GONE}, "nomad.release", "it would do nothing"),
    ({"nomad.regions": GONE}, "nomad.authoritative_region", "it would do nothing"),
    ({"nomad": {"access": "direct"}}, "nomad.access", "it would do nothing"),
    # Addresses.
    ({f"{WEST}.nodes": "10.20.8.0/24"}, f"{WEST}.nodes", f"overlaps network.subnets.{REGION}.pods"),
    ({f"network.subnets.{REGION}.services": "10.10.0.0/16"}, f"network.subnets.{REGION}.services", "overlaps"),
    ({f"{WEST}.nodes": "10.11.0.1/20"}, f"{WEST}.nodes", "has host bits set"),
    ({f"{WEST}.nodes": "10.11.0.256/32"}, f"{WEST}.nodes", "not permitted"),
    ({f"{WEST}.nodes": "10.11.0.0/33"}, f"{WEST}.nodes", "not a valid netmask"),
    ({f"network.subnets.{REGION}.pods": GONE}, f"network.subnets.{REGION}.pods", f"{MAIN} has no addresses"),
    ({f"network.subnets.{REGION}.services": GONE}, f"network.subnets.{REGION}.services", f"{MAIN} has no addresses"),
    # Places.
    ({f"network.subnets.{OTHER}": GONE}, "nomad.regions.west.region", f"add network.subnets.{OTHER}"),
    ({f"{MAIN}.region": "us-east1", f"{MAIN}.zones": ["us-east1-b"]}, f"{MAIN}.region", "us-east1 has no subnet"),
    ({f"{EU}.zones": [f"{REGION}-a", f"{OTHER}-b"]}, f"{EU}.zones.1", f"{OTHER}-b is not in {REGION}"),
    ({f"{EU}.zones": [f"{REGION}-a", f"{REGION}-a"]}, f"{EU}.zones.1", "is there twice"),
    ({f"{EU}.zones": []}, f"{EU}.zones", "at least 1 item"),
    ({f"{MAIN}.zones": [f"{OTHER}-b"]}, f"{MAIN}.zones.0", f"{OTHER}-b is not in {REGION}"),
    # Buckets.
    ({"storage.retention_days.exprots": 3}, "storage.retention_days.exprots", "there is no such bucket"),
    ({"storage.delete_after_days.logz": 3}, "storage.delete_after_days.logz", "there is no such bucket"),
    ({"storage.delete_after_days.data": 3}, "storage.delete_after_days.data", "fewer than storage.retention_days"),
    ({"storage.retention_days.models": 3}, "storage.retention_days.models", "no alias could be moved"),
    ({"storage.retention_days.artifacts": 3}, "storage.retention_days.artifacts", "Spark could not clear away"),
    ({"buckets.logs": "example-data"}, "buckets.logs", "example-data is buckets.data too"),
    ({"buckets.more.exports": "example-data"}, "buckets.exports", "example-data is buckets.data too"),
    ({"buckets.more.data": "example-other"}, "buckets.more.data", "is the name of a setting"),
    # Nomad.
    ({f"{EU}.servers.count": 4}, f"{EU}.servers.count", "should be 1, 3 or 5"),
    ({"nomad.authoritative_region": GONE}, "nomad.authoritative_region", "set it to one of: eu, west"),
    ({"nomad.authoritative_region": "us"}, "nomad.authoritative_region", "there is no region us"),
    ({"nomad.regions.west.local_port": 4646}, "nomad.regions.west.local_port", "4646 is eu's too"),
    ({f"{EU}.pools.system": GONE}, f"{EU}.pools", "training scales and no pool is a system pool"),
    ({f"{EU}.pools.system.size": {"min": 0, "max": 2}}, f"{EU}.pools.system.size.min", "nothing would start"),
    ({f"{EU}.pools.system.spot": True}, f"{EU}.pools.system.spot", "Google may take the system pool back"),
    ({f"{EU}.pools.training": GONE}, f"{EU}.pools", "no training has a place"),
    ({f"{EU}.pools.training.size": {"min": 5, "max": 4}}, f"{EU}.pools.training.size.min", "more than its max, 4"),
    ({f"{EU}.pools.training.size": 0}, f"{EU}.pools.training.size", "greater than or equal to 1"),
    ({f"{EU}.pools.training.size": {"max": 0}}, f"{EU}.pools.training.size.max", "greater than or equal to 1"),
    ({f"{EU}.pools.training.machine_type": "n1-standard-3"}, f"{EU}.pools.training.machine_type", "there is no n1-"),
    ({f"{EU}.servers.machine_type": "n1-highmem-1"}, f"{EU}.servers.machine_type", "there is no n1-highmem-1"),
    # Kubernetes.
    ({f"{MAIN}.node_pools.spark.min": 5}, f"{MAIN}.node_pools.spark.min", "5 is more than its max, 4"),
    ({f"{MAIN}.node_pools.system.min": 0}, f"{MAIN}.node_pools.system.min", "operators may have no place"),
    ({f"{MAIN}.node_pools.system": GONE}, f"{MAIN}.node_pools.system", "operators have no place"),
    ({f"{MAIN}.node_pools.spark.machine_type": "n1-highcpu-1"}, f"{MAIN}.node_pools.spark.machine_type", "there is no"),
    ({"kubernetes.service_accounts.trainer": "workflows"}, "kubernetes.service_accounts.trainer", "workflows's too"),
    # Every kind of field.
    ({"ci": CI | {"repository": "hybrid-mlops"}}, "ci.repository", "should match pattern"),
    ({"ci": CI | {"branch": "ma in"}}, "ci.branch", "should match pattern"),
    ({"ci": CI | {"state_key": "state"}}, "ci.state_key", "should match pattern"),
    ({"gcp.project": "Example"}, "gcp.project", "should match pattern"),
    ({"gcp.project": GONE}, "gcp.project", "gcloud projects list"),
    ({"gcp.project_number": "twelve"}, "gcp.project_number", "should match pattern"),
    ({"gcp.region": f"{REGION}-a"}, "gcp.region", "should match pattern"),
    ({"gcp.labels": {"Team": "ml"}}, "gcp.labels", "'Team' cannot be a name here"),
    ({"gcp.labels.team": "m l"}, "gcp.labels.team", "should match pattern"),
    ({"gcp.administrators": ["allUsers"]}, "gcp.administrators.0", "should match pattern"),
    ({"gcp.administrators": "group:a@example.com"}, "gcp.administrators", "valid tuple"),
    ({"gcp.alert_emails": ["platform"]}, "gcp.alert_emails.0", "should match pattern"),
    ({"gcp.budget.billing_account": "0"}, "gcp.budget.billing_account", "should match pattern"),
    ({"gcp.budget.monthly_amount": 0}, "gcp.budget.monthly_amount", "greater than or equal to 1"),
    ({"gcp.budget.currency": "euro"}, "gcp.budget.currency", "should match pattern"),
    ({"gcp.budget.thresholds": [3]}, "gcp.budget.thresholds.0", "less than or equal to 2"),
    ({"gcp.budget.thresholds": [0]}, "gcp.budget.thresholds.0", "greater than 0"),
    ({"gcp.budget.thresholds": ["half"]}, "gcp.budget.thresholds.0", "valid number"),
    ({"gcp.protect": "perhaps"}, "gcp.protect", "valid boolean"),
    ({f"{WEST}.nodes": "10.0.0.0"}, f"{WEST}.nodes", "should match pattern"),
    ({"network.subnets": {}}, "network.subnets", "at least 1 item"),
    ({"storage.soft_delete_days": 1}, "storage.soft_delete_days", "greater than or equal to 7"),
    ({"keys": {"rotation_days": 400}}, "keys.rotation_days", "less than or equal to 365"),
    ({"nomad.access": "vpn"}, "nomad.access", "should be 'tunnel' or 'direct'"),
    ({"nomad.release.version": "v2"}, "nomad.release.version", "should match pattern"),
    ({"nomad.release.sha256": "abc"}, "nomad.release.sha256", "should match pattern"),
    ({f"{EU}.local_port": 80}, f"{EU}.local_port", "greater than or equal to 1024"),
    ({f"{EU}.zones": [REGION]}, f"{EU}.zones.0", "should match pattern"),
    ({f"{EU}.servers.machine_type": "e2-small"}, f"{EU}.servers.machine_type", "should match pattern"),
    ({f"{EU}.servers.min_cpu_platform": "AMD Rome"}, f"{EU}.servers.min_cpu_platform", "should match pattern"),
    ({f"{EU}.pools.training.spot": 3}, f"{EU}.pools.training.spot", "valid boolean"),
    ({"salesforce.client_secret": GONE}, "salesforce.client_secret", "is missing"),
    ({"salesforce.client_secret": ["the-secret-is-secret"]}, "salesforce.client_secret", "valid string"),
    ({"salesforce": "the-secret-is-secret"}, "salesforce", "valid dictionary"),
    ({"salesforce.client_secert": "the-secret-is-secret"}, "salesforce.client_secert", "did you mean"),
    ({f"{MAIN}.release_channel": "EDGE"}, f"{MAIN}.release_channel", "should be 'RAPID'"),
]  # fmt: skip


ENCRYPTED = {key: {"secure": "v1:ciphertext"} for key in ("client_id", "client_secret")}
"""Salesforce's credentials as `pulumi config set --secret` writes them."""
# Of a stack file: by the time that settings are validated, what was encrypted is in clear.
IN_CLEAR = [
    ({"salesforce": {**ENCRYPTED, "client_secret": "the-secret-is-secret"}}, "salesforce.client_secret"),
    ({"salesforce": {**ENCRYPTED, "client_id": 4711}}, "salesforce.client_id"),
]


def changed(changes: Mapping[str, Any]) -> dict[str, Any]:
    values = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *above, last = path.split(".")
        inner = values
        for key in above:
            inner = inner[key]
        if value is GONE:
            del inner[last]
        else:
            inner[last] = value
    return values


def written(folder: Path, values: Mapping[str, Any]) -> None:
    """Write a stack file."""
    document = {"config": {f"hybrid-mlops:{key}": value for key, value in values.items()}}
    (folder / "Pulumi.cloud.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def test_a_stack_on_google_cloud_is_read() -> None:
    read = settings.parse(GOOD, "stack.yaml")
    assert read.gcp
    assert read.gcp.project_number == "123456789012", "YAML's number is text to everyone else"
    assert read.buckets.by_use()["exports"] == "example-exports"
    assert [region.local_port for region in read.nomad.regions.values()] == [4646, 4647]


@pytest.mark.parametrize(("changes", "key", "says"), BAD, ids=[f"{key} {says}" for _, key, says in BAD])
def test_a_contradiction_is_told_in_one_line(changes: Mapping[str, Any], key: str, says: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings.parse(changed(changes), "stack.yaml")
    lines = str(raised.value).splitlines()
    named = [line for line in lines if line.startswith(f"stack.yaml: hybrid-mlops:{key}: ")]
    assert [line for line in named if says in line], lines
    for line in lines:
        assert re.fullmatch(r"stack\.yaml: hybrid-mlops:\S+: .+, so .+; .+", line), line
    assert "-is-secret" not in str(raised.value), "no secret is told"


def test_what_only_the_owner_knows_is_stood_in_for_without_pulumi(tmp_path: Path) -> None:
    outside = {"gcp.project": GONE, "gcp.project_number": GONE, "gcp.budget.billing_account": GONE}
    written(tmp_path, changed({**outside, "nomad.release.sha256": GONE, "salesforce": ENCRYPTED}))
    read = settings.load("cloud", tmp_path)
    assert read.gcp
    assert read.gcp.budget
    assert read.nomad.release
    assert (read.gcp.project, read.gcp.project_number) == ("stand-in-project", "000000000000")
    assert (read.gcp.budget.billing_account, set(read.nomad.release.sha256)) == ("000000-000000-000000", {"0"})
    # What the owner did set is kept, and a part that the stack leaves out is not made up.
    written(tmp_path, changed({"gcp.project_number": GONE, "gcp.budget": GONE, "salesforce": ENCRYPTED}))
    read = settings.load("cloud", tmp_path)
    assert read.gcp
    assert (read.gcp.project, read.gcp.project_number, read.gcp.budget) == ("example-project", "000000000000", None)
    assert settings.load("local").gcp is None


def test_pulumi_refuses_a_stack_without_what_only_the_owner_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    values = changed({"gcp.project_number": GONE, "nomad.release.sha256": GONE})
    config = {f"hybrid-mlops:{key}": json.dumps(value) for key, value in values.items()}
    monkeypatch.setattr(pulumi, "get_stack", lambda: "cloud")

    def read() -> None:
        set_all_config(config, ["hybrid-mlops:salesforce"])
        settings.from_pulumi()

    with pytest.raises(SettingsError) as raised:
        contextvars.copy_context().run(read)
    lines = [line.partition(": ")[2] for line in str(raised.value).splitlines()]
    assert [line.partition(": ")[0] for line in lines] == [
        "hybrid-mlops:gcp.project_number",
        "hybrid-mlops:nomad.release.sha256",
    ]
    assert "add it (Its number: `gcloud projects describe" in lines[0]


def test_secrets_do_not_print() -> None:
    read = settings.parse(GOOD, "stack.yaml")
    assert read.salesforce
    for text in (str(read), repr(read), f"{read.salesforce}", read.model_dump_json(), str(read.model_dump())):
        assert "-is-secret" not in text
    assert read.salesforce.client_secret.get_secret_value() == "the-secret-is-secret"


def test_a_stack_file_shows_no_encrypted_value(tmp_path: Path) -> None:
    written(tmp_path, changed({"salesforce": ENCRYPTED}))
    read = settings.load("cloud", tmp_path)
    assert read.salesforce
    assert read.salesforce.client_secret.get_secret_value() == "[secret hybrid-mlops:salesforce.client_secret]"


@pytest.mark.parametrize(("changes", "key"), IN_CLEAR, ids=[key for _, key in IN_CLEAR])
def test_a_secret_in_clear_is_refused_in_one_line(changes: Mapping[str, Any], key: str, tmp_path: Path) -> None:
    written(tmp_path, changed(changes))
    with pytest.raises(SettingsError) as raised:
        settings.load("cloud", tmp_path)
    line = (
        rf"hybrid-mlops:{key}: is a secret in clear, so .+; .+ `pulumi config set --secret --path hybrid-mlops:{key}`"
    )
    assert re.fullmatch(rf"stacks/Pulumi\.cloud\.yaml: {line}", str(raised.value)), raised.value
    assert "-is-secret" not in str(raised.value), "no secret is told"


def test_pulumi_refuses_a_secret_that_was_set_in_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulumi, "get_stack", lambda: "cloud")

    def read(secret: list[str]) -> None:
        set_all_config({f"hybrid-mlops:{key}": json.dumps(value) for key, value in GOOD.items()}, secret)
        settings.from_pulumi()

    contextvars.copy_context().run(read, ["hybrid-mlops:salesforce"])
    with pytest.raises(SettingsError) as raised:
        contextvars.copy_context().run(read, [])
    assert [line.split(": ")[1] for line in str(raised.value).splitlines()] == [
        "hybrid-mlops:salesforce.client_id",
        "hybrid-mlops:salesforce.client_secret",
    ]
    assert "-is-secret" not in str(raised.value), "no secret is told"
