"""The page docs/reference/embedded-argo.md, made from the lists in `fields`.

`python -m mlops.engines.embedded.argo.reference` writes it; a test holds it to the code.
"""

from pathlib import Path

from mlops.engines.embedded.argo import expressions, fields

_PAGE = Path(__file__).parents[4] / "docs" / "reference" / "embedded-argo.md"
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
_INTRODUCTION = """\
# What the embedded engine executes of Argo

<!-- Made by `python -m mlops.engines.embedded.argo.reference`; a test holds it to the code. -->

The embedded engine runs the WorkflowTemplates that the Pulumi program registers, on one machine, with no cluster: each step is a process
of its image's own environment. Every field of a definition is in one of three lists. What is in neither of the two below is
refused by name when the definition is registered; nothing is silently left out.

## How it maps

| in Argo | on one machine |
| --- | --- |
| a pod with a `container` | a process in `images/<folder>`: the Dockerfile's ENTRYPOINT, CMD and ENV, `command` and `args` by Kubernetes' rules |
| mounted paths (`emptyDir`, artifacts, output parameters) | the step's own folder; an argument or a variable that is such a path, or begins with one and a slash, is given the path there |
| key-only `gcs` artifacts | the same keys in the platform's bucket, through the GCS API; always as they are, never packed |
| `resources.requests` | what runs side by side: cores (1,000 MHz each) and memory of the machine, shared out in order of arrival |
| `retryStrategy`, `when`, loops, `depends`, `failFast`, `onExit`, deadlines, `parallelism` | as in Argo |
| `memoize` | as in Argo; entries are in the state folder instead of ConfigMaps |
| a `resource` template that creates a SparkApplication | `spark-submit --master local[*]` with the same program, arguments and conf; its restart policy is honoured, its state is COMPLETED or FAILED |
| a `resource` template that deletes SparkApplications | nothing: Spark ends with the step that started it |
| exit code 137 and the like | 128 and the signal's number, as in containers |
| the controller restarts | what ran is `Error`, with a message that begins with `lost`; submit it again, memoised steps are not repeated |

Tags are filled text by text, so a value never changes the shape of a definition and is never filled again. Expressions (`{{=...}}`,
`valueFrom.expression`, `retryStrategy.expression`) know operators, `? :`, `??`, `in`, `matches`, slices, and these functions:
"""


def page() -> str:
    """The page's text."""
    parts = [_INTRODUCTION, ", ".join(f"`{name}`" for name in expressions.FUNCTIONS) + ".\n"]
    parts.append("\n## Executed\n\n| of | fields |\n| --- | --- |\n")
    for kind, title in _KINDS.items():
        listed = ", ".join(f"`{name.split('[')[0].removesuffix('.*')}`" for name in fields.EXECUTED[kind])
        parts.append(f"| {title} | {listed} |\n")
    parts.append(
        "\n## Without meaning on one machine\n\nSaid once a run, with the reason.\n\n| of | fields | why |\n| --- | --- | --- |\n"
    )
    for kind, title in _KINDS.items():
        reasons: dict[str, list[str]] = {}
        for name, reason in fields.NO_MEANING.get(kind, {}).items():
            reasons.setdefault(reason, []).append(name)
        for reason, names in reasons.items():
            parts.append(f"| {title} | {', '.join(f'`{name}`' for name in names)} | {reason} |\n")
    parts.append(
        "\n## Refused\n\nEverything else, by name: other kinds of template (`suspend`, `http`, `containerSet`, `data`, `plugin`), sidecars and "
        "init containers, daemons,\nhooks, `synchronization`, volumes other than `emptyDir`, secrets in the environment, other artifact "
        "stores, `globalName`, resources\nother than SparkApplications, ClusterWorkflowTemplates, and any field that is misspelt.\n"
    )
    return "".join(parts)


if __name__ == "__main__":
    _PAGE.parent.mkdir(parents=True, exist_ok=True)
    _PAGE.write_text(page())
