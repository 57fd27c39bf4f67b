"""A stack with two clusters, recorded: the foundation, the clusters, and templates in each; nothing of Nomad."""

import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from infra import settings
from infra.settings import ROOT, Settings
from inventory.recorder import record
from inventory.resources import Inventory, Resource

PROGRAM = """
from pathlib import Path

import pulumi

from infra import providers, settings
from infra.foundation.foundation import Foundation
from infra.kubernetes.platform import KubernetesPlatform
from infra.workloads.workflow_templates import WorkflowTemplates

root = Path(__file__).parent
with settings.mistakes_told_plainly():
    stack = settings.from_pulumi()
    below = pulumi.ResourceOptions(providers=providers.provisioning(stack))
    foundation = Foundation("foundation", settings=stack, opts=below)
    platform = KubernetesPlatform("kubernetes", settings=stack, foundation=foundation, opts=below)
    for cluster, provider in platform.providers.items():
        inside = pulumi.ResourceOptions(provider=provider, depends_on=platform.ready[cluster])
        WorkflowTemplates(f"templates-{cluster}", root=root, settings=stack, cluster=cluster, opts=inside)
"""
COPIED = (
    "stacks",
    "definitions",
    "infra",
    "inventory",
    "jobs",
    "images",
    "mlops",
    "registry",
    "requirements",
    "pyproject.toml",
    "Pulumi.yaml",
)
ADMINISTRATOR = "group:platform@example.com"
FURTHER_CLUSTER: dict[str, Any] = {
    "region": "us-east1",
    "zones": ["us-east1-b", "us-east1-c"],
    "node_pools": {
        "system": {"machine_type": "n1-standard-2", "min": 1, "max": 2},
        "workflows": {"machine_type": "n1-standard-2", "max": 3},
        "batch": {"machine_type": "n1-highmem-4", "max": 2, "spot": True},
    },
}


@dataclass(frozen=True)
class Recorded:
    """What the stack registers in both modes."""

    settings: Settings
    preview: Inventory
    update: Inventory

    def named(self, name: str, kind: str = "") -> Resource:
        """A resource of the preview, by its logical name and, where two have it, its kind; components are none."""
        (found,) = [
            resource
            for resource in self.preview.resources
            if resource.name == name and resource.custom and ":providers:" not in resource.type
            if not kind or resource.type.endswith(f":{kind}")
        ]
        return found

    def inside(self, cluster: str) -> list[Resource]:
        """What the preview has inside a cluster."""
        (provider,) = [r for r in self.preview.of_type("pulumi:providers:kubernetes") if r.name.endswith(f"-{cluster}")]
        return [resource for resource in self.preview.resources if resource.provider == provider.urn]

    def before(self, resource: Resource) -> set[str]:
        """Logical names of all that exists before a resource, over as many edges as it takes."""
        by_urn = {each.urn: each for each in self.preview.resources}
        found: set[str] = set()
        left = [resource.urn]
        while left:
            each = by_urn[left.pop()]
            for urn in {*each.dependencies, each.parent, each.provider} - {None} - found:
                found.add(str(urn))
                left.append(str(urn))
        return {by_urn[urn].name for urn in found}


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Stack dev with a second cluster in another region, and a pool that no kind of pod is named after."""
    tree = tmp_path_factory.mktemp("clusters") / "tree"
    left_out = shutil.ignore_patterns("__pycache__", "node_modules", "target", ".venv")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tree / name, ignore=left_out)
        else:
            shutil.copy2(ROOT / name, tree / name)
    (tree / "__main__.py").write_text(PROGRAM)
    subprocess.run(["git", "init", "-q"], cwd=tree, check=True)
    path = tree / "stacks" / "Pulumi.dev.yaml"
    document = yaml.safe_load(path.read_text())
    config = document["config"]
    subnet = {"nodes": "10.128.0.0/20", "pods": "10.129.0.0/18", "services": "10.128.16.0/20"}
    config["hybrid-mlops:network"]["subnets"]["us-east1"] = subnet
    config["hybrid-mlops:kubernetes"]["clusters"]["us"] = FURTHER_CLUSTER
    config["hybrid-mlops:gcp"] |= {"protect": True, "alert_emails": ["platform@example.com"]}
    config["hybrid-mlops:gcp"]["administrators"] = [ADMINISTRATOR]
    config["hybrid-mlops:jobs"]["model-refit"] = {
        "variables": {"schedules": ["0 3 * * 0"]},
        "parameters": {"data_uri": "gs://hybrid-mlops-dev-data/raw/x"},
    }
    path.write_text(yaml.safe_dump(document))
    return Recorded(settings.load("dev", path.parent), record("dev", preview=True, root=tree), record("dev", root=tree))
