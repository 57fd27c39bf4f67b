"""All workflow templates that stack local registers, whichever pipeline they are of: held to the same checks.

A new folder of `jobs/` with a `templates.py` is here without being named.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from infra import images, settings
from infra.settings import ROOT
from mlops import parameters
from tests.argo import checks
from tests.stack_inventories import inventory

KINDS = "kubernetes:argoproj.io/v1alpha1:"
PIPELINES = sorted(ROOT.glob("jobs/*/templates.py"))


def _known() -> checks.Known:
    stack = settings.load("local")
    assert stack.kubernetes is not None
    assert stack.images.repository is not None
    names = [images.name(ROOT, file.parent.name, stack.images.repository) for file in ROOT.glob("images/*/Dockerfile")]
    buckets = [getattr(stack.buckets, name) for name in ("models", "data", "artifacts")]
    return checks.Known(stack.kubernetes.namespace, names, list(stack.kubernetes.service_accounts.values()), buckets)


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """Whole objects, as the program registers them."""
    resources = inventory("local", preview=True).resources
    found = [dict(one.inputs) for one in resources if one.type.startswith(KINDS)]
    assert found
    return found


def test_what_is_registered_holds(objects: list[dict[str, Any]]) -> None:
    assert [f"{name}: {one}" for name, check in checks.every(_known()).items() for one in check(objects)] == []


@pytest.mark.parametrize("file", PIPELINES, ids=[file.parent.name for file in PIPELINES])
def test_a_pipelines_parameters_are_its_templates_arguments_and_stand_in_its_readme(
    file: Path, objects: list[dict[str, Any]]
) -> None:
    name = file.parent.name.replace("_", "-")
    declared = parameters.load(file.with_name("parameters.yaml")).parameters
    (template,) = [one for one in objects if (one["kind"], one["metadata"]["name"]) == ("WorkflowTemplate", name)]
    stack = settings.load("local").jobs.get(name)
    defaults = {key: None if one.required else one.default_text for key, one in declared.items()}
    arguments = template["spec"]["arguments"]["parameters"]
    assert {one["name"]: one.get("value") for one in arguments} == defaults | dict(stack.parameters if stack else {})
    table = file.with_name("README.md").read_text()
    assert [name for name in declared if f"| `{name}` |" not in table] == []


@pytest.mark.engine
@pytest.mark.skipif(shutil.which("argo") is None, reason="argo is not on PATH")
def test_argos_own_linter_passes(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    done = checks.lint(objects, tmp_path / "all")
    assert done.returncode == 0, done.stdout + done.stderr
