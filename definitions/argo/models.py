"""The objects of Argo that this project reads, field by field, by Argo's own names.

Owns types and defaults. It deliberately does not say which of them an engine executes, and fills no tag. Argo's own:
https://argo-workflows.readthedocs.io/en/stable/fields/
"""

import json
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from definitions.typed import DefinitionError, Quantity, Typed, Whole, parse

API = "argoproj.io/v1alpha1"


def json_text(value: Any) -> str:
    """JSON as Go writes it: no spaces, keys in order, <, > and & escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def text_of(value: Any) -> str:
    """A value as Argo puts it into a text: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json_text(value)


AnyText = Annotated[str, BeforeValidator(text_of)]
"""Argo's AnyString: any value, taken as text."""


class Metadata(Typed):
    """`metadata` of an object."""

    name: str = ""
    generate_name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Reference(Typed):
    """Another object, by its name."""

    name: str


class ValueFrom(Typed):
    """Where an output parameter's value comes from."""

    path: str = ""
    default: AnyText | None = None
    parameter: str = ""
    expression: str = ""
    json_path: str = ""


class Parameter(Typed):
    """A parameter that is declared, given, or put out."""

    name: str
    value: AnyText | None = None
    default: AnyText | None = None
    enum: list[AnyText] | None = None
    description: AnyText = ""
    value_from: ValueFrom = ValueFrom.model_construct()


class Gcs(Typed):
    """A place in a bucket."""

    key: str = ""
    bucket: str = ""


class Raw(Typed):
    """Content that stands in the definition."""

    data: str


class Archive(Typed):
    """How an artifact is packed."""

    none: Any = None


class Artifact(Typed):
    """An artifact that is declared, given, or put out."""

    name: str
    path: str = ""
    gcs: Gcs | None = None
    from_: str = Field(default="", alias="from")
    raw: Raw | None = None
    archive: Archive | None = None
    optional: bool = False
    description: str = ""


class Arguments(Typed):
    """Parameters and artifacts: those of a call, or a template's inputs or outputs."""

    parameters: list[Parameter] = []
    artifacts: list[Artifact] = []


class Env(Typed):
    """A variable of a container's environment."""

    name: str
    value: str = ""


class Amounts(Typed):
    """CPU and memory."""

    cpu: Quantity | None = None
    memory: Quantity | None = None


class Resources(Typed):
    """What a container asks for."""

    requests: Amounts = Amounts.model_construct()


class Mount(Typed):
    """Where a container sees a volume."""

    name: str
    mount_path: str


class Volume(Typed):
    """A volume of a template."""

    name: str
    empty_dir: Any = None


class Container(Typed):
    """`container`: an image, and what it runs."""

    name: str = ""
    image: str
    command: list[str] = []
    args: list[str] | None = None
    env: list[Env] = []
    working_dir: str = ""
    resources: Resources = Resources.model_construct()
    volume_mounts: list[Mount] = []


class Script(Typed):
    """`script`: an image, and a text that it runs."""

    name: str = ""
    image: str
    command: list[str] = []
    source: str
    env: list[Env] = []
    working_dir: str = ""
    resources: Resources = Resources.model_construct()
    volume_mounts: list[Mount] = []


class TemplateReference(Typed):
    """A template of another WorkflowTemplate."""

    name: str
    template: str


class Sequence(Typed):
    """The numbers that a loop has turns for."""

    count: Whole | None = None
    start: Whole = "0"
    end: Whole | None = None
    format: str = "%d"


class ContinueOn(Typed):
    """Bad ends of a step after which the others go on."""

    failed: bool = False
    error: bool = False


class Step(Typed):
    """A template as it is called, of a list of steps."""

    name: str
    template: str = ""
    template_ref: TemplateReference | None = None
    arguments: Arguments = Arguments.model_construct()
    with_items: list[Any] | None = None
    with_param: AnyText | None = None
    with_sequence: Sequence | None = None
    when: str = ""
    continue_on: ContinueOn = ContinueOn.model_construct()


class Task(Step):
    """A template as it is called, of a DAG."""

    dependencies: list[str] = []
    depends: str = ""


class Dag(Typed):
    """Tasks, each of which starts when those that it waits for have ended."""

    tasks: list[Task] = []
    fail_fast: bool = True


