"""The page docs/reference/embedded-argo.md, made from the lists in `fields`.

`python -m mlops.engines.embedded.argo.reference` writes it; a test holds it to the code.
"""

from pathlib import Path

from mlops.engines.embedded.argo import expressions, fields

_PAGE = Path(__file__).parents[4] / "docs" / "reference" / "embedded-argo.md"
_BEGINNING = Path(__file__).with_suffix(".md")
_REFUSED = """\
## Refused

Everything else, by name: other kinds of template (`suspend`, `http`, `containerSet`, `data`, `plugin`), sidecars and
init containers, daemons, hooks, `synchronization`, volumes other than `emptyDir`, secrets in the environment, other
artifact stores, `globalName`, resources other than SparkApplications, ClusterWorkflowTemplates, and any field that is
misspelt.
"""
_KINDS = {
    "spec": "`spec` of a WorkflowTemplate",
    "cron": "`spec` of a CronWorkflow",
    "template": "a template",
    "container": "`container`",
    "script": "`script`",
    "task": "a DAG's task",
    "step": "a step",
    "parameter": "a parameter",
    "valueFrom": "`valueFrom`",
    "artifact": "an artifact",
    "gcs": "`gcs`",
    "resources": "`resources`",
    "amounts": "`requests`",
    "retryStrategy": "`retryStrategy`",
    "backoff": "`backoff`",
    "memoize": "`memoize`",
    "resource": "`resource`",
    "spark": "`spec` of a SparkApplication",
    "sparkPod": "its `driver` and `executor`",
    "restartPolicy": "its `restartPolicy`",
}


def page() -> str:
    """The page's text."""
    functions = ", ".join(f"`{name}`" for name in expressions.FUNCTIONS)
    parts = [_BEGINNING.read_text(), f"{functions}.\n", "\n## Executed\n\n| of | fields |\n| --- | --- |\n"]
    for kind, title in _KINDS.items():
        listed = ", ".join(f"`{name.split('[')[0].removesuffix('.*')}`" for name in fields.EXECUTED[kind])
        parts.append(f"| {title} | {listed} |\n")
    parts.append("\n## Without meaning on one machine\n\nSaid once a run, with the reason.\n\n")
    parts.append("| of | fields | why |\n| --- | --- | --- |\n")
    for kind, title in _KINDS.items():
        reasons: dict[str, list[str]] = {}
        for name, reason in fields.NO_MEANING.get(kind, {}).items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            parts.append(f"| {title} | {', '.join(f'`{name}`' for name in names)} | {reason} |\n")
    return "".join([*parts, "\n", _REFUSED])


if __name__ == "__main__":
    _PAGE.parent.mkdir(parents=True, exist_ok=True)
    _PAGE.write_text(page())
