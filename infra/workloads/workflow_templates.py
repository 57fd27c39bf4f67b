"""The workflow templates: what every `jobs/*/templates.py` renders, registered as custom resources of a cluster.

Owns which pipelines there are, what each is told of the stack (the `Context` of its `context.py`), and the stack's
defaults for parameters of a run: they become the template's own, so that a schedule starts with them too. It
deliberately registers templates and schedules only: a Workflow or a SparkApplication would run at every `up`. All
values are known, so that a preview shows them and the embedded engine runs the same. Namespace, service accounts and
Argo itself are the cluster's: they exist, or `infra.kubernetes` makes them first.
"""

import dataclasses
import difflib
import importlib
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pulumi
from pydantic import TypeAdapter, ValidationError

from infra import images, naming, pipelines
from infra.kubernetes.placement import placed
from infra.settings import PROJECT, JobSettings, KubernetesSettings, Settings, SettingsError

API = "argoproj.io/v1alpha1"
KINDS = ("WorkflowTemplate", "CronWorkflow")
LABELS = {"app.kubernetes.io/part-of": PROJECT, "app.kubernetes.io/managed-by": "pulumi"}

# Where a stack sets what the program gives to a context.
_SET_BY = {
    "namespace": "kubernetes.namespace",
    "images": "images.repository",
    "gcp_bucket_path": "buckets.models",
    "data_bucket": "buckets.data",
    "artifact_bucket": "buckets.artifacts",
    "service_accounts": "kubernetes.service_accounts",
    "pools": "kubernetes.pools",
    "maven_repository": "kubernetes.maven_repository",
    "resources": "jobs.{job}.resources",
    "data_uri": "jobs.{job}.parameters.data_uri",
    "labels": "nothing: it is the same everywhere",
}


class WorkflowTemplates(pulumi.ComponentResource):
    """Every WorkflowTemplate and CronWorkflow of a checkout, in one cluster.

    Attributes:
        names: `<kind>/<name>` of each.
    """

    names: list[str]

    def __init__(
        self,
        name: str,
        *,
        root: Path,
        settings: Settings,
        cluster: str | None = None,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        """Register them.

        Args:
            name: The component's name.
            root: The checkout, with its `jobs/` and `images/`; on the module search path.
            settings: The stack's settings, with `kubernetes` among them.
            cluster: Which of `kubernetes.clusters` it is; None for a cluster that exists.
            opts: Its options: the provider of the cluster, and, where the stack provisions it, what must be in it.

        Raises:
            SettingsError: A pipeline and the stack's settings do not go together. Nothing is registered then.
        """
        from pulumi_kubernetes.apiextensions import CustomResource

        if settings.kubernetes is None:
            raise SettingsError(f"{PROJECT}:kubernetes: is missing, so there is no cluster to register with; add it")
        files = pipelines.files(root, pipelines.ARGO)
        rendered = [_rendered(file, root, settings, settings.kubernetes, cluster) for file in files]
        if cluster and cluster != min(settings.kubernetes.clusters):
            # A schedule is kept once, in the cluster that is first by name: in each it would start as many runs.
            rendered = [[one for one in found if one["kind"] != "CronWorkflow"] for found in rendered]

        super().__init__(f"{PROJECT}:workloads:WorkflowTemplates", name, None, opts)
        self.names = []
        for definitions in rendered:
            templates: list[pulumi.Resource] = []
            for definition in definitions:
                # A schedule comes after what it starts, and goes before it.
                after = templates if definition["kind"] == "CronWorkflow" else []
                made = CustomResource(
                    f"{name}-{definition['metadata']['name']}" if cluster else definition["metadata"]["name"],
                    api_version=definition["apiVersion"],
                    kind=definition["kind"],
                    metadata=definition["metadata"],
                    spec=definition["spec"],
                    opts=pulumi.ResourceOptions(parent=self, depends_on=list(after)),
                )
                if definition["kind"] == "WorkflowTemplate":
                    templates.append(made)
                self.names.append(f"{definition['kind']}/{definition['metadata']['name']}")
        self.register_outputs({"names": self.names})


def _rendered(
    file: Path, root: Path, settings: Settings, kubernetes: KubernetesSettings, cluster: str | None
) -> list[dict[str, Any]]:
    folder = file.parent.name
    origin = f"jobs/{folder}"
    if not file.with_name("context.py").is_file():
        raise SettingsError(
            f"{origin}/{pipelines.ARGO}: has no context.py beside it, so it cannot be told of the stack; write one "
            "with a dataclass Context and the list IMAGES"
        )
    module = importlib.import_module(f"jobs.{folder}.context")
    context = _context(module, root, settings, kubernetes, folder, cluster)
    try:
        definitions = importlib.import_module(f"jobs.{folder}.templates").render(context)
    except ValueError as error:
        raise SettingsError(f"{origin}/{pipelines.ARGO}: {_line(error)}") from None
    for definition in definitions:
        _check(definition, f"{origin}/{pipelines.ARGO}", kubernetes)
    _set_defaults(definitions, naming.job_id(folder), settings)
    # A schedule names its template, wherever `render` put it.
    return sorted(definitions, key=lambda definition: KINDS.index(definition["kind"]))


def _context(
    module: ModuleType,
    root: Path,
    settings: Settings,
    kubernetes: KubernetesSettings,
    folder: str,
    cluster: str | None,
) -> object:
    job_id = naming.job_id(folder)
    job = settings.jobs.get(job_id, JobSettings())
    origin, path = f"jobs/{folder}/context.py", f"{PROJECT}:jobs.{job_id}"
    types = typing.get_type_hints(module.Context)
    fields = [field.name for field in dataclasses.fields(module.Context)]
    free = [name for name in fields if name not in _SET_BY]
    given: dict[str, Any] = {
        "namespace": kubernetes.namespace,
        "images": dict(_images(module, root, settings, origin)),
        "gcp_bucket_path": f"gs://{settings.buckets.models}/models",
        "data_bucket": settings.buckets.data,
        "artifact_bucket": settings.buckets.artifacts,
        "service_accounts": dict(kubernetes.service_accounts),
        "pools": _pools(module, kubernetes, cluster),
        "maven_repository": naming.maven_repository(settings),
        "resources": {step: size.model_dump() for step, size in job.resources.items()},
        "data_uri": job.parameters.get("data_uri", ""),
        "labels": LABELS,
    }
    given = {name: value for name, value in given.items() if name in fields}
    if job.resources and "resources" not in fields:
        raise SettingsError(f"{path}.resources: {origin} takes none, so it would do nothing; remove it")
    for name, value in job.variables.items():
        where = f"{path}.variables.{name}"
        if name in _SET_BY:
            fix = _SET_BY[name].format(job=job_id)
            raise SettingsError(f"{where}: the program sets it, so this would be lost; set {PROJECT}:{fix} instead")
        if name not in fields:
            near = difflib.get_close_matches(name, free, 1)
            fix = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(free)}"
            raise SettingsError(f"{where}: {origin} has no such field, so it would do nothing; {fix}")
        given[name] = value
    try:
        return module.Context(**{name: _typed(types[name], value, name, path) for name, value in given.items()})
    except (ValueError, TypeError) as error:
        # What a context says of itself begins with the field, which is named as in the stack file.
        raise SettingsError(f"{origin}: {_line(error)}; the stack sets it in {PROJECT}:kubernetes or {path}") from None


