"""A Nomad region as a stack registers it: who trusts whom, who reads what, in which order servers are touched."""

import json
from pathlib import Path

import pytest
import yaml

from infra import naming, settings
from infra.nomad import boot
from inventory.recorder import record
from tests.stack_inventories import inventory

REGIONS = [(stack, region) for stack in settings.stacks() for region in settings.load(stack).nomad.regions]
GROUP = "gcp:compute/instanceGroupManager:InstanceGroupManager"


@pytest.mark.parametrize(("stack", "region"), REGIONS)
def test_certificates_have_the_names_by_which_servers_are_reached(stack: str, region: str) -> None:
    read = settings.load(stack)
    requests = {
        resource.inputs["subject"]["commonName"]: resource.inputs
        for resource in inventory(stack).of_type("tls:index/certRequest:CertRequest")
    }
    server = requests[f"server.{region}.nomad"]
    assert set(server["dnsNames"]) == {f"server.{region}.nomad", "localhost"}
    assert set(server["ipAddresses"]) == {"127.0.0.1", naming.nomad_balancer(read, region)}
    # With a server's name a client could be one.
    for role in ("client", "cli"):
        assert set(requests[f"{role}.{region}.nomad"]["dnsNames"]) == {f"{role}.{region}.nomad", "localhost"}


@pytest.mark.parametrize(("stack", "region"), REGIONS)
def test_machines_read_only_what_their_role_needs(stack: str, region: str) -> None:
    accounts = {}
    for grant in inventory(stack).of_type("gcp:secretmanager/secretIamMember:SecretIamMember"):
        if grant.name.partition("-reader-")[2] == region:
            accounts.setdefault(grant.inputs["member"], set()).add(grant.inputs["secretId"])
    ours = {frozenset(secrets) for secrets in accounts.values()}
    assert ours == {
        frozenset({f"mlops-nomad-{region}-client"}),
        frozenset({f"mlops-nomad-{region}-server", "mlops-nomad-gossip", "mlops-nomad-bootstrap-token"}),
    }


@pytest.mark.parametrize(("stack", "region"), REGIONS)
def test_servers_are_touched_one_after_the_other_and_only_through_the_gate(stack: str, region: str) -> None:
    groups = [group for group in inventory(stack).of_type(GROUP) if group.inputs["name"].startswith(f"mlops-{region}-")]
    assert len(groups) == settings.load(stack).nomad.regions[region].servers.count
    for before, group in zip([None, *groups], groups, strict=False):
        assert before is None or before.urn in group.dependencies
        assert json.dumps(group.hooks).count("-gate") == 1
        assert group.inputs["updatePolicy"]["replacementMethod"] == "RECREATE"
        assert group.inputs["statefulDisks"][0]["deviceName"] == "data"
        assert group.inputs["waitForInstances"]
    # Spread over the zones, so that a zone takes no more servers with it than it must.
    zones = settings.load(stack).nomad.regions[region].zones
    used = [group.inputs["zone"] for group in groups]
    assert max(map(used.count, used)) == -(-len(groups) // len(zones))


def test_the_store_program_is_one_object_for_all_regions_and_no_name_is_written_twice(scratch_checkout: Path) -> None:
    """In a bucket with a retention policy, Google refuses to write a name again."""
    path = scratch_checkout / "stacks" / "Pulumi.dev.yaml"
    stack = yaml.safe_load(path.read_text())
    regions = stack["config"]["hybrid-mlops:nomad"]["regions"]
    regions["us"] = {**regions["eu"], "region": "us-central1", "zones": ["us-central1-a"], "local_port": 14647}
    stack["config"]["hybrid-mlops:network"]["subnets"]["us-central1"] = {"nodes": "10.80.0.0/20"}
    stack["config"]["hybrid-mlops:nomad"]["authoritative_region"] = "eu"
    path.write_text(yaml.safe_dump(stack))
    found = record("dev", root=scratch_checkout)
    (uploaded,) = found.of_type("gcp:storage/bucketObject:BucketObject")
    (name,) = [one for one in found.of_type("random:index/randomId:RandomId") if one.urn in uploaded.dependencies]
    objects = boot.StoreProgram(scratch_checkout).objects
    assert name.inputs["keepers"] == {"content": objects.split("/")[-2]}, "with another content it is another name"
    assert uploaded.inputs["name"].startswith(objects)
    assert uploaded.retain_on_delete
    clients = found.of_type("gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager")
    assert len(clients) == 2
    assert all(uploaded.urn in group.dependencies for group in clients)


@pytest.mark.parametrize(("stack", "region"), REGIONS)
def test_the_size_of_a_pool_that_scales_is_the_autoscalers(stack: str, region: str) -> None:
    groups = {
        group.inputs["name"]: group
        for group in inventory(stack).of_type("gcp:compute/regionInstanceGroupManager:RegionInstanceGroupManager")
    }
    for name, pool in settings.load(stack).nomad.regions[region].pools.items():
        group = groups[f"mlops-{region}-{name}"]
        if isinstance(pool.size, int):
            assert (group.inputs["targetSize"], group.ignore_changes) == (pool.size, [])
        else:
            assert group.ignore_changes == ["targetSize"]
            labels = group.inputs["allInstancesConfig"]["labels"]
            assert labels == {"mlops-min": str(pool.size.min), "mlops-max": str(pool.size.max)}
        # A machine that trains is never replaced by itself.
        assert group.inputs["updatePolicy"]["type"] == ("PROACTIVE" if pool.system else "OPPORTUNISTIC")
