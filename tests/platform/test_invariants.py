"""The invariants hold for every stack, and each of them finds a resource that breaks it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import settings
from mlops.plan import Inventory, record
from tests.platform import invariants

STACKS = settings.stacks()
WRONG = """
import pulumi
import pulumi_gcp as gcp
import pulumi_kubernetes as k8s
import pulumi_random

google = gcp.Provider('google', project='example', region='europe-west1')
room = pulumi.ComponentResource('hybrid-mlops:test:Room', 'room')
own = pulumi.ResourceOptions(parent=room, provider=google)
random = pulumi.ResourceOptions(parent=room, provider=pulumi_random.Provider('random'))
cluster = pulumi.ResourceOptions(parent=room, provider=k8s.Provider('kubernetes', kubeconfig='x'))

gcp.compute.Network('orphan', name='n', opts=pulumi.ResourceOptions(provider=google))
gcp.compute.Network('unprovided', name='o', opts=pulumi.ResourceOptions(parent=room))
bucket = gcp.storage.Bucket('unlabelled', name='b', location='EU', public_access_prevention='enforced', opts=own)
k8s.core.v1.Namespace('unlabelled-too', metadata={'name': 'n'}, opts=cluster)
gcp.compute.Address('public', name='a', opts=own)
gcp.compute.Firewall(
    'open', name='f', network='n', source_ranges=['0.0.0.0/0'], allows=[{'protocol': 'tcp', 'ports': ['22']}], opts=own
)
token = pulumi_random.RandomUuid('token', opts=random)
machine = {'boot': True, 'sourceImage': 'debian'}
gcp.compute.InstanceTemplate(
    'e2', name='t', machine_type='e2-small', disks=[machine], network_interfaces=[{'network': 'n'}],
    metadata={'token': pulumi.Output.concat('x=', token.result)}, opts=own,
)
gcp.compute.Instance(
    'reachable', name='i', machine_type='n1-standard-1', min_cpu_platform='Intel Skylake', zone='europe-west1-b',
    boot_disk={}, network_interfaces=[{'network': 'n', 'access_configs': [{}]}], opts=own,
)
gcp.serviceaccount.Key('key', service_account_id='a', opts=own)
gcp.projects.IAMMember('owner', project='p', role='roles/owner', member='user:a@example.com', opts=own)
gcp.projects.IAMMember('buckets', project='p', role='roles/storage.objectAdmin', member='user:a@example.com', opts=own)
idle = gcp.kms.CryptoKey('idle', key_ring='projects/p/locations/l/keyRings/r', opts=own)
gcp.kms.CryptoKeyIAMMember('agent', crypto_key_id=idle.id, role='roles/x.y', member='user:a@example.com', opts=own)
gcp.storage.BucketIAMMember('everyone', bucket='b', role='roles/storage.objectViewer', member='allUsers', opts=own)
gcp.storage.BucketIAMBinding('all', bucket='b', role='roles/x.y', members=['user:a@example.com'], opts=own)
pulumi.export('told', token.result)
"""

# The rule -> the resources that it finds in WRONG, by their logical names.
FOUND: dict[invariants.Rule, set[str]] = {
    invariants.placed: {"orphan", "unprovided"},
    invariants.labelled: {"unlabelled", "unlabelled-too", "public", "e2", "reachable", "idle"},
    invariants.unreachable: {"public", "open", "reachable", "everyone"},
    invariants.of_n1: {"e2"},
    invariants.encrypted: {"token", "e2", "output told"},
    invariants.without_keys: {"key"},
    invariants.least: {"owner", "buckets", "everyone", "all"},
    invariants.after_its_api: {
        *("orphan", "unprovided", "unlabelled", "public", "open", "e2", "reachable", "key", "everyone", "all"),
        *("idle", "agent"),
    },
    invariants.protected: {"unlabelled", "idle"},
    invariants.used: {"idle"},
}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory) -> Inventory:
    folder: Path = tmp_path_factory.mktemp("wrong")
    (folder / "stacks").mkdir()
    (folder / "stacks" / "Pulumi.local.yaml").write_text("config: {}\n")
    (folder / "Pulumi.yaml").write_text("name: hybrid-mlops\nruntime: python\nstackConfigDir: stacks\n")
    (folder / "__main__.py").write_text(WRONG)
    return record("local", root=folder)


@pytest.mark.parametrize("rule", invariants.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("stack", STACKS)
def test_holds(stack: str, rule: invariants.Rule, recorded: Callable[..., Inventory]) -> None:
    assert list(rule(recorded(stack))) == []


@pytest.mark.parametrize("stack", STACKS)
def test_what_holds_data_is_protected_as_the_stack_says(stack: str, recorded: Callable[..., Inventory]) -> None:
    google = settings.load(stack).gcp
    rule = invariants.protected if google and google.protect else invariants.unprotected
    assert list(rule(recorded(stack))) == []


@pytest.mark.parametrize("rule", FOUND, ids=lambda rule: rule.__name__)
def test_what_breaks_a_rule_is_found(rule: invariants.Rule, wrong: Inventory) -> None:
    lines = list(rule(wrong))
    # A line begins with the URN, which ends with the name, or with a stack's output.
    assert {re.split(r"::(?!.*::)", line.partition(": ")[0])[-1] for line in lines} == FOUND[rule], lines


def test_every_rule_is_shown_something_wrong() -> None:
    assert set(invariants.RULES) <= FOUND.keys()
