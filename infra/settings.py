"""The settings of a stack: one frozen tree that mirrors `stacks/Pulumi.<stack>.yaml`.

Owns what a stack file may say and how a mistake in one is told: a line each with the key's path, the problem, its
consequence and the fix. It deliberately holds no `Input`s: settings are known before anything is registered, so that a
mistake is found before the first resource, and a preview shows every value.

`python -m infra.settings` writes the JSON Schema that editors complete stack files with, docs/reference/
stack.schema.json.
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

PROJECT = "hybrid-mlops"
ROOT = Path(__file__).resolve().parents[1]
STACKS = ROOT / "stacks"
SCHEMA = ROOT / "docs" / "reference" / "stack.schema.json"


class SettingsError(Exception):
    """What a stack file says cannot be used; the message has one line a mistake."""


def _text(value: object) -> object:
    """YAML's numbers as the text that a person wrote: a parameter of a run is text on every way it takes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _variable(value: object) -> object:
    if isinstance(value, bool | int | float | str) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    ):
        return value
    raise ValueError("should be text, a number, true, false, or a list of texts")


BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{1,61}[a-z0-9]$")]
VariableValue = Annotated[bool | int | float | str | list[str], BeforeValidator(_variable)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
StepName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
JobId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
# Kubernetes' names: a label of DNS, a key of a label, a label's value, a quantity.
DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
LabelKey = Annotated[
    str, StringConstraints(pattern=r"^([a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$")
]
LabelValue = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?$")]
Cpu = Annotated[str, StringConstraints(pattern=r"^([0-9]+m|[0-9]+(\.[0-9]{1,3})?)$"), BeforeValidator(_text)]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]*([KMGT]i|[kmgtKMGT])$")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NomadSettings(_Model):
    """The Nomad that jobs are registered with."""

    address: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@]+$")] | None = Field(
        default=None,
        description="Address of an existing Nomad, such as https://nomad.example.com:4646. Without one it is "
        "NOMAD_ADDR's, and for the `mlops` command the embedded engine.",
    )


class ImageSettings(_Model):
    """Where container images are pulled from."""

    repository: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._:/-]*[a-z0-9]$")] = Field(
        description="Repository that image names begin with, such as europe-docker.pkg.dev/project/images."
    )


class BucketSettings(_Model):
    """Names of the stack's buckets."""

    models: BucketName = Field(description="Bucket of model versions, such as example-models.")
    data: BucketName = Field(description="Bucket of raw data, such as example-data.")
    artifacts: BucketName | None = Field(
        default=None,
        description="Bucket of what a workflow's steps hand on, such as example-artifacts; needed beside `kubernetes`.",
    )


class TolerationSettings(_Model):
    """A taint that pods accept."""

    key: LabelKey = Field(description="The taint's key.")
    value: LabelValue | None = Field(default=None, description="The taint's value; without one, any.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        default="NoSchedule", description="The taint's effect."
    )


class PoolSettings(_Model):
    """Where pods of a kind are placed."""

    node_selector: Mapping[LabelKey, LabelValue] = Field(default={}, description="Labels that the nodes have.")
    tolerations: tuple[TolerationSettings, ...] = Field(default=(), description="Taints that the pods accept.")


class KubernetesSettings(_Model):
    """The cluster that workflow templates are registered with."""

    context: Annotated[str, StringConstraints(pattern=r"^\S+$")] | None = Field(
        default=None,
        description="Name of a context in the kubeconfig: an existing cluster. Without one it is the current context "
        "of the file that KUBECONFIG names, and for the `mlops` command the embedded engine.",
    )
    namespace: DnsLabel = Field(description="Namespace of templates, workflows and SparkApplications, which exists.")
    service_accounts: Mapping[VariableName, DnsLabel] = Field(
        description="Kubernetes service accounts by role; every pipeline's README says what its roles need."
    )
    pools: Mapping[VariableName, PoolSettings] = Field(
        default={}, description="Where pods go, by kind of node; a kind without an entry goes anywhere."
    )
    maven_repository: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/@?#]+(/[^\s@?#]*)?$")] | None = Field(
        default=None,
        description="URL of the Maven repository that Java libraries are published to; without one they are stored "
        "with their version only.",
    )


