"""What templates are given and give back: parameters as texts, artifacts as places in the bucket.

Owns declared inputs against given values, what the others of a DAG or of steps know of a child that has ended, and
outputs. Deliberately not: when any of it is asked (`execution`).
"""

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from definitions.argo.models import Artifact, Parameter, Step, Template, json_text, text_of
from mlops.engines.embedded.argo import expressions, tags
from mlops.engines.embedded.argo.artifacts import Location
from mlops.engines.embedded.argo.expressions import ExpressionError
from mlops.engines.embedded.argo.record import Node
from mlops.engines.embedded.errors import EmbeddedError

_LONE_TAG = re.compile(r"\{\{=?\s*(.*?)\s*\}\}")


@dataclass
class Values:
    """What a template is called with."""

    parameters: dict[str, str] = field(default_factory=dict)
    artifacts: dict[str, Location] = field(default_factory=dict)

    def env(self) -> dict[str, Any]:
        """What tags in the template find."""
        return {
            **{f"inputs.parameters.{name}": value for name, value in self.parameters.items()},
            "inputs.parameters": json_text(self._listed()),
        }

    def shown(self) -> dict[str, Any]:
        """As a node shows it."""
        artifacts = [{"name": name, **location} for name, location in self.artifacts.items()]
        return {"parameters": self._listed(), "artifacts": artifacts}

    def _listed(self) -> list[dict[str, str]]:
        return [{"name": name, "value": value} for name, value in self.parameters.items()]


@dataclass
class Boundary:
    """A DAG or steps node that runs, and what its children know of each other.

    Attributes:
        node: It.
        scope: The WorkflowTemplate that its template is in.
        env: Values by dotted name, of the children too that have ended.
        artifacts: Places by dotted name.
        kind: `tasks` or `steps`: how tags name a child.
        slots: For its children, if only so many may run at a time.
        after: By name of a child: the steps on the longest way from its end to the workflow's.
    """

    node: Node
    scope: str
    env: dict[str, Any]
    artifacts: dict[str, Location]
    kind: str
    slots: asyncio.Semaphore | None
    after: Mapping[str, int]

    def tell(self, name: str, node: Node, absent: Template | None = None) -> None:
        """Let the other children know how one ended, and what it gives.

        Args:
            name: The child's.
            node: Its node.
            absent: Its template, if it did not run: its outputs have no value, or the default that it declares.
        """
        prefix, outputs = f"{self.kind}.{name}", node.get("outputs") or {}
        self.env |= {f"{prefix}.{part}": node[part] for part in ("id", "startedAt", "finishedAt")}
        self.env[f"{prefix}.status"] = node["phase"]
        if "exitCode" in outputs:
            self.env[f"{prefix}.exitCode"] = outputs["exitCode"]
        if "result" in outputs:
            self.env[f"{prefix}.outputs.result"] = outputs["result"]
        for output in outputs.get("parameters", ()):
            self.env[f"{prefix}.outputs.parameters.{output['name']}"] = output["value"]
        for output in outputs.get("artifacts", ()):
            location = {key: output[key] for key in ("gcs", "raw") if output.get(key)}
            self.artifacts[f"{prefix}.outputs.artifacts.{output['name']}"] = location
        if absent is not None:
            self.env[f"{prefix}.outputs.result"] = None
            for parameter in absent.outputs.parameters:
                self.env[f"{prefix}.outputs.parameters.{parameter.name}"] = parameter.value_from.default

    def tell_turns(self, name: str, group: Node, turns: Sequence[Node]) -> None:
        """Let the other children know what a loop gives: lists of what its turns gave."""
        self.tell(name, group)
        prefix = f"{self.kind}.{name}.outputs"
        outputs = [turn.get("outputs") or {} for turn in turns]
        maps = [{each["name"]: each["value"] for each in given.get("parameters", ())} for given in outputs if given]
        if any(maps):
            self.env[f"{prefix}.parameters"] = json_text(maps)
            for key in {key for given in maps for key in given}:
                values = [given[key] for given in maps if key in given]
                self.env[f"{prefix}.parameters.{key}"] = json_text(values)
        results = [given["result"] for given in outputs if "result" in given]
        if results:
            self.env[f"{prefix}.result"] = json_text(results)

    def given_to(self, call: Step, env: Mapping[str, Any], template: Template) -> Values:
        """What a call gives to its template.

        Raises:
          EmbeddedError: A value or an artifact is not there.
        """
        given = Values()
        declared = {parameter.name: parameter for parameter in template.inputs.parameters}
        for argument in call.arguments.parameters:
            value = argument.value or ""
            tag = re.fullmatch(r"\{\{([^=}]+)\}\}", value.strip())
            name, own = tag[1].strip() if tag else "", declared.get(argument.name)
            if name in env and env[name] is None and own and (own.value is not None or own.default is not None):
                continue  # a skipped task's output: the input's own default stands
            given.parameters[argument.name] = tags.fill(value, env)
        for argument in call.arguments.artifacts:
            if argument.from_:
                location = self._artifact(argument)
                if location is None and not argument.optional:
                    raise EmbeddedError(f"artifact {argument.name}: {argument.from_} is not there")
            else:
                location = location_of(tags.fill(argument, env))
            if location:
                given.artifacts[argument.name] = location
        return given

    def outputs(self, template: Template) -> dict[str, Any]:
        """What the whole gives, once all children have ended.

        Raises:
          EmbeddedError: A value or an artifact is not there.
        """
        parameters = [
            {"name": declared.name, "value": self._output(declared)} for declared in template.outputs.parameters
        ]
        artifacts = []
        for declared in template.outputs.artifacts:
            location = self._artifact(declared)
            if location:
                artifacts.append({"name": declared.name, **location})
            elif not declared.optional:
                raise EmbeddedError(f"output artifact {declared.name}: {declared.from_ or None} is not there")
        return {key: value for key, value in (("parameters", parameters), ("artifacts", artifacts)) if value}

    def _artifact(self, declared: Artifact) -> Location | None:
        tag = _LONE_TAG.fullmatch(declared.from_)
        return self.artifacts.get(tag[1] if tag else declared.from_)

    def _output(self, declared: Parameter) -> str:
        source = declared.value_from
        try:
            if not source.expression:
                return tags.fill(source.parameter or declared.value or "", self.env)
            # As in Argo, tags in an expression are filled before it is read.
            value = expressions.parse(tags.fill(source.expression, self.env)).evaluate(self.env)
            if value is None:
                raise ExpressionError(f"{source.expression!r} has no value")
            return text_of(value)
        except ExpressionError as error:
            if source.default is None:
                raise EmbeddedError(f"output parameter {declared.name}: {error}") from None
            return source.default


