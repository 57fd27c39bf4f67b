"""The subset of Nomad's templates that gives a task secrets from Nomad Variables through its environment.

Executed: `if nomadVarExists "path"`, `with nomadVar "path"`, `.key`, `.key | toJSON`, `else`, `end`, trim markers,
comments. Every other action is refused by name when the job is registered. What is rendered goes into the environment
alone, never to disk: a template for a file is accepted where it renders to nothing here. Deliberately not: where
Variables live.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mlops.engines.embedded.errors import EmbeddedError

_ACTION = re.compile(r"(\s*)\{\{(-?)(.*?)(-?)\}\}", re.DOTALL)
_IF = re.compile(r'if\s+nomadVarExists\s+"([^"]+)"')
_WITH = re.compile(r'with\s+nomadVar\s+"([^"]+)"')
_KEY = re.compile(r"\.(\w+)(\s*\|\s*toJSON)?")

Variables = Mapping[str, Mapping[str, str]]


@dataclass
class _Node:
    kind: Literal["text", "if", "with", "key", "json", "root"]
    value: str = ""
    inside: "list[_Node]" = field(default_factory=list)
    otherwise: "list[_Node] | None" = None


def _parsed(text: str) -> _Node:
    root = _Node("root")
    stack = [root]

    def add(node: _Node) -> None:
        parent = stack[-1]
        (parent.inside if parent.otherwise is None else parent.otherwise).append(node)

    position, trim = 0, False
    for match in _ACTION.finditer(text):
        before = text[position : match.start()] + match[1]
        if trim:
            before = before.lstrip()
        add(_Node("text", before.rstrip() if match[2] else before))
        position, trim = match.end(), bool(match[4])
        action = match[3].strip()
        if found := _IF.fullmatch(action):
            add(node := _Node("if", found[1]))
            stack.append(node)
        elif found := _WITH.fullmatch(action):
            add(node := _Node("with", found[1]))
            stack.append(node)
        elif (found := _KEY.fullmatch(action)) and any(node.kind == "with" for node in stack):
            add(_Node("json" if found[2] else "key", found[1]))
        elif action == "else" and stack[-1] is not root and stack[-1].otherwise is None:
            stack[-1].otherwise = []
        elif action == "end" and stack[-1] is not root:
            stack.pop()
        elif not re.fullmatch(r"/\*.*\*/", action, re.DOTALL):
            raise EmbeddedError(
                f"template action {{{{ {action} }}}} is not executed by the embedded engine; known are if"
                ' nomadVarExists "path", with nomadVar "path", .key, .key | toJSON, else, end'
            )
    tail = text[position:]
    if len(stack) > 1:
        raise EmbeddedError(f"template: {{{{ {stack[-1].kind} }}}} has no {{{{ end }}}}")
    if "{{" in tail:
        raise EmbeddedError("template: {{ has no }}")
    add(_Node("text", tail.lstrip() if trim else tail))
    return root


def check(text: str) -> None:
    """Refuse what cannot be rendered.

    Raises:
      EmbeddedError: By the name of the action.
    """
    _parsed(text)


def text_of(text: str, variables: Variables) -> str:
    """What a template renders to.

    Raises:
      EmbeddedError: A Variable or a key is missing.
    """
    return _render(_parsed(text).inside, variables, None)


def rendered(text: str, variables: Variables) -> dict[str, str]:
    """The environment variables that a template gives, by Nomad's rules for KEY=value files.

    Raises:
      EmbeddedError: A Variable or a key is missing, or a line is not KEY=value. No message holds a value.
    """
    output = text_of(text, variables)
    found: dict[str, str] = {}
    for number, line in enumerate(output.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, equals, value = line.partition("=")
        key = key.strip().removeprefix("export ")
        if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", key):
            raise EmbeddedError(f"template: line {number} of what it renders is not KEY=value")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] == '"':
            try:
                value = json.loads(value)  # Nomad's own reader (hashicorp/go-envparse) takes JSON's escapes too
            except ValueError:
                raise EmbeddedError(f"template: line {number} of what it renders is wrongly quoted") from None
        elif len(value) > 1 and value[0] == value[-1] == "'":
            value = value[1:-1]
        found[key] = value
    return found


def _render(nodes: list[_Node], variables: Variables, dot: Mapping[str, str] | None) -> str:
    parts: list[str] = []
    for node in nodes:
        if node.kind == "text":
            parts.append(node.value)
        elif node.kind in ("key", "json"):
            if dot is None or node.value not in dot:
                raise EmbeddedError(f"template: the Nomad Variable has no key {node.value}")
            parts.append(json.dumps(dot[node.value]) if node.kind == "json" else dot[node.value])
        elif node.kind == "if":
            parts.append(_render(node.inside if node.value in variables else node.otherwise or [], variables, dot))
        elif node.value in variables:
            parts.append(_render(node.inside, variables, variables[node.value]))
        else:
            raise EmbeddedError(f"template: there is no Nomad Variable {node.value}; guard it by nomadVarExists")
    return "".join(parts)
