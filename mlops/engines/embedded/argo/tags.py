"""`{{name}}` and `{{=expression}}` in the texts of a definition.

Owns: finding and replacing tags, in any depth of a definition, one text at a time, so that no value can change the
definition's shape. Deliberately not: which names there are (`run`).
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from mlops.engines.embedded.argo import expressions
from mlops.engines.embedded.argo.expressions import ExpressionError, Scope

_TAG = re.compile(r"\{\{(=?)(.*?)\}\}", re.DOTALL)


def text_of(value: Any) -> str:
    """A value as it stands in a text: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else expressions.to_json(value)


def found(value: Any) -> Iterator[tuple[bool, str]]:
    """Every tag in a definition: whether it is an expression, and what it says."""
    for text in texts(value):
        for match in _TAG.finditer(text):
            yield bool(match[1]), match[2].strip()


def texts(value: Any) -> Iterator[str]:
    """Every text in a definition."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)


def names(value: Any) -> set[str]:
    """The names that a definition's tags refer to."""
    every: set[str] = set()
    for is_expression, text in found(value):
        every |= expressions.parse(text).names if is_expression else {text}
    return every


def fill(value: Any, scope: Scope, *, later: Callable[[str], bool] = lambda _: False) -> Any:
    """Replace the tags in a definition.

    Args:
      value: The definition, or a part of it.
      scope: Values by dotted name.
      later: Whether a name that is not in the scope will be known later; its tag then stays as it is.

    Raises:
      ExpressionError: A name has no value.
    """
    if isinstance(value, str):
        return _TAG.sub(lambda match: _replacement(match, scope, later), value)
    if isinstance(value, dict):
        return {key: fill(inner, scope, later=later) for key, inner in value.items()}
    if isinstance(value, list):
        return [fill(inner, scope, later=later) for inner in value]
    return value


def _replacement(match: re.Match[str], scope: Scope, later: Callable[[str], bool]) -> str:
    text = match[2].strip()
    if match[1]:
        expression = expressions.parse(text)
        if any(name not in scope and later(name) for name in expression.names):
            return match[0]
        value = expression.evaluate(scope)
        if value is None:
            raise ExpressionError(f"{{{{={text}}}}} has no value; say what to take instead with ??")
        return text_of(value)
    if text in scope and scope[text] is not None:
        return text_of(scope[text])
    if later(text):
        return match[0]
    raise ExpressionError(f"{{{{{text}}}}} has no value here")
