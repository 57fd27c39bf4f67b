"""`{{name}}` and `{{=expression}}` in the texts of a definition.

Owns: finding and replacing tags, in any depth of a definition, one text at a time, so that no value can change the
definition's shape. Deliberately not: which names there are (`values`).
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from definitions.argo.manifests import TAG
from definitions.argo.models import text_of
from definitions.typed import Typed
from mlops.engines.embedded.argo import expressions
from mlops.engines.embedded.argo.expressions import ExpressionError, Scope

T = TypeVar("T")


def texts(value: Any) -> Iterator[str]:
    """Every text in a definition."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for inner in value:
            yield from texts(inner)
    elif isinstance(value, dict | Typed):
        for _, inner in value.given() if isinstance(value, Typed) else value.items():
            yield from texts(inner)


def names(value: Any) -> set[str]:
    """The names that a definition's tags refer to."""
    every: set[str] = set()
    for text in texts(value):
        for is_expression, tag in TAG.findall(text):
            every |= expressions.parse(tag.strip()).names if is_expression else {tag.strip()}
    return every


def fill(value: T, scope: Scope, *, later: Callable[[str], bool] = lambda _: False) -> T:
    """Replace the tags in a definition, or a part of it.

    Args:
      value: It.
      scope: Values by dotted name.
      later: Whether a name that is not in the scope will be known later; its tag then stays as it is.

    Raises:
      ExpressionError: A name has no value.
    """
    filled: Any = value
    if isinstance(value, str):
        filled = TAG.sub(lambda match: _replacement(match, scope, later), value)
    elif isinstance(value, dict):
        filled = {key: fill(inner, scope, later=later) for key, inner in value.items()}
    elif isinstance(value, list):
        filled = [fill(inner, scope, later=later) for inner in value]
    elif isinstance(value, Typed):
        fields = value.model_fields_set & type(value).model_fields.keys()
        filled = value.model_copy(
            update={name: fill(getattr(value, name), scope, later=later) for name in sorted(fields)}
        )
    return filled


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
