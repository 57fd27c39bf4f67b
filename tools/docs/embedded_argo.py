"""The reference page of what is executed of Argo, made from `definitions` and the list in `support`."""

from pathlib import Path

from definitions import spark
from definitions.argo import models
from definitions.typed import Typed
from mlops.engines.embedded.argo import expressions, support

_BEGINNING = Path(__file__).with_suffix(".md")
_REFUSED = """\
## Refused

Everything else, by name: other kinds of template (`suspend`, `http`, `containerSet`, `data`, `plugin`), sidecars and
init containers, daemons, hooks, `synchronization`, volumes other than `emptyDir`, secrets in the environment, other
artifact stores, `globalName`, resources other than SparkApplications, ClusterWorkflowTemplates, and any field that is
misspelt.
"""
_KINDS: dict[type[Typed], str] = {
    models.Spec: "`spec` of a WorkflowTemplate",
    models.CronSpec: "`spec` of a CronWorkflow",
    models.Template: "a template",
    models.Container: "`container`",
    models.Script: "`script`",
    models.Task: "a DAG's task",
    models.Step: "a step",
    models.Parameter: "a parameter",
    models.ValueFrom: "`valueFrom`",
    models.Artifact: "an artifact",
    models.Gcs: "`gcs`",
    models.Resources: "`resources`",
    models.Amounts: "`requests`",
    models.RetryStrategy: "`retryStrategy`",
    models.Backoff: "`backoff`",
    models.Memoize: "`memoize`",
    models.Manifest: "`resource`",
    spark.SparkSpec: "`spec` of a SparkApplication",
    spark.SparkPod: "its `driver` and `executor`",
    spark.RestartPolicy: "its `restartPolicy`",
}


def page() -> str:
    """The page's text."""
    functions = ", ".join(f"`{name}`" for name in expressions.FUNCTIONS)
    parts = [_BEGINNING.read_text(), f"{functions}.\n", "\n## Executed\n\n| of | fields |\n| --- | --- |\n"]
    for kind, title in _KINDS.items():
        listed = ", ".join(f"`{name}`" for name in support.executed(kind))
        parts.append(f"| {title} | {listed} |\n")
    parts.append("\n## Without meaning on one machine\n\nSaid once a run, with the reason.\n\n")
    parts.append("| of | fields | why |\n| --- | --- | --- |\n")
    for kind, title in _KINDS.items():
        reasons: dict[str, list[str]] = {}
        for name, reason in support.NO_MEANING.get(kind, {}).items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            parts.append(f"| {title} | {', '.join(f'`{name}`' for name in names)} | {reason} |\n")
    return "".join([*parts, "\n", _REFUSED])
