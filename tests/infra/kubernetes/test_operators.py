"""What the charts are given: that operators can be reached, stay in their place, and find what others set."""

import re
from typing import Any

import pytest

from infra import settings, versions
from infra.kubernetes import namespaces, operators
from infra.settings import ROOT
from tests.infra.kubernetes.conftest import Recorded


@pytest.fixture(scope="module")
def argo() -> dict[str, Any]:
    return operators.argo_values(settings.load("dev"))


@pytest.fixture(scope="module")
def spark() -> dict[str, Any]:
    return operators.spark_operator_values(settings.load("dev"))


def test_charts_are_pinned_and_their_crds_are_kept_up(recorded: Recorded) -> None:
    releases = {r.inputs["chart"]: r for r in recorded.inside("eu") if r.type.endswith(":Release")}
    for chart in (versions.SPARK_OPERATOR, versions.ARGO_WORKFLOWS):
        given = releases[chart.name].inputs
        assert (given["version"], given["repositoryOpts"]["repo"]) == (chart.version, chart.repository)
        assert re.fullmatch(r"\d+\.\d+\.\d+", chart.version)
    assert releases["spark-operator"].inputs["values"]["hook"]["upgradeCrd"]
    crds = releases["argo-workflows"].inputs["values"]["crds"]
    # `full` fetches from the internet in a hook; without `keep` an uninstalled chart takes every workflow with it.
    assert crds == {"install": True, "keep": True, "full": False}


def test_people_have_the_argo_that_clusters_have() -> None:
    mise = (ROOT / "mise.toml").read_text()
    assert f'argo = "{versions.ARGO_IMAGES.removeprefix("v")}"' in mise


def test_logs_and_artifacts_lie_where_the_grants_reach(argo: dict[str, Any]) -> None:
    text = argo["artifactRepository"]["gcs"]["keyFormat"]
    # Helm renders it: outside of one raw string it would take Argo's braces for its own.
    assert re.fullmatch(r"\{\{ `[^`]+` \}\}", text)
    assert text[len("{{ `") : -len("` }}")] == "runs/{{workflow.uid}}/{{pod.name}}"


def test_the_control_plane_reaches_the_webhooks(spark: dict[str, Any], recorded: Recorded) -> None:
    policy = recorded.named("kubernetes-eu-namespaces-policy-operator").inputs["spec"]
    opened = [rule for rule in policy["ingress"] if "from" not in rule]
    # 10250 is open from the control plane to nodes in every cluster of GKE; 9443, the chart's default, is not.
    assert spark["webhook"]["port"] == 10250
    assert opened == [{"ports": [{"port": 10250, "protocol": "TCP"}]}]


def test_operators_stay_in_their_namespaces(argo: dict[str, Any], spark: dict[str, Any]) -> None:
    assert argo["singleNamespace"], "or it may start pods and read secrets in every namespace"
    assert spark["spark"]["jobNamespaces"] == ["mlops"]
    assert argo["controller"]["workflowRestrictions"] == {"templateReferencing": "Strict"}
    assert argo["server"]["authModes"] == ["client"]


def test_pods_of_workloads_meet_the_strictest_standard_and_connect_to_nothing_unlisted(recorded: Recorded) -> None:
    namespace = recorded.named("kubernetes-eu-namespaces-workloads").inputs["metadata"]
    assert namespace["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    everything = recorded.named("kubernetes-eu-namespaces-policy-outside").inputs["spec"]
    assert everything["podSelector"] == {}
    assert everything["policyTypes"] == ["Ingress", "Egress"]
    assert everything["ingress"] == []
    ports = {(port["port"], port["protocol"]) for rule in everything["egress"] for port in rule["ports"]}
    assert ports == {(53, "UDP"), (53, "TCP"), (443, "TCP"), (80, "TCP"), (8080, "TCP"), (987, "TCP"), (988, "TCP")}


def test_a_namespace_may_ask_for_what_its_pools_have_at_most() -> None:
    kubernetes = settings.load("dev").kubernetes
    assert kubernetes
    quota = namespaces.quotas(kubernetes.clusters["eu"])
    # 2 * n1-standard-2, 3 * n1-standard-2, 4 * n1-standard-4, 3 * n1-highmem-2
    assert quota["requests.cpu"] == str(2 * 2 + 3 * 2 + 4 * 4 + 3 * 2)
    assert quota["requests.memory"] == f"{(2 + 3) * 2 * 3840 + 4 * 4 * 3840 + 3 * 2 * 6656}Mi"