class ResourceSettings(_Model):
    """What a pod asks for."""

    cpu: Cpu = Field(description="Cores, such as 2 or 500m.")
    memory: Memory = Field(description="Memory, such as 2Gi; for Spark as Spark writes it, such as 2g.")


class JobSettings(_Model):
    """What a stack sets for one job."""

    count: int | None = Field(
        default=None,
        ge=1,
        le=1000,
        description="Allocations of one dispatch; each stores its own version. Without it, the job file's default.",
    )
    variables: Mapping[VariableName, VariableValue] = Field(
        default={},
        description="Values of the jobspec's HCL variables, beside `count` and `image_*`, which the program sets; for "
        "workflow templates of what their context.py lets a stack choose, such as `schedules`.",
    )
    resources: Mapping[StepName, ResourceSettings] = Field(
        default={},
        description="What the pods of a workflow's steps ask for, by step; a step without an entry has its default.",
    )
    parameters: Mapping[VariableName, Annotated[str, BeforeValidator(_text)]] = Field(
        default={}, description="This stack's defaults for parameters of a run (jobs/<name>/parameters.yaml)."
    )


class Settings(_Model):
    """All settings of one stack, without the namespace `hybrid-mlops:`."""

    nomad: NomadSettings = Field(default=NomadSettings(), description="The Nomad that jobs are registered with.")
    kubernetes: KubernetesSettings | None = Field(
        default=None,
        description="The cluster that workflow templates are registered with; without it the stack has none.",
    )
    images: ImageSettings = Field(description="Where container images are pulled from.")
    buckets: BucketSettings = Field(description="Names of the stack's buckets.")
    jobs: Mapping[JobId, JobSettings] = Field(
        default={},
        description="What this stack sets for a job, by the job's id. A job without an entry has its defaults.",
    )


def stacks(folder: Path = STACKS) -> list[str]:
    """The names of all stacks that have a file."""
    return sorted(path.name.removeprefix("Pulumi.").removesuffix(".yaml") for path in folder.glob("Pulumi.*.yaml"))


def load(stack: str, folder: Path = STACKS) -> Settings:
    """Read a stack's settings from its file, without Pulumi.

    Raises:
        SettingsError: There is no such stack, or its file cannot be used.
    """
    config, _ = read_config(stack, folder)
    prefix = f"{PROJECT}:"
    return parse({k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}, _name(stack))


def read_config(stack: str, folder: Path = STACKS) -> tuple[dict[str, Any], set[str]]:
    """Read a stack file's whole configuration, with a placeholder in the place of every encrypted value.

    Returns:
        The configuration by its full keys, and which of these hold an encrypted value.
    """
    import yaml

    path = folder / f"Pulumi.{stack}.yaml"
    if stack not in stacks(folder):
        raise SettingsError(f"there is no stack {stack!r}, so nothing was read; there are: {', '.join(stacks(folder))}")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise SettingsError(f"{_name(stack)}: is not YAML, so nothing was read; correct it: {problem}") from None
    config = document.get("config", {}) if isinstance(document, dict) else None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise SettingsError(f"{_name(stack)}: has no map named config, so nothing was read; put the settings under one")
    secret = {key for key, value in config.items() if _has_secret(value)}
    return {key: _without_secrets(value, key) for key, value in config.items()}, secret


def from_pulumi() -> Settings:
    """Read the settings of the stack that the running program is deployed to."""
    import pulumi
    from pulumi.runtime import config as runtime

    config = pulumi.Config(PROJECT)
    values: dict[str, Any] = {}
    # Pulumi lists no keys: those that it handed over are in its environment, or where a test or the recorder set them.
    for key in {*runtime.CONFIG.get(), *runtime.get_config_env()}:
        namespace, _, name = key.partition(":")
        if namespace == PROJECT:
            try:
                values[name] = config.get_object(name)
            except pulumi.ConfigTypeError:
                values[name] = config.get(name)
    return parse(values, _name(pulumi.get_stack()))


@contextmanager
def mistakes_told_plainly() -> Iterator[None]:
    """Let `pulumi up` show a `SettingsError` as its message, without the traceback that another exception has."""
    import pulumi

    try:
        yield
    except SettingsError as error:
        raise pulumi.RunError(str(error)) from None


