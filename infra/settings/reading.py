"""Reading a stack's settings: from its file, or from Pulumi; and how a mistake in them is told.

A mistake is a line: the key's path, the problem, its consequence and the fix. Settings hold no `Input`s: they are known
before anything is registered, so that a mistake is found before the first resource, and a preview shows every value.
"""

import datetime
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError

from definitions.scalars import as_text
from infra.settings import checks
from infra.settings.fields import MAP, NUMBER, SettingsError
from infra.settings.tree import Settings

PROJECT = "hybrid-mlops"
ROOT = Path(__file__).resolve().parents[2]
STACKS = ROOT / "stacks"


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
    own = {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}
    settings = parse(own, _name(stack))
    _refuse_rewritten(settings, stack, folder)
    return settings


def read_config(stack: str, folder: Path = STACKS) -> tuple[dict[str, Any], set[str]]:
    """Read a stack file's whole configuration, without a secret and without Pulumi.

    A placeholder takes the place of every encrypted value, and a stand-in that of every setting which only its owner
    can know and which the file leaves to `pulumi config set`.

    Returns:
        The configuration by its full keys, and which of these hold an encrypted value.

    Raises:
        SettingsError: There is no such stack, its file is no configuration, or a secret stands in it in clear.
    """
    from definitions import documents

    path = folder / f"Pulumi.{stack}.yaml"
    if stack not in stacks(folder):
        raise SettingsError(f"there is no stack {stack!r}, so nothing was read; there are: {', '.join(stacks(folder))}")
    try:
        document = documents.load(path.read_text(encoding="utf-8"))
    except documents.DocumentError as error:
        raise SettingsError(f"{_name(stack)}: {error.problem}, so nothing was read; {error.fix}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{_name(stack)}: is not UTF-8, so nothing was read; save it as UTF-8") from None
    config = document.get("config", {}) if isinstance(document, dict) else None
    if not isinstance(config, dict) or not all(isinstance(key, str) for key in config):
        raise SettingsError(f"{_name(stack)}: has no map named config, so nothing was read; put the settings under one")
    prefix = f"{PROJECT}:"
    given = {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
    _refuse_in_clear(given, _name(stack))
    secret = {key for key, value in config.items() if _has_secret(value)}
    config = {key: _without_secrets(value, key) for key, value in config.items()}
    own = {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}
    return config | {prefix + key: value for key, value in _stood_in_for(own, Settings).items()}, secret


def from_pulumi() -> Settings:
    """Read the settings of the stack that the running program is deployed to."""
    import pulumi
    from pulumi.runtime import config as runtime

    values: dict[str, Any] = {}
    plain: dict[str, Any] = {}
    # Pulumi lists no keys: those that it handed over are in its environment, or where a test or the recorder set them.
    for key in {*runtime.CONFIG.get(), *runtime.get_config_env()}:
        namespace, _, name = key.partition(":")
        if namespace == PROJECT:
            # Not by `pulumi.Config`, which warns of each secret: the tree has secrets in a type that does not print.
            text = runtime.get_config(key) or ""
            try:
                values[name] = json.loads(text)
            except ValueError:
                values[name] = text
            if not runtime.is_config_secret(key):
                plain[name] = values[name]
    stack = pulumi.get_stack()
    _refuse_in_clear(plain, _name(stack))
    settings = parse(values, _name(stack))
    if stack in stacks():
        _refuse_rewritten(settings, stack, STACKS)
    return settings


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
    if problems := checks.problems(settings):
        raise SettingsError("\n".join(f"{origin}: {PROJECT}:{problem}" for problem in problems))
    return settings


def _name(stack: str) -> str:
    return f"stacks/Pulumi.{stack}.yaml"


def _refuse_rewritten(settings: Settings, stack: str, folder: Path) -> None:
    """Refuse a text that the stack file writes without quotes where YAML, or Pulumi's YAML, reads another one."""
    from definitions import documents

    text = (folder / f"Pulumi.{stack}.yaml").read_text(encoding="utf-8")
    lines = []
    for path, written in documents.rewritten(text).items():
        if path[0] != "config" or len(path) < 2 or not str(path[1]).startswith(f"{PROJECT}:"):
            continue
        location = (str(path[1]).removeprefix(f"{PROJECT}:"), *path[2:])
        made = _at(settings, location)
        if isinstance(made, str) or (_is_variable(location) and not _same(made, written)):
            lines.append(
                f"{_name(stack)}: {_path(location)}: {written} without quotes is {as_text(made)} to YAML, so "
                "another value than the written one would be used; put it into quotes"
            )
    if lines:
        raise SettingsError("\n".join(lines))


def _at(value: Any, location: tuple[int | str, ...]) -> Any:
    """What a path of the stack file has become in the settings; None for what they do not hold."""
    for part in location:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, list | tuple):
            value = value[int(part)]
        else:
            value = getattr(value, str(part), None)
    return value


