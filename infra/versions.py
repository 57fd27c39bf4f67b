"""Versions of what the program installs into clusters, each with where it was read. Nothing here is a range.

Provider and library versions are in `pyproject.toml`, tools of people who deploy in `mise.toml`, bases of images in
their Dockerfiles. How to raise one: docs/runbooks/upgrade-charts.md.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Chart:
    """A Helm chart at one version."""

    name: str
    version: str
    repository: str


SPARK_OPERATOR = Chart("spark-operator", "2.5.2", "https://kubeflow.github.io/spark-operator")
"""kubeflow/spark-operator, tag v2.5.2 (31 July 2026), charts/spark-operator-chart/Chart.yaml: chart and operator have
one version. The operator submits with Spark 4.0.4 (its Dockerfile), so the image of the jobs is of Spark 4.0 too."""

ARGO_WORKFLOWS = Chart("argo-workflows", "1.0.18", "https://argoproj.github.io/argo-helm")
"""argoproj/argo-helm, charts/argo-workflows/Chart.yaml (2 July 2026); its own default is Argo v4.0.6."""

ARGO_IMAGES = "v4.0.10"
"""argoproj/argo-workflows, tag v4.0.10 (21 August 2026): the newest patch release of the chart's line, with security
fixes. The tag of controller, executor and server alike."""
