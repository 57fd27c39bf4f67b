"""What a Nomad jobspec declares: its variables, its job's groups and tasks, and what a group asks for.

Owns reading and checking, and the values of variables in their places. Other expressions stay
text, so a reader that needs a number or a name gets an error.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from definitions.nomad import hcl

_VARIABLE = re.compile(r"\$\{var\.(\w+)\}")

type_names = {"string": (str,), "number": (int, float), "bool": (bool,), "list(string)": (list,)}
"""The types that a variable may have, and what a stack file's value for it is in Python."""


class JobspecError(Exception):
    """A jobspec cannot be read; the message is one line."""


@dataclass(frozen=True)
class Variable:
    """One `variable` block."""

    type: str
    description: str
    required: bool
    default: Any = None

    def text(self, value: Any) -> str | None:
        """The value as the text that Nomad parses for this type; None if it is not of the type."""
        if not isinstance(value, type_names[self.type]) or (isinstance(value, bool) and self.type != "bool"):
            return None
        if self.type == "list(string)":
            # Nomad parses it as an expression, in which these two would begin a template.
            return json.dumps(value).replace("${", "$${").replace("%{", "%%{")
        return value if isinstance(value, str) else json.dumps(value)

    def value(self, text: str) -> Any:
        """What Nomad makes of a text that is passed for it."""
        return text if self.type == "string" else json.loads(text)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)


class Identity(_Part):
    """A token that a task gets; Nomad names it `default` if it has no name."""

    name: str = "default"
    aud: tuple[str, ...] = ()


class Lifecycle(_Part):
    """When a task runs: with the main tasks, unless its hook says otherwise."""

    hook: str = "main"
    sidecar: bool = False


class Resources(_Part):
    """MHz and MB that a task asks for, with what Nomad gives one that does not ask."""

    cpu: int = 100
    memory: int = 300


class Task(_Part):
    """One task."""

    name: str
    identities: tuple[Identity, ...] = ()
    lifecycle: Lifecycle = Lifecycle()
    resources: Resources = Resources()


class Group(_Part):
    """Tasks that make one allocation."""

    name: str
    tasks: tuple[Task, ...]

    @property
    def total(self) -> tuple[int, int]:
        """MHz and MB that an allocation is counted as."""
        return total(
            (task.lifecycle.hook, task.lifecycle.sidecar, task.resources.cpu, task.resources.memory)
            for task in self.tasks
        )


class Job(_Part):
    """A job, as far as its place and its identities go."""

    id: str
    namespace: str = "default"
    node_pool: str = ""
    groups: tuple[Group, ...]


def total(asked: Iterable[tuple[str, bool, int, int]]) -> tuple[int, int]:
    """MHz and MB that tasks together are counted as, by Nomad's rule.

    That is the most that runs before, at and after the main tasks, and sidecars beside all of it.

    Args:
        asked: The hook of each task, whether it is a sidecar, its MHz and its MB.
    """
    phases: dict[str, Counter[str]] = defaultdict(Counter)
    for hook, sidecar, cpu, memory in asked:
        phase = "sidecar" if sidecar else hook if hook in ("prestart", "poststop") else "main"
        phases[phase].update(cpu=cpu, memory=memory)
    beside = phases.pop("sidecar", Counter())
    cpu, memory = (
        beside[name] + max((phase[name] for phase in phases.values()), default=0) for name in ("cpu", "memory")
    )
    return cpu, memory


def filled(value: Any, values: Mapping[str, Any], undecided: tuple[Any, ...] = ()) -> Any:
    """A body with the values of variables in their places.

    Args:
        value: A body, or a part of one.
        values: The variables by name. What refers to another stays as it is written.
        undecided: Values that stand for something unknown. A text with one of them in it is the first of them.
    """
    if isinstance(value, Mapping):
        # The keys of maps may be quoted.
        return {str(key).strip('"'): filled(inner, values, undecided) for key, inner in value.items()}
    if isinstance(value, list):
        return [filled(inner, values, undecided) for inner in value]
    if not isinstance(value, str):
        return value
    if (alone := _VARIABLE.fullmatch(value)) and alone[1] in values:
        return values[alone[1]]
    if any(values.get(name) in undecided for name in _VARIABLE.findall(value) if name in values):
        return undecided[0]
    return _VARIABLE.sub(lambda reference: str(values.get(reference[1], reference[0])), value)


def labelled(body: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Any]]:
    """The blocks of a kind with a label, such as `group`, in a body: label and body."""
    return ((label, inner) for block in body.get(kind, []) for label, inner in block.items())


@dataclass(frozen=True)
class Jobspec:
    """A parsed jobspec.

    Attributes:
        origin: What messages begin with: the file that it is from.
        id: The job's id.
        variables: Its HCL variables, by name.
        body: What stands in the job, with expressions as text.
    """

    origin: str
    id: str
    variables: Mapping[str, Variable]
    body: Mapping[str, Any]

    def job(self, given: Mapping[str, Any]) -> Job:
        """The job as types.

        Args:
            given: Values of its variables; the others have their defaults.

        Raises:
            JobspecError: A leaf has another type.
        """
        values = {name: given.get(name, variable.default) for name, variable in self.variables.items()}
        body = filled(self.body, values)
        fields: dict[str, Any] = {key: body[key] for key in ("namespace", "node_pool") if key in body}
        fields["groups"] = [
            {"name": group, "tasks": [_task(task, inner) for task, inner in labelled(content, "task")]}
            for group, content in labelled(body, "group")
        ]
        try:
            return Job.model_validate({"id": self.id, **fields})
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise JobspecError(
                f"{self.origin}: {where} is {first['input']!r}, so the job cannot be registered; {first['msg']}"
            ) from None


def _task(name: str, body: Mapping[str, Any]) -> dict[str, Any]:
    single = {key: body[key][0] for key in ("lifecycle", "resources") if body.get(key)}
    return {"name": name, "identities": body.get("identity", []), **single}


@cache
def parse(text: str, origin: str) -> Jobspec:
    """Parse a jobspec, each once: that is most of what planning a job costs, and every region asks for it.

    Args:
        text: The jobspec's text, in HCL2.
        origin: What messages begin with: the file that it is from.

    Raises:
        JobspecError: It is not HCL2, holds other than one job, or a variable has no type that is known here.
    """
    try:
        tree = hcl.plain(text)
    except hcl.HclError as error:
        raise JobspecError(f"{origin}: is not HCL2, so the job cannot be registered; correct it: {error}") from None
    jobs = list(labelled(tree, "job"))
    if len(jobs) != 1:
        raise JobspecError(f"{origin}: holds {len(jobs)} jobs, so there is nothing definite to register; write one")
    variables = {}
    for name, body in labelled(tree, "variable"):
        kind = str(body.get("type", "")).removeprefix("${").removesuffix("}").replace(" ", "")
        if kind not in type_names:
            raise JobspecError(
                f"{origin}: variable {name} has the type {kind or 'none'!r}, so its values cannot be checked; "
                f"give it one of: {', '.join(type_names)}"
            )
        variables[name] = Variable(
            type=kind,
            description=str(body.get("description", "")),
            required="default" not in body,
            default=body.get("default"),
        )
    return Jobspec(origin, id=jobs[0][0], variables=variables, body=jobs[0][1])
