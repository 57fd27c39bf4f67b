"""What a Nomad jobspec declares: its job's id and its HCL variables, and the text that a value is passed as.

Owns reading and checking; it deliberately evaluates nothing: expressions are Nomad's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import hcl2
from hcl2.utils import SerializationOptions

_PLAIN = SerializationOptions(
    with_comments=False, explicit_blocks=False, strip_string_quotes=True, preserve_heredocs=False
)

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


@dataclass(frozen=True)
class Jobspec:
    """A parsed jobspec."""

    id: str
    variables: Mapping[str, Variable]
    body: Mapping[str, Any]


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
        tree = hcl2.loads(text, serialization_options=_PLAIN)
    except Exception as error:  # noqa: BLE001  the parser's own errors have no common base
        problem = " ".join(str(error).split())[:200]
        raise JobspecError(f"{origin}: is not HCL2, so the job cannot be registered; correct it: {problem}") from None
    jobs = [(job_id, body) for block in tree.get("job", []) for job_id, body in block.items()]
    if len(jobs) != 1:
        raise JobspecError(f"{origin}: holds {len(jobs)} jobs, so there is nothing definite to register; write one")
    variables = {}
    for block in tree.get("variable", []):
        for name, body in block.items():
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
    return Jobspec(id=jobs[0][0], variables=variables, body=jobs[0][1])
