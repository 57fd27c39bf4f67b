"""The operators' charts, rendered with the values that the program gives them.

Every value is one that the chart knows, and what the chart then makes fits what the program registers beside it. Charts
are their publishers', so none is kept here: `helm` fetches them at the pinned versions, or the folder that MLOPS_CHARTS
names has them as `<chart>/Chart.yaml`.
"""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import naming, settings, versions
from infra.kubernetes import names, operators
from infra.kubernetes.access import ARTIFACTS
from infra.kubernetes.namespaces import WEBHOOK_PORT
from infra.versions import Chart
from tests.infra.kubernetes.conftest import Recorded

CHARTS = {
    versions.SPARK_OPERATOR: operators.spark_operator_values,
    versions.ARGO_WORKFLOWS: operators.argo_values,
}
_KUBERNETES = ("nodeSelector", "podSecurityContext", "resources", "securityContext")
CLOUD = [stack for stack in settings.stacks() if settings.load(stack).gcp]
Rendered = Mapping[str, list[dict[str, Any]]]

pytestmark = pytest.mark.engine


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Chart], Path]:
    """Where a chart lies at its pinned version; without helm, or the charts, what asks for it is skipped."""
    given, fetched = os.environ.get("MLOPS_CHARTS"), tmp_path_factory.mktemp("charts")

    def found(chart: Chart) -> Path:
        path = Path(given or fetched) / chart.name
        if not given and not path.exists():
            pull = ["pull", chart.name, "--repo", chart.repository, "--version", chart.version, "--untar"]
            done = _helm(*pull, "--destination", str(fetched))
            if done.returncode:
                pytest.skip(
                    f"chart {chart.name} {chart.version} could not be fetched, so the values of it were not tried; "
                    f"name a folder that has it by MLOPS_CHARTS: {done.stderr.strip()[-200:]}"
                )
        assert yaml.safe_load((path / "Chart.yaml").read_text())["version"] == chart.version
        return path

    return found


@pytest.fixture(scope="session")
def rendered(folder: Callable[[Chart], Path], recorded: Recorded, tmp_path_factory: pytest.TempPathFactory) -> Rendered:
    """Every object that the releases of a cluster make, hooks among them, by release."""
    made = {}
    for release in recorded.inside("eu"):
        if release.type.endswith(":Release"):
            given = release.inputs
            (chart,) = [chart for chart in CHARTS if chart.name == given["chart"]]
            values = tmp_path_factory.mktemp("values") / "values.yaml"
            values.write_text(yaml.safe_dump(given["values"]))
            done = _helm(
                "template",
                given["name"],
                str(folder(chart)),
                "--namespace",
                given["namespace"],
                "--values",
                str(values),
            )
            assert done.returncode == 0, done.stderr
            objects = [one for one in yaml.safe_load_all(done.stdout) if one]
            for one in objects:
                # What names no namespace goes into the release's.
                one["metadata"].setdefault("namespace", given["namespace"])
            made[given["name"]] = objects
    assert set(made) == {names.ARGO, names.SPARK_OPERATOR}
    return made


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.name)
def test_every_value_that_is_set_is_one_that_the_chart_has(chart: Chart, folder: Callable[[Chart], Path]) -> None:
    has = yaml.safe_load((folder(chart) / "values.yaml").read_text())
    for stack in CLOUD:
        given = CHARTS[chart](settings.load(stack))
        assert list(_unknown(given, has)) == []
    misspelt = {"controller": {"resource": {}}, "contoller": {}}
    assert list(_unknown(misspelt, has)) == ["controller.resource", "contoller"]


def test_pods_of_operators_are_from_the_stacks_registry_and_stay_on_the_system_pool(
    rendered: Rendered, recorded: Recorded
) -> None:
    ours = [naming.public_image(recorded.settings, f"{host}/") for host in ("ghcr.io", "quay.io")]
    pods = list(_pods(rendered))
    assert {name for name, _, _ in pods} >= {"spark-operator-hook", "spark-operator-webhook", "argo-workflows-server"}
    for name, _, template in pods:
        assert template["spec"]["nodeSelector"]["hybrid-mlops/pool"] == "system", name
        for container in template["spec"]["containers"]:
            assert container["image"].startswith(tuple(ours)), name
            # The namespace has a quota: without requests no pod would be let in.
            assert container["resources"]["requests"].keys() >= {"cpu", "memory"}, name
            assert "memory" in container["resources"]["limits"], name
    argo = [one for name, _, template in pods if name.startswith(names.ARGO) for one in template["spec"]["containers"]]
    started = [one["image"] for one in argo] + [arg for one in argo for arg in one["args"] if "/argoexec:" in arg]
    assert len(started) == 3
    assert all(image.endswith(f":{versions.ARGO_IMAGES}") for image in started), "controller, server and executor alike"


