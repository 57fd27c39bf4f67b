"""What a policy rule is, and the parts of a stack that a rule looks at.

Owns the vocabulary; rules are in `rules`, where they look in `parts`, and how they are applied in `judge`. A rule
deliberately cannot pass what it could not read: reading a value that is not known yet raises, and the answer is "not
decided".
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

from definitions.views import UndecidedError
from inventory.capacity import Capacity, capacity
from inventory.permissions import Grant, permissions
from inventory.resources import SECRET, UNKNOWN, Inventory, Resource
from policy.settings import Parameters

T = TypeVar("T")


class Level(StrEnum):
    """What follows when a rule is broken."""

    MANDATORY = "mandatory"
    """Nothing is deployed."""
    ADVISORY = "advisory"
    """It is said."""
    DISABLED = "disabled"
    """Nothing; the rule is not applied."""


@dataclass(frozen=True)
class Part:
    """What a rule looks at: a resource, something inside of one, or a whole stack.

    Attributes:
        resource: The resource; None for the stack itself.
        value: What is looked at, as plain data. UNKNOWN and SECRET may be anywhere in it.
        where: How people find it inside the resource, `group training, task train`; empty for the resource itself.
        outer: The part that this one is in.
    """

    resource: Resource | None
    value: Any
    where: str = ""
    outer: "Part | None" = None

    def get(self, *path: str) -> Any:
        """The value below a path of keys; None where there is none.

        Raises:
            UndecidedError: It, or something above it, is not known.
        """
        value = self.value
        for number, key in enumerate(path):
            _refuse_unknown(value, path[:number])
            value = value.get(key) if isinstance(value, Mapping) else None
        _refuse_unknown(value, path)
        return value

    def each(self, *path: str) -> list[Any]:
        """The known items of the list below a path; what is no list is one item.

        Raises:
            UndecidedError: The list or one of its items is not known.
        """
        found = self.get(*path)
        items = found if isinstance(found, list) else [] if found is None else [found]
        for item in items:
            _refuse_unknown(item, path)
        return items

    def inner(self, value: Any, where: str) -> "Part":
        """A part inside of this one."""
        return Part(self.resource, value, ", ".join(filter(None, (self.where, where))), self)


def _refuse_unknown(value: Any, path: tuple[str, ...]) -> None:
    if isinstance(value, str) and value in (UNKNOWN, SECRET):
        raise UndecidedError(".".join(path))


@dataclass(frozen=True)
class Stack:
    """A stack's resources, and what a rule may want to know about all of them together."""

    inventory: Inventory
    parameters: Parameters = field(default_factory=Parameters)
    _found: dict[Callable[["Stack"], Any], Any] = field(default_factory=dict, compare=False, repr=False)

    def once(self, find: Callable[["Stack"], T]) -> T:
        """What a function finds in this stack, which it is asked only once."""
        if find not in self._found:
            self._found[find] = find(self)
        return self._found[find]

    @cached_property
    def by_urn(self) -> Mapping[str, Resource]:
        """Every resource by its URN."""
        return {resource.urn: resource for resource in self.inventory.resources}

    @cached_property
    def capacity(self) -> Capacity:
        """Machines, vCPU, memory and disk, at least and at most."""
        return capacity(self.inventory)

    @cached_property
    def grants(self) -> list[Grant]:
        """Who may do what on which resource."""
        return permissions(self.inventory)


def whole(resource: Resource) -> Iterable[Part]:
    """The resource itself: what the program sets."""
    yield Part(resource, resource.inputs)


Check = Callable[[Part, Stack], Iterable[str]]
"""Yields a sentence for each problem of a part."""


@dataclass(frozen=True)
class Rule:
    """One rule.

    Attributes:
        id: Its name in reports, exemptions and levels: `nomad-task-privileged`.
        level: What follows when it is broken; a stack may set another one.
        holds: What is true of a stack that keeps it; one sentence.
        why: The incident or benchmark that it prevents or comes from, with the source's section or address.
        fix: What to do when it is broken; one sentence.
        check: Yields a sentence for each problem of a part: what is wrong with it, by its names and values.
        types: The resource types that it looks at; a type that ends in `*` stands for all that begin so. With none, the
            rule looks at the stack itself.
        parts: Where in such a resource.
        across: Whether it must see the whole stack: Pulumi can apply it only at the end of a preview or update.
    """

    id: str
    level: Level
    holds: str
    why: str
    fix: str
    check: Check
    types: tuple[str, ...] = ()
    parts: Callable[[Resource], Iterable[Part]] = whole
    across: bool = False

    def looks_at(self, type_token: str) -> bool:
        """Whether resources of a type are its subject."""
        return any(
            type_token.startswith(kind[:-1]) if kind.endswith("*") else type_token == kind for kind in self.types
        )