def _pools(module: ModuleType, kubernetes: KubernetesSettings, cluster: str | None) -> dict[str, Any]:
    """Where pods of each kind go: where the stack says, or else to the cluster's node pool of that name."""
    own = placed(getattr(module, "POOLS", ()), kubernetes.clusters[cluster]) if cluster else {}
    return own | {kind: pool.model_dump() for kind, pool in kubernetes.pools.items()}


def _typed(kind: Any, value: Any, name: str, path: str) -> Any:
    """A value of a setting as the type that a context declares: dataclasses of maps, tuples of lists."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise SettingsError(
            f"{path}.variables.{name}: {problem[0].lower()}{problem[1:]}, so the templates cannot be rendered; "
            "correct it"
        ) from None


def _images(module: ModuleType, root: Path, settings: Settings, origin: str) -> Iterator[tuple[str, str]]:
    for folder in module.IMAGES:
        try:
            yield folder, images.name(root, folder, naming.image_repository(settings))
        except images.ImageError as error:
            raise SettingsError(f"{origin}: {error}") from None


def _check(definition: Mapping[str, Any], origin: str, kubernetes: KubernetesSettings) -> None:
    kind, metadata = definition.get("kind"), definition.get("metadata") or {}
    name = metadata.get("name")
    if definition.get("apiVersion") != API or kind not in KINDS:
        raise SettingsError(
            f"{origin}: renders {definition.get('apiVersion')} {kind}, which would run at every `up` or be nothing to "
            f"Argo; render only {' and '.join(KINDS)} of {API}"
        )
    if not name:
        raise SettingsError(f"{origin}: renders a {kind} without a name, so it cannot be referred to; give it one")
    if metadata.get("namespace") != kubernetes.namespace:
        raise SettingsError(
            f"{origin}: {kind} {name} is not in the namespace {kubernetes.namespace}, so its templates would not find "
            "each other; render it with the context's namespace"
        )


def _set_defaults(definitions: list[dict[str, Any]], job_id: str, settings: Settings) -> None:
    """Make the stack's defaults for parameters of a run the template's own."""
    job = settings.jobs.get(job_id, JobSettings())
    found = [
        parameter
        for definition in definitions
        if (definition["kind"], definition["metadata"]["name"]) == ("WorkflowTemplate", job_id)
        for parameter in definition["spec"].get("arguments", {}).get("parameters", [])
    ]
    declared = {parameter["name"]: parameter for parameter in found}
    for name, value in job.parameters.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, 1)
            fix = f"did you mean {near[0]!r}?" if near else f"it takes: {', '.join(declared) or 'none'}"
            raise SettingsError(
                f"{PROJECT}:jobs.{job_id}.parameters.{name}: the WorkflowTemplate {job_id} takes no such parameter, so "
                f"it would do nothing; {fix}"
            )
        declared[name]["value"] = value


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
