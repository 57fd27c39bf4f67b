"""Every Kubernetes object that a stack registers has only fields that its kind has."""

from collections.abc import Callable
from typing import Any

import pytest

from infra.settings import stacks
from inventory.resources import Inventory, Resource
from tests.platform import objects

NETWORK_POLICY = "kubernetes:networking.k8s.io/v1:NetworkPolicy"
TEMPLATE = "kubernetes:argoproj.io/v1alpha1:WorkflowTemplate"
MONITORING = "kubernetes:monitoring.googleapis.com/v1:PodMonitoring"


@pytest.mark.parametrize("stack", stacks())
def test_every_object_is_one_of_its_kind(stack: str, recorded: Callable[..., Inventory]) -> None:
    found = [resource for resource in recorded(stack).resources if resource.type.startswith("kubernetes:")]
    assert found
    assert [f"{resource.urn}: {problem}" for resource in found for problem in objects.problems(resource)] == []


@pytest.mark.parametrize(
    ("kind", "spec", "problem"),
    [
        (NETWORK_POLICY, {"podSelectr": {}}, "spec.podSelectr: is no field"),
        (NETWORK_POLICY, {"podSelector": {}, "ingress": [{"form": []}]}, "spec.ingress[0].form: is no field"),
        (NETWORK_POLICY, {"podSelector": {"matchLabels": {"a": 1}}}, "spec.podSelector.matchLabels.a: 1 is no str"),
        (NETWORK_POLICY, {"podSelector": {}, "policyTypes": "Egress"}, "spec.policyTypes: 'Egress' is no list"),
        ("kubernetes:core/v1:ResourceQuota", {"hard": {"pods": 3}}, "spec.hard.pods: 3 is no str"),
        (
            MONITORING,
            {"selector": {}, "endpoints": [{"port": 1, "interval": "1m", "pth": "/"}]},
            "spec.endpoints.0.pth: Extra inputs are not",
        ),
        (
            MONITORING,
            {"selector": {}, "endpoints": [{"port": "1", "interval": 60}]},
            "endpoints.0.interval: Input should",
        ),
        (TEMPLATE, {"entrypont": "main"}, "WorkflowTemplate x: .spec.entrypont is not a field"),
        ("kubernetes:example.com/v1:Thing", {}, "no typed model is known"),
    ],
)
def test_a_field_that_there_is_not_is_found(kind: str, spec: dict[str, Any], problem: str) -> None:
    version, _, name = kind.removeprefix("kubernetes:").rpartition(":")
    inputs = {"apiVersion": version, "kind": name, "metadata": {"name": "x"}, "spec": spec}
    given = Resource(type=kind, name="x", urn="x", custom=True, inputs=inputs, outputs={})
    assert problem in "\n".join(objects.problems(given))


@pytest.mark.parametrize("kind", [NETWORK_POLICY, MONITORING, TEMPLATE])
def test_metadata_too_has_only_fields_that_there_are(kind: str) -> None:
    version, _, name = kind.removeprefix("kubernetes:").rpartition(":")
    specs = {
        MONITORING: {"selector": {}, "endpoints": [{"port": 1, "interval": "1m"}]},
        NETWORK_POLICY: {},
        TEMPLATE: {},
    }
    metadata = {"name": "x", "lables": {"a": "b"}}
    inputs = {"apiVersion": version, "kind": name, "metadata": metadata, "spec": specs[kind]}
    given = Resource(type=kind, name="x", urn="x", custom=True, inputs=inputs, outputs={})
    (line,) = objects.problems(given)
    assert "metadata.lables" in line