def parse(values: Mapping[str, Any], origin: str) -> Settings:
    """Validate settings.

    Args:
        values: The settings, by their keys without the namespace.
        origin: What messages begin with: the file that the settings are from.

    Raises:
        SettingsError: Some of them cannot be used.
    """
    try:
        settings = Settings.model_validate(values)
    except ValidationError as error:
        lines = [_line(details, origin) for details in error.errors(include_url=False)]
        raise SettingsError("\n".join(lines)) from None
    if settings.kubernetes and not settings.buckets.artifacts:
        raise SettingsError(
            f"{origin}: {PROJECT}:buckets.artifacts: is missing, so steps of a workflow cannot hand anything on; add "
            f"it, or remove {PROJECT}:kubernetes"
        )
    return settings


def _name(stack: str) -> str:
    return f"stacks/Pulumi.{stack}.yaml"


def _has_secret(value: object) -> bool:
    if isinstance(value, dict):
        return set(value) == {"secure"} or any(map(_has_secret, value.values()))
    return isinstance(value, list) and any(map(_has_secret, value))


def _without_secrets(value: Any, path: str) -> Any:
    if isinstance(value, dict):
        if set(value) == {"secure"}:
            return f"[secret {path}]"
        return {key: _without_secrets(inner, f"{path}.{key}") for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_secrets(inner, f"{path}.{i}") for i, inner in enumerate(value)]
    return value


def _line(details: Any, origin: str) -> str:
    location: tuple[int | str, ...] = details["loc"]
    if location[-1] == "[key]":
        return (
            f"{origin}: {_path(location[:-2])}: {location[-2]!r} cannot be a name here, so nothing can be registered; "
            f"write one that matches {details['ctx']['pattern']}"
        )
    model, field = _field(location)
    where = f"{origin}: {_path(location)}"
    about = f" ({field.description})" if field is not None and field.description else ""
    if details["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), model.model_fields, 1)
        fix = f"did you mean {near[0]!r}?" if near else f"remove it, or use one of: {', '.join(model.model_fields)}"
        return f"{where}: is no setting, so it would do nothing; {fix}"
    if details["type"] == "missing":
        return f"{where}: is missing, so the stack cannot be planned; add it{about}"
    message = details["msg"].removeprefix("Value error, ")
    problem = message[0].lower() + message[1:]
    return f"{where}: {problem}, so the stack cannot be planned; correct it{about}"


def _path(location: tuple[int | str, ...]) -> str:
    return f"{PROJECT}:{'.'.join(map(str, location))}"


def _field(location: tuple[int | str, ...]) -> tuple[type[BaseModel], Any]:
    """The innermost model that a location leads through, and the field that it ends in or below."""
    model: type[BaseModel] = Settings
    field = None
    for part in location:
        if part in model.model_fields:
            field = model.model_fields[str(part)]
            model = _below(field.annotation) or model
    return model, field


def _below(annotation: Any) -> type[BaseModel] | None:
    """The model that a field's value, or each value of its map or list, is of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_below, get_args(annotation))), None)


def schema() -> str:
    """The JSON Schema of a stack file, as text."""
    properties = Settings.model_json_schema(ref_template="#/$defs/{model}")
    definitions = properties.pop("$defs")
    return (
        json.dumps(
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "title": "A stack file of hybrid-mlops",
                "type": "object",
                "required": ["config"],
                "properties": {
                    "config": {
                        "type": "object",
                        "description": "The stack's settings. Other namespaces are Pulumi's and its providers'.",
                        "properties": {f"{PROJECT}:{k}": v for k, v in properties["properties"].items()},
                        "required": [f"{PROJECT}:{k}" for k in properties["required"]],
                        "patternProperties": {f"^(?!{PROJECT}:).*:": {}},
                        "additionalProperties": False,
                    }
                },
                "$defs": definitions,
            },
            indent=2,
        )
        + "\n"
    )


if __name__ == "__main__":
    SCHEMA.parent.mkdir(parents=True, exist_ok=True)
    SCHEMA.write_text(schema(), encoding="utf-8")
