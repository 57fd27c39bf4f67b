"""Parameters of a run: what `jobs/<name>/parameters.yaml` declares, and whether given values are that.

Owns the declaration's form, the merging of defaults and the validation. It deliberately knows no engine: what comes out
is `dict[str, str]`, data that reaches a task through its environment.
"""

import difflib
import ipaddress
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from infra import credentials

_LONGEST = 2048
"""A dispatch's parameters are kept by the engine for as long as the run is; none needs more."""


_LONGEST_PREFIX = 600
"""Of the 1,024 characters of an object's name; below the prefix stand model, version id and a file's path."""

_LABEL = r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?"
_METADATA = ("metadata", "metadata.google.internal", "metadata.goog", "instance-data", "instance-data.ec2.internal")

RUN_FILES = (
    "examples.json",
    "failed.json",
    "manifest.json",
    "metrics.json",
    "model",
    "training.json",
    "training.json.part",
    "verifications",
)
"""What a training's directory holds beside the files that parameters name."""


class ParameterError(Exception):
    """A run's parameters cannot be used; the message is one line."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Parameter(_Model):
    """One parameter's declaration."""

    type: Literal["string", "integer", "number"]
    description: Annotated[str, Field(pattern=r"^\S[^\n]*$")]
    pattern: str | None = None
    format: Literal["data-url", "gs-uri", "relative-path", "run-path"] | None = None
    minimum: int | float | None = None
    maximum: int | float | None = None
    required: bool = False
    default: str | int | float | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.type == "string":
            if (self.pattern is None) == (self.format is None):
                raise ValueError("a string has a pattern or a format: without one, anything would be let through")
            if self.minimum is not None or self.maximum is not None:
                raise ValueError("a string has no minimum or maximum")
            if self.pattern is not None:
                re.compile(self.pattern)
        elif self.pattern is not None or self.format is not None:
            raise ValueError("a number has no pattern and no format")
        elif self.minimum is None or self.maximum is None:
            raise ValueError("a number has a minimum and a maximum")
        if self.required and self.default is not None:
            raise ValueError("a required parameter has no default")
        if self.default is not None:
            self.canonical(str(self.default))
        return self

    @property
    def default_text(self) -> str:
        """The default as the text that a task gets; empty if there is none."""
        return "" if self.default is None else self.canonical(str(self.default))

    @property
    def range_text(self) -> str:
        """What values it takes, for people."""
        if self.type == "string":
            return self.format or f"{self.pattern}"
        return f"{self.type} {_decimal(self.minimum)}..{_decimal(self.maximum)}"

    def canonical(self, text: str) -> str:
        """A value's one spelling, such as `7` for `+07`.

        Raises:
            ValueError: It is not a value of this parameter; the message says what is wrong with it.
        """
        if len(text) > _LONGEST:
            raise ValueError(f"is longer than {_LONGEST} characters")
        if not text.isprintable():
            raise ValueError("has a control character, such as a line break")
        if not text:
            if self.required or self.default is not None:
                raise ValueError("is empty")
            return text
        if self.type != "string":
            return self._number(text)
        if self.pattern is not None:
            if not re.fullmatch(self.pattern, text):
                raise ValueError(f"does not match {self.pattern}")
        elif problem := _FORMATS[self.format or ""](text):
            raise ValueError(problem)
        return text

    def _number(self, text: str) -> str:
        problem = f"is not {self._kind} from {_decimal(self.minimum)} to {_decimal(self.maximum)}"
        # Decimal alone would take `NaN`, `1_000` and digits of other scripts.
        if not re.fullmatch(r"[+-]?[0-9]{1,30}(\.[0-9]{0,30})?([eE][+-]?[0-9]{1,2})?", text):
            raise ValueError(problem)
        value = Decimal(text)
        if self.type == "integer" and value != value.to_integral_value():
            raise ValueError(problem)
        if not Decimal(str(self.minimum)) <= value <= Decimal(str(self.maximum)):
            raise ValueError(problem)
        return _decimal(value)

    @property
    def _kind(self) -> str:
        return "an integer" if self.type == "integer" else "a number"


