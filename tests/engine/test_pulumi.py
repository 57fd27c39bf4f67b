"""The program on the real `pulumi`, with the stand-in provider behind it: every step of a stack's life."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlops.plan import record
from tests.engine.provider import PassThrough, debug_providers, serving

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(
        not shutil.which("pulumi"),
        reason="the program `pulumi` is not on PATH, so the program was tried under Pulumi's mocks only; install it",
    ),
]

ADDRESS = "http://127.0.0.1:4646"
"""Where the recorder lets the program believe Nomad to be; nothing asks there."""
KUBECONFIG = "/nowhere/kubeconfig"
"""The same, of a cluster."""
JOB = "nomad:index/job:Job"
TEMPLATE = "kubernetes:argoproj.io/v1alpha1:WorkflowTemplate"


@dataclass
class Stack:
    """A stack of a checkout of its own, with its state in a folder."""

    name: str
    checkout: Path
    environment: Mapping[str, str]
    provider: PassThrough

    def pulumi(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the real command on it."""
        return subprocess.run(
            ["pulumi", *arguments, "--non-interactive", "--color", "never"],
            cwd=self.checkout,
            env={**self.environment, **more},
            capture_output=True,
            text=True,
            timeout=300,
        )

    def must(self, *arguments: str) -> str:
        """Run it; it must succeed."""
        done = self.pulumi(*arguments, NOMAD_ADDR=ADDRESS, KUBECONFIG=KUBECONFIG)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run(self, verb: str, *options: str) -> list[tuple[str, str]]:
        """Update or destroy the stack, and give what was asked of the provider for it: (method, name)."""
        self.provider.calls.clear()
        said = self.must(verb, "--yes", "--skip-preview", "--stack", self.name, *options)
        assert "warning:" not in said, said
        return sorted((method, urn.rpartition("::")[2]) for method, urn in self.provider.calls)

    def state(self) -> dict[str, dict[str, Any]]:
        """What the state holds, by URN, without the stack itself."""
        exported = json.loads(self.must("stack", "export", "--stack", self.name))
        return {
            resource["urn"]: resource
            for resource in exported["deployment"].get("resources", [])
            if resource["type"] != "pulumi:pulumi:Stack"
        }


@pytest.fixture
def stack(scratch_checkout: Path, tmp_path: Path) -> Iterator[Stack]:
    """Stack `local`, initialised and empty."""
    backend = tmp_path / "backend"
    backend.mkdir()
    kept = {key: os.environ[key] for key in ("PATH", "LANG", "LC_ALL") if key in os.environ}
    environment = {
        **kept,
        "HOME": str(tmp_path / "home"),
        "PULUMI_HOME": str(tmp_path / "home" / ".pulumi"),
        "PULUMI_BACKEND_URL": backend.as_uri(),
        "PULUMI_CONFIG_PASSPHRASE": "of this test only",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
    }
    provider = PassThrough()
    with serving(provider) as port:
        one = Stack(
            "local", scratch_checkout, {**environment, **debug_providers(port, "nomad", "kubernetes")}, provider
        )
        one.must("stack", "init", one.name)
        yield one


def test_a_stack_goes_through_its_life(stack: Stack) -> None:
    recorded = record("local", root=stack.checkout)
    jobs, templates = ([resource.name for resource in recorded.of_type(kind)] for kind in (JOB, TEMPLATE))
    assert jobs
    assert templates
    names = sorted(jobs + templates)

    preview = json.loads(stack.must("preview", "--json", "--stack", stack.name))
    planned = [step["newState"] for step in preview["steps"] if step["newState"]["type"] in (JOB, TEMPLATE)]
    assert sorted(state["urn"].rpartition("::")[2] for state in planned) == names
    shown = [state["inputs"].get("jobspec") or state["inputs"]["spec"]["templates"] for state in planned]
    assert all(shown), "a preview shows what is registered"
    assert set(preview["changeSummary"]) == {"create"}
    assert stack.provider.calls == [], "a preview creates nothing"

    assert stack.run("up") == [("Create", name) for name in names]
    assert stack.run("up", "--expect-no-changes") == []

    file = stack.checkout / "stacks" / f"Pulumi.{stack.name}.yaml"
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    document["config"]["hybrid-mlops:jobs"].setdefault(jobs[0], {})["count"] = 2
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    assert stack.run("up") == [("Update", jobs[0])]
    (held,) = (state for urn, state in stack.state().items() if urn.endswith(f"{JOB}::{jobs[0]}"))
    assert held["inputs"]["hcl2"]["vars"]["count"] == "2"

    assert stack.run("destroy") == [("Delete", name) for name in names]
    assert stack.state() == {}


def test_pulumi_registers_what_the_recorder_says(stack: Stack) -> None:
    stack.run("up")
    state = stack.state()
    recorded = {resource.urn: resource for resource in record("local", root=stack.checkout).resources}
    assert set(state) == set(recorded)
    for urn, resource in recorded.items():
        held = state[urn]
        assert held.get("protect", False) == resource.protect, urn
        assert _parent(held) == resource.parent, urn
        assert _provider(held) == resource.provider, urn
        if resource.custom:
            assert _without_engines_own(held["inputs"]) == resource.inputs, urn


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "hybrid-mlops:nomad.address: this stack names no Nomad and NOMAD_ADDR is not set"),
        (
            {"NOMAD_ADDR": ADDRESS},
            "hybrid-mlops:kubernetes.context: this stack names no cluster and KUBECONFIG is not set",
        ),
    ],
    ids=["nomad", "kubernetes"],
)
def test_without_an_engine_it_says_so_in_one_line(stack: Stack, given: dict[str, str], message: str) -> None:
    done = stack.pulumi("up", "--yes", "--stack", stack.name, **given)
    assert done.returncode != 0
    told = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip().startswith("error: ")]
    assert len(told) == 2, told
    assert told[0].startswith(f"error: {message}")
    assert told[1] == "error: an unhandled error occurred: program exited with non-zero exit code: 1", "Pulumi's own"
    assert "Traceback" not in done.stdout + done.stderr
    assert stack.provider.calls == []


def _parent(held: Mapping[str, Any]) -> str | None:
    parent = held.get("parent", "")
    return None if "pulumi:pulumi:Stack" in parent.split("::")[2:3] else parent or None


def _provider(held: Mapping[str, Any]) -> str | None:
    return held.get("provider", "").rpartition("::")[0] or None


def _without_engines_own(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in inputs.items() if key not in ("version", "__internal")}