def test_operators_in_the_workloads_namespace_are_let_in_there(rendered: Rendered, recorded: Recorded) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted."""
    assert recorded.settings.kubernetes
    inside = [
        (name, template["spec"])
        for name, namespace, template in _pods(rendered)
        if namespace == recorded.settings.kubernetes.namespace
    ]
    assert len(inside) == 2
    for name, spec in inside:
        for container in spec["containers"]:
            security = {**spec.get("securityContext", {}), **container["securityContext"]}
            assert security["runAsNonRoot"] is True, name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"]["drop"] == ["ALL"], name
            assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name


def test_what_the_program_names_is_what_the_charts_make(rendered: Rendered, recorded: Recorded) -> None:
    argo = {(one["kind"], one["metadata"]["name"]): one for one in rendered[names.ARGO]}
    assert {("ServiceAccount", names.ARGO_CONTROLLER), ("ServiceAccount", names.ARGO_SERVER)} <= argo.keys()
    assert not [kind for kind, _ in argo if kind == "ClusterRoleBinding"], "its rights end at its namespace"
    service = argo["Service", names.ARGO_SERVER_SERVICE]["spec"]
    assert [port["port"] for port in service["ports"]] == [names.ARGO_SERVER_PORT]
    config = yaml.safe_load(argo["ConfigMap", "argo-workflows-workflow-controller-configmap"]["data"]["config"])
    assert config["artifactRepository"]["gcs"]["bucket"] == recorded.settings.buckets.artifacts
    # Helm has left Argo's own braces alone.
    assert config["artifactRepository"]["gcs"]["keyFormat"] == operators.KEY_FORMAT
    assert operators.KEY_FORMAT.startswith(f"{ARTIFACTS}/")
    assert config["workflowRestrictions"] == {"templateReferencing": "Strict"}
    # Rights on the workloads' namespace and its own, and admission there alone: anywhere else a failed webhook stops
    # pods that are nobody's business.
    spark = rendered[names.SPARK_OPERATOR]
    assert {one["metadata"]["namespace"] for one in spark if one["kind"] == "Role"} == {"mlops", "spark-operator"}
    hooks = [hook for one in spark if one["kind"].endswith("WebhookConfiguration") for hook in one["webhooks"]]
    assert hooks
    for hook in hooks:
        (where,) = hook["namespaceSelector"]["matchExpressions"]
        assert (where["key"], where["values"]) == ("kubernetes.io/metadata.name", ["mlops"])
    (webhook,) = [one["spec"] for one in spark if one["kind"] == "Service"]
    assert [port["port"] for port in webhook["ports"]] == [WEBHOOK_PORT]


def test_metrics_are_read_where_the_charts_put_them(rendered: Rendered, recorded: Recorded) -> None:
    read = [one.inputs for one in recorded.inside("eu") if one.type.endswith(":PodMonitoring")]
    assert len(read) == 2
    for one in read:
        wanted = one["spec"]["selector"]["matchLabels"].items()
        ports = [
            port["containerPort"]
            for _, namespace, template in _pods(rendered)
            if namespace == one["metadata"]["namespace"] and wanted <= template["metadata"].get("labels", {}).items()
            for container in template["spec"]["containers"]
            for port in container["ports"]
            if port.get("name") == "metrics"
        ]
        assert ports == [endpoint["port"] for endpoint in one["spec"]["endpoints"]], one["metadata"]["name"]


def _helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    if not shutil.which("helm"):
        pytest.skip(
            "the program `helm` is not on PATH, so no chart was rendered with the values given to it; install it"
        )
    return subprocess.run(["helm", *arguments], capture_output=True, text=True, timeout=120)


def _pods(rendered: Rendered) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Each pod that a release starts: the name of what starts it, its namespace, its template."""
    for objects in rendered.values():
        for one in objects:
            if one["kind"] in ("Deployment", "Job"):
                template = one["spec"]["template"]
                yield one["metadata"]["name"], one["metadata"]["namespace"], {"metadata": {}, **template}


def _unknown(given: Mapping[str, Any], has: Mapping[str, Any], where: str = "") -> Iterator[str]:
    """Paths of values that a chart does not have; what it hands on to Kubernetes is Kubernetes' to judge."""
    for key, value in given.items():
        if key not in has:
            yield f"{where}{key}"
        elif isinstance(value, Mapping) and has[key] and key not in _KUBERNETES:
            yield from _unknown(value, has[key], f"{where}{key}.")
