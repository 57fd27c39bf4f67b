"""Another `kubernetes.namespace` than the cluster has is refused in a preview.

Pulumi gives a resource whose name is ignored the name that is in its state; the mocks here answer as it then does.
"""

import subprocess
import sys

import pytest

from tests.conftest import CHECKOUT
from tests.stack_inventories import inventory

PROGRAM = """\
import asyncio, json, sys
import pulumi
from pulumi.runtime import mocks

there, wanted = sys.argv[1:]


class State(mocks.Mocks):
    def call(self, args):
        return {}

    def new_resource(self, args):
        state = dict(args.inputs)
        if args.typ == "kubernetes:core/v1:Namespace" and state["metadata"]["name"] == wanted:
            state["metadata"] = {**state["metadata"], "name": there}
        return f"{args.name}-id", state


async def main():
    mocks.set_mocks(State(), project="hybrid-mlops", stack="dev", preview=True)
    from pulumi_gcp import container
    from infra import settings
    from infra.kubernetes.namespaces import Namespaces

    given = settings.load("dev")
    assert given.kubernetes
    given = given.model_copy(update={"kubernetes": given.kubernetes.model_copy(update={"namespace": wanted})})
    cluster = container.Cluster("cluster", location="europe-west1")
    made = Namespaces("n", settings=given, cluster="eu", of=cluster)
    try:
        print(json.dumps({"name": await made.name.future()}))
    except pulumi.RunError as error:
        print(json.dumps({"refused": str(error)}))


asyncio.run(main())
"""


def _made(there: str, wanted: str) -> str:
    command = [sys.executable, "-c", PROGRAM, there, wanted]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
    assert done.stdout, done.stderr
    return done.stdout.splitlines()[0]


@pytest.mark.parametrize("wanted", ["mlops", "ml"])
def test_a_namespace_stays_what_it_was_made_as(wanted: str) -> None:
    assert _made(wanted, wanted) == f'{{"name": "{wanted}"}}'


def test_another_one_is_refused_with_how_to_move() -> None:
    said = _made("mlops", "ml")
    assert "refused" in said
    assert "kubernetes.namespace: it is mlops in the cluster, and cannot become ml there" in said
    assert "docs/runbooks/move-to-another-namespace.md" in said
    assert (CHECKOUT / "docs" / "runbooks" / "move-to-another-namespace.md").is_file()


def test_the_name_of_the_workloads_namespace_is_ignored_so_that_it_can_be_compared() -> None:
    found = inventory("dev").of_type("kubernetes:core/v1:Namespace")
    (workloads,) = [one for one in found if one.inputs["metadata"]["name"] == "mlops"]
    assert workloads.ignore_changes == ["metadata.name"]