class Pipeline(_Model):
    """A pipeline's declaration: `jobs/<name>/parameters.yaml`."""

    description: Annotated[str, Field(pattern=r"^\S[^\n]*$")]
    parameters: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")], Parameter]

    def check(self, values: Mapping[str, str]) -> dict[str, str]:
        """Validate values on their own, whatever may be missing.

        Returns:
            The values, canonical.

        Raises:
            ParameterError: A parameter is unknown, or a value is not one of its values.
        """
        checked = {}
        for name, value in values.items():
            parameter = self.parameters.get(name)
            if parameter is None:
                near = difflib.get_close_matches(name, self.parameters, 1)
                fix = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(self.parameters)}"
                raise ParameterError(f"parameter {_shown(name)} is unknown, so nothing was started; {fix}")
            try:
                checked[name] = parameter.canonical(value)
            except ValueError as error:
                raise ParameterError(
                    f"parameter {name}={_shown(value)} {error}, so nothing was started; give {_wanted(parameter)}"
                ) from None
        return checked

    def resolve(self, *layers: Mapping[str, str]) -> dict[str, str]:
        """Merge values and validate the result.

        Args:
            layers: Values, of which an earlier layer wins over a later one, and every one over the file's defaults.

        Returns:
            A value for every parameter, canonical; the empty string for one that has neither value nor default.

        Raises:
            ParameterError: A required parameter has no value, one is unknown, or a value is not one of its values.
        """
        merged: dict[str, str] = {}
        for layer in reversed(layers):
            merged |= layer
        values = self.check(merged)
        for name, parameter in self.parameters.items():
            if parameter.required and name not in values:
                fix = f"give -p {name}=VALUE ({parameter.description})"
                raise ParameterError(f"parameter {name} is missing, so nothing was started; {fix}")
        return {name: values.get(name, parameter.default_text) for name, parameter in self.parameters.items()}


def files(jobs: Path) -> dict[str, Path]:
    """Every pipeline's declaration under a folder `jobs/`, by the name that it is run by.

    `parameters.yaml` declares the one that the folder is named after; where a folder holds workflow templates, another
    `<name>.yaml` declares what the template `<name>` takes when it is run by itself.
    """
    found = {path.parent.name.replace("_", "-"): path for path in sorted(jobs.glob("*/parameters.yaml"))}
    others = (path for path in sorted(jobs.glob("*/*.yaml")) if path.name != "parameters.yaml")
    return found | {path.stem: path for path in others if path.with_name("templates.py").is_file()}


def load(path: Path) -> Pipeline:
    """Read a pipeline's declaration."""
    from definitions import documents

    origin = "/".join(path.parts[-3:])
    try:
        text = path.read_text(encoding="utf-8")
        pipeline = Pipeline.model_validate(documents.load(text))
        for where, written in documents.rewritten(text).items():
            if where[2:] == ("default",) and pipeline.parameters[str(where[1])].type == "string":
                problem = f"{written} without quotes is another value to YAML"
                raise ParameterError(
                    f"{origin}: {'.'.join(map(str, where))}: {problem}, so the pipeline cannot be run; "
                    "put it into quotes"
                )
        return pipeline
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        raise ParameterError(f"{origin}: {where}: {problem}, so the pipeline cannot be run; correct it") from None
    except documents.DocumentError as error:
        raise ParameterError(f"{origin}: {error.problem}, so the pipeline cannot be run; {error.fix}") from None
    except UnicodeDecodeError:
        raise ParameterError(f"{origin}: is not UTF-8, so the pipeline cannot be run; save it as UTF-8") from None


def assignments(given: Iterable[str]) -> dict[str, str]:
    """Read `key=value` texts, as the command's `-p` takes them.

    Raises:
        ParameterError: A text has no `=`, or a key is given twice.
    """
    values: dict[str, str] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or not name:
            raise ParameterError(
                f"{_shown(text)} is no KEY=VALUE, so nothing was started; write -p {name or 'KEY'}=VALUE"
            )
        if name in values:
            raise ParameterError(f"parameter {_shown(name)} is given twice, so nothing was started; give it once")
        values[name] = value
    return values


