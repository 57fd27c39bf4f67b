"""The program on the real `pulumi`, with the stand-in provider behind it: every step of every stack's life."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.settings import load, stacks
from inventory.recorder import record
from inventory.resources import SECRET, UNKNOWN, Inventory, Resource
from tests.engine.stack import ENGINES, Stack, initialised, needs_pulumi

pytestmark = [pytest.mark.engine, pytest.mark.whole, needs_pulumi]

JOB = "nomad:index/job:Job"
KEPT = frozenset({"gcp:storage/bucketObject:BucketObject"})
"""The only types of which something is not deleted by itself: an object goes when its bucket is emptied, before."""
CREDENTIAL = "consumer-secret-7f3a91"
"""Of Salesforce, as its owner sets it."""


@pytest.fixture(params=stacks())
def stack(request: pytest.FixtureRequest, scratch_checkout: Path, tmp_path: Path) -> Iterator[Stack]:
    """Each stack, initialised and empty."""
    with initialised(request.param, scratch_checkout, tmp_path) as one:
        if load(one.name).gcp:
            for key in ("client_id", "client_secret"):
                one.must("config", "set", "--secret", "--path", f"hybrid-mlops:salesforce.{key}", CREDENTIAL)
        yield one


@pytest.fixture
def local(scratch_checkout: Path, tmp_path: Path) -> Iterator[Stack]:
    """Stack `local`, initialised and empty."""
    with initialised("local", scratch_checkout, tmp_path) as one:
        yield one


@pytest.mark.timeout(1800)
def test_a_stack_goes_through_its_life(stack: Stack) -> None:
    planned = record(stack.name, root=stack.checkout)
    promised = record(stack.name, root=stack.checkout, preview=True)

    said = stack.must("preview", "--json")
    assert CREDENTIAL not in said
    preview = json.loads(said)
    assert set(preview["changeSummary"]) == {"create"}
    previewed = {step["urn"] for step in preview["steps"] if "pulumi:pulumi:Stack" not in step["urn"]}
    assert previewed == {resource.urn for resource in planned.resources}, "a preview names all that is registered"
    assert stack.changes() == [], "a preview creates nothing"

    assert stack.run("up") == _calls("Create", planned)
    _as_recorded(stack.state(), promised)
    if load(stack.name).gcp:
        assert any(urn.endswith("-salesforce") for urn in stack.state()), "jobs are given what was set"
    assert CREDENTIAL not in stack.must("stack", "export"), "the state encrypts it"
    assert stack.run("up", "--expect-no-changes") == []

    changed = _changed(stack, planned, "jobs.sales-close-prediction.count", 2)
    updates = stack.run("up")
    assert updates == _updates(planned, changed)
    assert updates
    # In every region that the stack provisions, and nothing else.
    assert all(f"{JOB}::" in urn and urn.endswith("sales-close-prediction") for _, urn in updates), updates

    protected = [resource for resource in changed.resources if resource.protect]
    if protected:
        _is_refused(stack, protected)
        unprotected = _changed(stack, changed, "gcp.protect", False)
        assert not [resource.urn for resource in unprotected.resources if resource.protect]
        assert stack.run("up") == _updates(changed, unprotected)
        changed = unprotected

    deleted = stack.run("destroy", "--run-program")
    assert stack.state() == {}
    left = {urn for _, urn in _calls("Delete", changed)} - {urn for _, urn in deleted}
    by_urn = {resource.urn: resource for resource in changed.resources}
    assert left == {urn for urn, resource in by_urn.items() if resource.retain_on_delete or resource.deleted_with}
    assert {by_urn[urn].type for urn in left if not by_urn[urn].deleted_with} <= KEPT


def _is_refused(stack: Stack, protected: list[Resource]) -> None:
    held = stack.state()
    stack.provider.calls.clear()
    # As people run it: with `--skip-preview` Pulumi deletes what is not protected before it refuses the rest.
    done = stack.pulumi("destroy", "--yes", "--run-program", **ENGINES)
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert any(resource.urn in said for resource in protected), "it names what is protected"
    assert stack.state().keys() == held.keys()
    assert stack.changes() == [], "it deletes nothing"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "hybrid-mlops:nomad.address: this stack names no Nomad and NOMAD_ADDR is not set"),
        (
            {"NOMAD_ADDR": ENGINES["NOMAD_ADDR"]},
            "hybrid-mlops:kubernetes.context: this stack names no cluster and KUBECONFIG is not set",
        ),
    ],
    ids=["nomad", "kubernetes"],
)
def test_without_an_engine_it_says_so_in_one_line(local: Stack, given: dict[str, str], message: str) -> None:
    done = local.pulumi("up", "--yes", **given)
    assert done.returncode != 0
    told = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip().startswith("error: ")]
    assert len(told) == 2, told
    assert told[0].startswith(f"error: {message}")
    assert told[1] == "error: an unhandled error occurred: program exited with non-zero exit code: 1", "Pulumi's own"
    assert "Traceback" not in done.stdout + done.stderr
    assert local.provider.calls == []


def _changed(stack: Stack, before: Inventory, path: str, value: Any) -> Inventory:
    """What the stack is after a setting was changed, which must be another than before."""
    stack.configure(path, value)
    after = record(stack.name, root=stack.checkout)
    assert after != before
    return after


def _calls(method: str, inventory: Inventory) -> list[tuple[str, str]]:
    """What a provider is asked when all of an inventory is made, or deleted."""
    return sorted((method, resource.urn) for resource in inventory.resources if _managed(resource))


def _updates(before: Inventory, after: Inventory) -> list[tuple[str, str]]:
    """What a provider is asked when one inventory becomes another."""
    were = {resource.urn: resource.inputs for resource in before.resources}
    assert were.keys() == {resource.urn for resource in after.resources}
    return sorted(
        ("Update", resource.urn)
        for resource in after.resources
        if _managed(resource) and resource.inputs != were[resource.urn]
    )


def _managed(resource: Resource) -> bool:
    return resource.custom and not resource.type.startswith("pulumi:providers:")


def _as_recorded(state: Mapping[str, Mapping[str, Any]], promised: Inventory) -> None:
    """The engine was sent what the recorder says in a preview, and keeps secret what the recorder says is."""
    assert state.keys() == {resource.urn for resource in promised.resources}
    for resource in promised.resources:
        held = state[resource.urn]
        assert held.get("protect", False) == resource.protect, resource.urn
        assert _parent(held) == resource.parent, resource.urn
        assert (held.get("provider", "").rpartition("::")[0] or None) == resource.provider, resource.urn
        if _managed(resource):
            given = {key: value for key, value in held["inputs"].items() if key != "__internal"}
            assert given.keys() == resource.inputs.keys(), resource.urn
            for name, value in given.items():
                assert _kept(value, resource.inputs[name]), f"{resource.urn}: {name}"


def _kept(held: Any, promised: Any) -> bool:
    """Whether a value in the state is what a preview promised: what was not known may be any, but is no secret."""
    if isinstance(held, dict) and "ciphertext" in held:
        return promised == SECRET
    if isinstance(held, dict) and "hash" in held:
        # An archive of files, which the engine writes down by absolute paths.
        return held["assets"].keys() == promised["assets"].keys()
    if promised == UNKNOWN:
        return "ciphertext" not in str(held)
    if isinstance(held, dict) and isinstance(promised, dict):
        return held.keys() == promised.keys() and all(_kept(held[key], promised[key]) for key in held)
    if isinstance(held, list) and isinstance(promised, list):
        return len(held) == len(promised) and all(map(_kept, held, promised))
    return held == promised


def _parent(held: Mapping[str, Any]) -> str | None:
    parent = held.get("parent", "")
    return None if "pulumi:pulumi:Stack" in parent.split("::")[2:3] else parent or None