def location_of(artifact: Artifact) -> Location:
    """Where an artifact is, as the definition says; empty if it does not."""
    places = {"gcs": artifact.gcs, "raw": artifact.raw}
    return {key: dict(place.given()) for key, place in places.items() if place and place.model_fields_set}


def arguments(
    declared: Iterable[Parameter], given: Mapping[str, str], whose: str, known: Mapping[str, Any] | None = None
) -> dict[str, str]:
    """The values of declared parameters: those that are given, or else their own, with what is known put in.

    Raises:
      EmbeddedError: One is missing, or not among those that it may be.
    """
    values: dict[str, str] = {}
    for parameter in declared:
        value = given.get(parameter.name)
        if value is None:
            value = parameter.default if parameter.value is None else parameter.value
        if value is None:
            raise EmbeddedError(f"{whose.format(parameter.name)} was not given")
        if parameter.enum is not None and value not in parameter.enum:
            raise EmbeddedError(f"parameter {parameter.name}: {value!r} is not one of {', '.join(parameter.enum)}")
        own = known is not None and parameter.name not in given
        values[parameter.name] = tags.fill(value, known or {}) if own else value
    return values


def inputs(template: Template, given: Values, known: Mapping[str, Any]) -> Values:
    """The inputs of a template, by what it is called with and what it declares.

    Args:
      template: It.
      given: What the call gives.
      known: What the whole workflow knows.

    Raises:
      EmbeddedError: One is missing.
    """
    whose = f"template {template.name}: input parameter {{}}"
    values = Values(arguments(template.inputs.parameters, given.parameters, whose, known))
    env = {**known, **{f"inputs.parameters.{name}": value for name, value in values.parameters.items()}}
    for declared in template.inputs.artifacts:
        location = given.artifacts.get(declared.name) or location_of(tags.fill(declared, env, later=lambda _: True))
        if location:
            values.artifacts[declared.name] = location
        elif not declared.optional:
            raise EmbeddedError(f"template {template.name}: input artifact {declared.name} was not given")
    return values