def _shown(text: str) -> str:
    """A value as a message can show it: on one line, not too long, without the credentials of an address."""
    # Up to the last @: what is no proper address may have a credential where an address has none.
    text = credentials.without_address_credentials(re.sub(r"//.*@", f"//{credentials.MASK}@", text))
    return repr(text if len(text) <= 80 else text[:77] + "...")


def _wanted(parameter: Parameter) -> str:
    if parameter.format:
        return _EXAMPLES[parameter.format]
    return (
        "text that matches it"
        if parameter.pattern
        else f"one in this range, such as {parameter.default_text or _decimal(parameter.minimum)}"
    )


def _decimal(value: object) -> str:
    """A number without exponent and without superfluous zeros: `0.000001`, `30`."""
    text = format(Decimal(str(value)), "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return text.removeprefix("-") if text.strip("-0.") == "" else text


def _no_data_url(text: str) -> str | None:
    """Why a text is no address of data; none if it is one."""
    if not re.fullmatch(r"[!-~]+", text) or "${" in text:
        # Nomad interpolates `${...}` in the parameters of a run.
        return "has a character that an address cannot have"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return "is not an address"
    if parts.scheme not in ("http", "https", "salesforce+https"):
        return "has a scheme other than salesforce+https, https and http"
    if not parts.hostname:
        return "names no host"
    if where := credentials.in_address(text):
        return f"holds a credential ({where}), which would be readable by everyone who may read runs"
    if parts.scheme == "salesforce+https" and (parts.path.strip("/") or "?" in text or "#" in text):
        return "names more of Salesforce than its host"
    if parts.hostname.rstrip(".") in _METADATA:
        return "is where clouds keep their credentials"
    try:
        address = ipaddress.ip_address(parts.hostname)
    except ValueError:
        # WHATWG, whose rules the training has, takes a name that ends in a number for an IPv4 address.
        if not re.fullmatch(r"([a-z0-9_-]{1,63}\.)*[a-z0-9_-]{1,63}\.?", parts.hostname) or re.search(
            r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$", parts.hostname
        ):
            return "names no host that there can be"
        return None
    # The training refuses what a name resolves to; an address can be refused before anything is started.
    return "is a link-local address, where clouds keep their credentials" if address.is_link_local else None


def _no_gs_uri(text: str) -> str | None:
    """Why a text is no bucket with a prefix, as the registry takes them; none if it is one."""
    found = re.fullmatch(
        rf"gs://(?P<bucket>{_LABEL}(\.{_LABEL})*)(?P<prefix>(/[0-9A-Za-z_][0-9A-Za-z._-]{{0,199}}){{0,8}})", text
    )
    if ".." in text or not found or not 3 <= len(found["bucket"]) <= 222:
        return "is not gs://BUCKET or gs://BUCKET/PREFIX"
    if len(found["prefix"]) > _LONGEST_PREFIX:
        return f"has a prefix of more than {_LONGEST_PREFIX} characters, below which an object's name would be too long"
    return None


def _no_relative_path(text: str) -> str | None:
    """Why a text is no path below the run's directory that the registry would store; none if it is one."""
    if text.startswith("/"):
        return "is an absolute path"
    parts = text.split("/")
    if ".." in parts:
        return "leads out of the run's directory"
    if len(text) > 200 or len(parts) > 32 or not all(re.fullmatch(r"[0-9A-Za-z_][0-9A-Za-z._-]*", p) for p in parts):
        return "is not a path of letters, digits, dots, dashes and underscores"
    return "has two dots in a row, which no stored file may have" if ".." in text else None


def _no_run_path(text: str) -> str | None:
    """Why a text is no path below a training's directory that the training leaves free; none if it is one."""
    first = text.partition("/")[0]
    if first in RUN_FILES:
        return f"is where the training itself writes {first}"
    return _no_relative_path(text)


_FORMATS = {
    "data-url": _no_data_url,
    "gs-uri": _no_gs_uri,
    "relative-path": _no_relative_path,
    "run-path": _no_run_path,
}
_EXAMPLES = {
    "data-url": "salesforce+https://HOST, or an http(s) address that needs no credential",
    "gs-uri": "gs://BUCKET/PREFIX",
    "relative-path": "a path such as predictions.csv",
    "run-path": "a path such as predictions.csv",
}
