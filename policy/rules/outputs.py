"""Rules on a stack's outputs: what everybody who may read its state, or the log of an update, is told.

They are applied by a plan; the policy pack is handed resources, and no outputs.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from infra import credentials
from inventory.resources import SECRET
from policy.rule import Level, Part, Rule, Stack

# What every process has in its environment, as a map's keys or written down.
_ENVIRONMENT = {"PATH", "HOME", "PWD", "SHELL", "LOGNAME", "TMPDIR", "LANG"}
_WRITTEN = re.compile(rf"\b({'|'.join(sorted(_ENVIRONMENT))})['\"]?\s*[=:]\s*['\"]?[^\s'\"]")


def _nothing_secret(outputs: Part, _: Stack) -> Iterator[str]:
    for path, value in _values(outputs.value):
        # A value may be a credential before it is known: the name says so. What is marked secret is one.
        if value == SECRET:
            yield f"{path} is a secret"
        elif isinstance(value, str) and credentials.is_literal(path, value):
            yield f"{path} is called a credential, or looks like one"


def _no_environment(outputs: Part, _: Stack) -> Iterator[str]:
    for path, value in _values(outputs.value):
        names: set[str] = set()
        if isinstance(value, Mapping):
            names = _ENVIRONMENT & value.keys()
        elif isinstance(value, str):
            names = set(_WRITTEN.findall(value))
        if len(names) > 1:
            yield f"{path} has {' and '.join(sorted(names))}, as an environment has"


def _values(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Everything in a value, by its path; what is in a list has the list's."""
    if path:
        yield path, value
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _values(inner, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, path)


RULES = (
    Rule(
        id="output-secret",
        level=Level.MANDATORY,
        holds="No output of the stack is a credential.",
        why="CWE-532: what is no secret to Pulumi is printed by every update and stands in clear in the state.",
        fix="Put it into Secret Manager and export its name there, if anything.",
        check=_nothing_secret,
    ),
    Rule(
        id="output-environment",
        level=Level.MANDATORY,
        holds="No output of the stack is the environment of whoever updates it.",
        why="CWE-526: in environments are the tokens of people and of continuous integration, in clear.",
        fix="Export the one value that is needed, by its name.",
        check=_no_environment,
    ),
)
