"""The part of the expr language (expr-lang.org) that workflow definitions use.

Owns: syntax, operators, the functions that Argo adds (`asInt`, `jsonpath`, `toJson`, a few of Sprig's). Everything
else is refused by name when the expression is parsed, so that a definition is found wrong when it is registered, not
halfway through a run. Deliberately not: `{{...}}` tags (`tags`).
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from definitions.argo.models import json_text
from mlops.engines.embedded.errors import EmbeddedError


class ExpressionError(EmbeddedError):
    """An expression that is wrong, or uses what is not understood here. The message is one line."""


class _Missing:
    def __repr__(self) -> str:
        return "nil"


Scope = Mapping[str, Any]
_Node = Callable[[Scope], Any]

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>\d+\.\d+|\d+)
  | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
  | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
  | (?P<op>\?\?|\?\.|\|\||&&|==|!=|<=|>=|[-+*/%<>!?:.,()\[\]{}])
  )""",
    re.VERBOSE,
)
_BINARY: dict[str, int] = {
    "??": 1,
    "||": 2,
    "or": 2,
    "&&": 3,
    "and": 3,
    "==": 4,
    "!=": 4,
    "<": 5,
    ">": 5,
    "<=": 5,
    ">=": 5,
    "in": 5,
    "not": 5,
    "matches": 5,
    "contains": 5,
    "startsWith": 5,
    "endsWith": 5,
    "+": 7,
    "-": 7,
    "*": 8,
    "/": 8,
    "%": 8,
}
_WORDS = {"true": True, "false": False, "nil": None}


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "nil"}[value]
    return value if isinstance(value, str) else json_text(value)


def _integer(value: Any) -> int:
    if isinstance(value, str) and not re.fullmatch(r"[-+]?\d+", value):
        raise ExpressionError(f"{value!r} is not a whole number")
    return int(value)


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ExpressionError(f"{value!r} is not a number") from None


def _jsonpath(document: Any, path: Any) -> Any:
    try:
        value = json.loads(document)
    except (TypeError, ValueError):
        raise ExpressionError("jsonpath: the first argument is not JSON") from None
    if not re.fullmatch(r"\$(\.[A-Za-z_][A-Za-z0-9_-]*|\[\d+\]|\['[^']*'\])*", str(path)):
        raise ExpressionError(f"jsonpath {path!r}: only $.name, ['name'] and [0] are understood by the embedded engine")
    for name, index, quoted in re.findall(r"\.([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\['([^']*)'\]", str(path)):
        try:
            value = value[int(index)] if index else value[name or quoted]
        except (KeyError, IndexError, TypeError):
            raise ExpressionError(f"jsonpath {path!r}: there is no such value") from None
    return value


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "asInt": _integer,
    "int": _integer,
    "asFloat": _float,
    "float": _float,
    "string": _text,
    "toJson": json_text,
    "toJSON": lambda value: json.dumps(value, indent=2, ensure_ascii=False, sort_keys=True),
    "fromJSON": json.loads,
    "jsonpath": _jsonpath,
    "len": len,
    "lower": lambda text: text.lower(),
    "upper": lambda text: text.upper(),
    "trim": lambda text: text.strip(),
    "split": lambda text, separator: text.split(separator),
    "join": lambda items, separator="": separator.join(map(_text, items)),
    "replace": lambda text, old, new: text.replace(old, new),
    "sprig.sha256sum": lambda text: hashlib.sha256(_text(text).encode()).hexdigest(),
    "sprig.trunc": lambda count, text: text[:count] if count >= 0 else text[count:],
    "sprig.trim": lambda text: text.strip(),
    "sprig.lower": lambda text: text.lower(),
    "sprig.upper": lambda text: text.upper(),
    "sprig.replace": lambda old, new, text: text.replace(old, new),
    "sprig.join": lambda separator, items: separator.join(map(_text, items)),
    "sprig.splitList": lambda separator, text: text.split(separator),
    "sprig.default": lambda fallback, value: value or fallback,
    "sprig.quote": lambda text: json.dumps(_text(text)),
}
"""Functions by the name they are called by."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Attributes:
        text: As written.
        names: The dotted paths it refers to, as far as they are constant.
    """

    text: str
    names: frozenset[str]
    _root: _Node

    def evaluate(self, scope: Scope) -> Any:
        """The value in a scope of dotted names; a value that is absent is None.

        Raises:
          ExpressionError: It cannot be computed.
        """
        try:
            return self._root(scope)
        except ExpressionError as error:
            raise ExpressionError(f"expression {self.text!r}: {error}") from None
        except (TypeError, ValueError, AttributeError, ZeroDivisionError, IndexError, re.error) as error:
            raise ExpressionError(f"expression {self.text!r}: {error}") from None