def _is_variable(location: tuple[int | str, ...]) -> bool:
    """Whether a job's own file says which kind of value it is: settings know no jobs."""
    return location[0] == "jobs" and "variables" in location[2:3]


def _same(made: object, written: str) -> bool:
    """Whether two numbers, or two spellings of true and false, are the same to every reader of YAML."""
    if isinstance(made, bool):
        return written.lower() == str(made).lower()
    return isinstance(made, int | float) and bool(re.fullmatch(r"[+-]?(0|[1-9]\d*)?(\.\d*)?", written))


def _refuse_in_clear(values: Mapping[str, Any], origin: str) -> None:
    if clear := list(_in_clear(values, Settings)):
        raise SettingsError(
            "\n".join(
                f"{origin}: {PROJECT}:{key}: is a secret in clear, so whoever may read the file has it; have another "
                f"made where it is from, and set that by `pulumi config set --secret --path {PROJECT}:{key}`"
                for key in clear
            )
        )


def _in_clear(values: Any, model: type[BaseModel], path: str = "") -> Iterator[str]:
    """The key of every secret that is not encrypted in a model's values, or in what a map or list holds of it."""
    if isinstance(values, list):
        for i, value in enumerate(values):
            yield from _in_clear(value, model, f"{path}{i}.")
    if not isinstance(values, dict):
        return
    for name, field in model.model_fields.items():
        value, key = values.get(name), f"{path}{name}"
        below = _below(field.annotation)
        if _is_secret(field.annotation):
            if value is not None and not _has_secret(value):
                yield key
        elif below and _is_map(field.annotation) and isinstance(value, dict):
            for each, inner in value.items():
                yield from _in_clear(inner, below, f"{key}.{each}.")
        elif below:
            yield from _in_clear(value, below, f"{key}.")


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or any(map(_is_secret, get_args(annotation)))


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


def _stood_in_for(values: Any, model: type[BaseModel]) -> Any:
    """The values of a model, or of what a map or list holds of it, with stand-ins for what is left to its owner."""
    if isinstance(values, list):
        return [_stood_in_for(value, model) for value in values]
    if not isinstance(values, dict):
        return values
    complete = dict(values)
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        if isinstance(extra, dict) and name not in complete:
            complete[name] = extra["x-stand-in"]
        below = _below(field.annotation)
        if below and name in complete:
            value = complete[name]
            if _is_map(field.annotation) and isinstance(value, dict):
                complete[name] = {key: _stood_in_for(inner, below) for key, inner in value.items()}
            else:
                complete[name] = _stood_in_for(value, below)
    return complete


def _is_map(annotation: Any) -> bool:
    return get_origin(annotation) is Mapping or any(map(_is_map, get_args(annotation)))


def _line(details: Any, origin: str) -> str:
    location: tuple[int | str, ...] = tuple(part for part in details["loc"] if part not in (NUMBER.tag, MAP.tag))
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
    if details["type"] == "string_type" and isinstance(details["input"], bool | int | float | datetime.date):
        kind = "a date" if isinstance(details["input"], datetime.date) else as_text(details["input"])
        problem = f"should be text, and without quotes it is {kind} to YAML"
        return f"{where}: {problem}, so the stack cannot be planned; put it into quotes{about}"
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
