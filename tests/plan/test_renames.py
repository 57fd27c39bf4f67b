"""Which resource a changed program's is the successor of: only an alias makes it one."""

from pathlib import Path

import pytest

from mlops.changes.changes import Change, changes
from tests.plan.google import recorded

PROGRAM = """
import pulumi
import pulumi_nomad

provider = pulumi_nomad.Provider('nomad', address='http://127.0.0.1:4646')


class Part(pulumi.ComponentResource):
    def __init__(self, kind, name, children, aliases=None, child_aliases=None):
        super().__init__(kind, name, None, pulumi.ResourceOptions(provider=provider, aliases=aliases))
        for child in children:
            options = pulumi.ResourceOptions(parent=self, aliases=child_aliases)
            pulumi_nomad.Namespace(child, name='example', opts=options)


def alone(name, named='example', aliases=None):
    pulumi_nomad.Namespace(name, name=named, opts=pulumi.ResourceOptions(provider=provider, aliases=aliases))


"""
NAMESPACE = "nomad:index/namespace:Namespace"
URN = "urn:pulumi:local::hybrid-mlops::"


def compared(folder: Path, before: str, after: str) -> list[Change]:
    return changes(recorded(folder / "before", PROGRAM + before), recorded(folder / "after", PROGRAM + after))


@pytest.mark.parametrize(
    ("before", "after", "old", "new"),
    [
        ("alone('a')", "alone('b', aliases=[pulumi.Alias(name='a')])", f"{NAMESPACE}::a", f"{NAMESPACE}::b"),
        ("alone('a')", f"alone('b', aliases=['{URN}{NAMESPACE}::a'])", f"{NAMESPACE}::a", f"{NAMESPACE}::b"),
        # Moved into a component.
        (
            "alone('a')",
            "Part('x:y:Z', 'part', ['a'], child_aliases=[pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)])",
            f"{NAMESPACE}::a",
            f"x:y:Z${NAMESPACE}::a",
        ),
        # A component of another type and name: what is in it was in it before, and was named after it.
        (
            "Part('x:y:Old', 'old', ['old-a'])",
            "Part('x:y:New', 'new', ['new-a'], aliases=[pulumi.Alias(name='old', type_='x:y:Old')])",
            f"x:y:Old${NAMESPACE}::old-a",
            f"x:y:New${NAMESPACE}::new-a",
        ),
    ],
)
def test_an_alias_makes_a_rename(tmp_path: Path, before: str, after: str, old: str, new: str) -> None:
    found = compared(tmp_path, before, after)
    assert [(change.action, change.old_urn, change.urn) for change in found] == [("renamed", URN + old, URN + new)]
    assert found[0].properties == []


@pytest.mark.parametrize(
    ("before", "after", "alias"),
    [
        ("alone('a')", "alone('b')", "pulumi.Alias(name='a')"),
        ("alone('a', 'named-a')", "alone('b', 'named-b')", "pulumi.Alias(name='a')"),
        ("alone('a')", "Part('x:y:Z', 'part', ['a'])", "pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)"),
        ("Part('x:y:Z', 'part', ['a'])", "alone('a')", f"pulumi.Alias(parent='{URN}x:y:Z::part')"),
        # Another place and another name: only the URN says both.
        ("alone('a')", "Part('x:y:Z', 'part', ['b'])", f"'{URN}{NAMESPACE}::a'"),
    ],
)
def test_without_one_it_is_deleted_and_created_and_the_alias_is_named(
    tmp_path: Path, before: str, after: str, alias: str
) -> None:
    """The alias that is named is tried: with it, the same change is a rename."""
    found = compared(tmp_path, before, after)
    assert sorted(change.action for change in found) == ["added", "removed"]
    added = next(change for change in found if change.action == "added")
    assert added.hint
    assert added.hint.endswith(f"if it is the same one, add aliases=[{alias}]")
    option = "child_aliases" if after.startswith("Part") else "aliases"
    with_alias = f"{after[:-1]}, {option}=[{alias}])"
    assert [change.action for change in compared(tmp_path / "again", before, with_alias)] == ["renamed"]


def test_another_resource_is_no_rename(tmp_path: Path) -> None:
    found = compared(
        tmp_path, "alone('a')", "pulumi_nomad.NodePool('b', name='b', opts=pulumi.ResourceOptions(provider=provider))"
    )
    assert [(change.action, change.hint) for change in found] == [("removed", None), ("added", None)]