def parse(text: str, *, bare_words: bool = False) -> Expression:
    """Parse an expression.

    Args:
      text: It.
      bare_words: Take a lone unknown word as text, as Argo does in `when`.

    Raises:
      ExpressionError: It is wrong, or uses what is not understood here.
    """
    parser = _Parser(text, bare_words)
    root = parser.whole()
    return Expression(text, frozenset(parser.names), root)


class _Parser:
    def __init__(self, text: str, bare_words: bool) -> None:
        self.names: set[str] = set()
        self._text = text
        self._bare_words = bare_words
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if not match or match.end() == at:
                raise self._wrong(f"{text[at:].strip()[:20]!r} is not understood by the embedded engine")
            kind = str(match.lastgroup)
            self._tokens.append((kind, match[kind]))
            at = match.end()
        self._at = 0

    def _wrong(self, why: str) -> ExpressionError:
        return ExpressionError(f"expression {self._text!r}: {why}")

    def _peek(self) -> tuple[str, str]:
        return self._tokens[self._at] if self._at < len(self._tokens) else ("end", "")

    def _next(self) -> tuple[str, str]:
        token = self._peek()
        self._at += 1
        return token

    def _take(self, *values: str) -> bool:
        kind, value = self._peek()
        if kind != "string" and value in values:
            self._at += 1
            return True
        return False

    def _need(self, value: str) -> None:
        if not self._take(value):
            raise self._wrong(f"{value!r} is missing before {self._peek()[1] or 'the end'!r}")

    def whole(self) -> _Node:
        node = self._ternary()
        if self._peek()[0] != "end":
            raise self._wrong(f"{self._peek()[1]!r} is not expected there")
        return node

    def _ternary(self) -> _Node:
        condition = self._binary(0)
        if not self._take("?"):
            return condition
        yes = self._ternary()
        self._need(":")
        no = self._ternary()
        return lambda scope: yes(scope) if _truth(condition(scope)) else no(scope)

    def _binary(self, least: int) -> _Node:
        left = self._unary()
        while True:
            kind, op = self._peek()
            level = _BINARY.get(op, 0) if kind in ("op", "name") else 0
            if level <= least:
                return left
            self._next()
            negated = op == "not"
            if negated:
                kind, op = self._next()
                if op not in ("in", "matches", "contains", "startsWith", "endsWith"):
                    raise self._wrong("'not' is not expected there")
            left = _applied(op, left, self._binary(level), negated)

    def _unary(self) -> _Node:
        if self._take("!", "not"):
            inner = self._unary()
            return lambda scope: not _truth(inner(scope))
        if self._take("-"):
            inner = self._unary()
            return lambda scope: -inner(scope)
        return self._postfix(*self._primary())

    def _primary(self) -> tuple[_Node, str | None]:
        """A value, and its dotted path if it is a name."""
        kind, value = self._next()
        if kind == "number":
            number = float(value) if "." in value else int(value)
            return lambda _: number, None
        if kind == "string":
            string = _unquoted(value)
            return lambda _: string, None
        if kind == "name":
            if value in _WORDS:
                constant = _WORDS[value]
                return lambda _: constant, None
            return _lookup(value, self._bare_words), value
        if value == "(":
            inner = self._ternary()
            self._need(")")
            return inner, None
        if value == "[":
            items = self._list("]")
            return lambda scope: [item(scope) for item in items], None
        raise self._wrong(
            f"{value or 'the end'!r} is not expected there" if value != "{" else "maps are not understood here"
        )

    def _list(self, end: str) -> list[_Node]:
        items: list[_Node] = []
        while not self._take(end):
            if items:
                self._need(",")
                if self._take(end):
                    break
            items.append(self._ternary())
        return items

    def _postfix(self, node: _Node, path: str | None) -> _Node:
        while True:
            if self._take("."):
                kind, value = self._next()
                if kind != "name":
                    raise self._wrong("a name is missing after '.'")
                node, path = self._member(node, path, value)
            elif self._take("["):
                kind, value = self._peek()
                following = self._tokens[self._at + 1] if self._at + 1 < len(self._tokens) else ("end", "")
                if kind == "string" and following[1] == "]" and path is not None:
                    self._at += 2
                    node, path = self._member(node, path, _unquoted(value))
                    continue
                node, path = self._index(node), None
            elif self._peek() == ("op", "("):
                if path not in FUNCTIONS:
                    raise self._wrong(
                        f"function {path or '(...)'} is not understood by the embedded engine; it has "
                        + ", ".join(FUNCTIONS)
                    )
                self._next()
                node, path = _call(FUNCTIONS[path], self._list(")")), None
            else:
                if path is not None and path.partition(".")[0] != "sprig":
                    self.names.add(path)
                return node

    def _member(self, node: _Node, path: str | None, name: str) -> tuple[_Node, str | None]:
        if path is not None:
            whole = f"{path}.{name}"
            return _lookup(whole, False), whole
        return (lambda scope: _get(node(scope), name)), None

    def _index(self, node: _Node) -> _Node:
        low = None if self._peek()[1] == ":" else self._ternary()
        if self._take(":"):
            high = None if self._peek()[1] == "]" else self._ternary()
            self._need("]")
            return lambda scope: node(scope)[low(scope) if low else None : high(scope) if high else None]
        self._need("]")
        if low is None:
            raise self._wrong("an index is missing")
        return lambda scope: _get(node(scope), low(scope))