class Backoff(Typed):
    """The pause before another attempt."""

    duration: Annotated[str, BeforeValidator(text_of)]
    factor: Whole = "1"
    max_duration: AnyText = ""
    cap: AnyText = ""


class RetryStrategy(Typed):
    """How often a template is tried, and after which ends."""

    limit: Whole | None = None
    retry_policy: str = ""
    expression: str = ""
    backoff: Backoff | None = None


class Cache(Typed):
    """Where results are remembered."""

    config_map: Reference


class Memoize(Typed):
    """By what an earlier result is found again."""

    key: str
    max_age: AnyText = ""
    cache: Cache


class Manifest(Typed):
    """`resource`: an object of Kubernetes that is made or deleted."""

    action: str
    manifest: str = ""
    flags: list[str] = []
    success_condition: str = ""
    failure_condition: str = ""


class Template(Typed):
    """One template; exactly one of its kinds is set."""

    name: str
    inputs: Arguments = Arguments.model_construct()
    outputs: Arguments = Arguments.model_construct()
    container: Container | None = None
    script: Script | None = None
    dag: Dag | None = None
    steps: list[list[Step]] | None = None
    resource: Manifest | None = None
    retry_strategy: RetryStrategy | None = None
    memoize: Memoize | None = None
    active_deadline_seconds: Whole | None = None
    parallelism: int | None = None
    fail_fast: bool | None = None
    volumes: list[Volume] = []

    def groups(self) -> list[list[Task]] | list[list[Step]]:
        """What it calls: a DAG's tasks as one group, or steps group by group."""
        return [self.dag.tasks] if self.dag else self.steps or []

    def calls(self) -> Iterator[Step]:
        """What it calls."""
        return (call for group in self.groups() for call in group)


class WorkflowMetadata(Typed):
    """Labels and annotations of every workflow that is made of a template."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class Spec(Typed):
    """The workflow that would run."""

    entrypoint: str = ""
    arguments: Arguments = Arguments.model_construct()
    templates: list[Template] = []
    on_exit: str = ""
    active_deadline_seconds: int | None = None
    parallelism: int | None = None
    service_account_name: str = ""
    workflow_metadata: WorkflowMetadata = WorkflowMetadata.model_construct()
    workflow_template_ref: Reference | None = None

    def template(self, name: str) -> Template | None:
        """The template of a name."""
        return next((template for template in self.templates if template.name == name), None)


class CronSpec(Typed):
    """What a schedule starts."""

    workflow_spec: Spec


class _Definition(Typed):
    api_version: str
    kind: str
    metadata: Metadata = Metadata.model_construct()


class WorkflowTemplate(_Definition):
    """A workflow that can be started by its name."""

    spec: Spec

    @property
    def workflow(self) -> Spec:
        """The workflow that would run."""
        return self.spec


class CronWorkflow(_Definition):
    """A schedule, and the workflow that it starts."""

    spec: CronSpec

    @property
    def workflow(self) -> Spec:
        """The workflow that would run."""
        return self.spec.workflow_spec


class SubmittedSpec(Typed):
    """Which template a submitted workflow runs, and with what."""

    workflow_template_ref: Reference
    arguments: Arguments = Arguments.model_construct()
    entrypoint: str = ""


class Submitted(Typed):
    """A workflow that a user submits."""

    metadata: Metadata = Metadata.model_construct()
    spec: SubmittedSpec


KINDS: dict[str, type[WorkflowTemplate] | type[CronWorkflow]] = {
    "WorkflowTemplate": WorkflowTemplate,
    "CronWorkflow": CronWorkflow,
}


def parse_definition(value: Any) -> WorkflowTemplate | CronWorkflow:
    """A WorkflowTemplate or CronWorkflow as its type.

    Raises:
        DefinitionError: It is neither, or of another shape than Argo's.
    """
    raw = value if isinstance(value, dict) else {}
    api, kind = raw.get("apiVersion"), raw.get("kind")
    if api != API or not isinstance(kind, str) or kind not in KINDS:
        raise DefinitionError([f"{api} {kind}: only WorkflowTemplates and CronWorkflows of {API} are registered"])
    metadata = raw.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return parse(KINDS[kind], raw, f"{kind} {name or '?'}")
