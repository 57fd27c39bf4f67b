"""Looking into a definition of which parts may not be known yet.

Such parts have no type: a value that another resource gives is known only when that exists. Who looks says what an
unknown value is, by a view; `definitions` says where things are.
"""

from collections.abc import Mapping
from typing import Any, Protocol, Self


class UndecidedError(Exception):
    """A value that is asked for is not known, or is secret; the message is its path."""


class View(Protocol):
    """A part of a definition.

    Each of `get` and `each` raises UndecidedError where what they would give is not known.
    """

    @property
    def where(self) -> str:
        """How people find it in the whole."""
        ...

    @property
    def outer(self) -> Self | None:
        """The part that this one is in."""
        ...

    def get(self, *path: str) -> Any:
        """The value below a path of keys; None where there is none."""
        ...

    def each(self, *path: str) -> list[Any]:
        """The items of the list below a path; what is no list is one item."""
        ...

    def inner(self, value: Any, where: str) -> Self:
        """A part inside of this one."""
        ...


def merged(base: Any, over: Any) -> Any:
    """One definition over another: maps by key, lists of named things by name, anything else as a whole."""
    if over is None:
        return base
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        return {**base, **{key: merged(base.get(key), value) for key, value in over.items()}}
    if isinstance(base, list) and isinstance(over, list) and _named([*base, *over]):
        by_name = {item["name"]: item for item in base}
        for item in over:
            by_name[item["name"]] = merged(by_name.get(item["name"]), item)
        return list(by_name.values())
    return over


def _named(items: list[Any]) -> bool:
    return all(isinstance(item, Mapping) and "name" in item for item in items)