def _unquoted(literal: str) -> str:
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda match: escapes.get(match[1], match[1]), literal[1:-1], flags=re.DOTALL)


def _lookup(path: str, bare_words: bool) -> _Node:
    def look(scope: Scope) -> Any:
        if path in scope:
            return scope[path]
        parts = path.split(".")
        for n in range(len(parts) - 1, 0, -1):
            if (head := ".".join(parts[:n])) in scope:
                value = scope[head]
                for part in parts[n:]:
                    value = _get(value, part)
                return value
        inside = {key[len(path) + 1 :]: value for key, value in scope.items() if key.startswith(path + ".")}
        if inside:
            return inside
        return path if bare_words else None

    return look


def _get(value: Any, key: Any) -> Any:
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list | str) and isinstance(key, int):
        return value[key]
    if value is None:
        raise ExpressionError(f"there is no value to take {key!r} from")
    raise ExpressionError(f"{key!r} cannot be taken from {_text(value)[:40]!r}")


def _call(function: Callable[..., Any], arguments: list[_Node]) -> _Node:
    return lambda scope: function(*(argument(scope) for argument in arguments))


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ExpressionError(f"{_text(value)!r} is neither true nor false")
    return value


def _applied(op: str, left: _Node, right: _Node, negated: bool) -> _Node:
    match op:
        case "??":
            return lambda scope: right(scope) if (value := left(scope)) is None else value
        case "||" | "or":
            return lambda scope: _truth(left(scope)) or _truth(right(scope))
        case "&&" | "and":
            return lambda scope: _truth(left(scope)) and _truth(right(scope))
    operation = _OPERATIONS[op]
    if negated:
        return lambda scope: not operation(left(scope), right(scope))
    return lambda scope: operation(left(scope), right(scope))


def _plus(left: Any, right: Any) -> Any:
    if isinstance(left, str) != isinstance(right, str):
        raise ExpressionError(f"{_text(left)!r} + {_text(right)!r}: text and a number, say string(...) or asInt(...)")
    return left + right


_OPERATIONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "in": lambda a, b: a in b,
    "matches": lambda a, b: re.search(b, a) is not None,
    "contains": lambda a, b: b in a,
    "startsWith": lambda a, b: a.startswith(b),
    "endsWith": lambda a, b: a.endswith(b),
    "+": _plus,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "%": lambda a, b: a % b,
}
