"""The invariants hold for every stack, and each of them finds a resource that breaks it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from infra import settings
from inventory.recorder import record
from inventory.resources import Inventory
from policy.settings import load as policy_settings
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
kept = pulumi.ResourceOptions(protect=True)
pulumi_random.RandomId('kept', byte_length=4, opts=pulumi.ResourceOptions.merge(random, kept))
token = pulumi_random.RandomUuid('token', opts=random)
gcp.compute.InstanceTemplate(
    'machine', name='t', machine_type='n1-standard-1', disks=[{'boot': True, 'sourceImage': 'debian'}],
    network_interfaces=[{'network': 'n'}], metadata={'token': pulumi.Output.concat('x=', token.result)}, opts=own,
)
k8s.core.v1.ConfigMap('given', data={'GOOGLE_CREDENTIALS': '{"private_key": "..."}'}, opts=cluster)
idle = gcp.kms.CryptoKey('idle', key_ring='projects/p/locations/l/keyRings/r', opts=own)
gcp.kms.CryptoKeyIAMMember('agent', crypto_key_id=idle.id, role='roles/x.y', member='user:a@example.com', opts=own)
pulumi.export('told', token.result)
"""

# The rule -> the resources that it finds in WRONG, by their logical names.
FOUND: dict[invariants.Rule, set[str]] = {
    invariants.placed: {"orphan", "unprovided"},
    invariants.encrypted: {"token", "machine", "output told"},
    invariants.without_keys: {"given"},
    invariants.after_its_api: {"orphan", "unprovided", "machine", "idle", "agent"},
    invariants.used: {"idle"},
    invariants.unprotected: {"kept"},
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
    # That a protected stack has all of it protected is a policy.
    if google and google.protect:
        assert policy_settings(stack).parameters.protect
    else:
        assert list(invariants.unprotected(recorded(stack))) == []


@pytest.mark.parametrize("rule", FOUND, ids=lambda rule: rule.__name__)
def test_what_breaks_a_rule_is_found(rule: invariants.Rule, wrong: Inventory) -> None:
    lines = list(rule(wrong))
    # A line begins with the URN, which ends with the name, or with a stack's output.
    assert {re.split(r"::(?!.*::)", line.partition(": ")[0])[-1] for line in lines} == FOUND[rule], lines


def test_every_rule_is_shown_something_wrong() -> None:
    assert set(invariants.RULES) <= FOUND.keys()
