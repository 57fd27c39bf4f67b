"""Reading YAML that anybody may have written: in bounded time and memory, or not at all.

Owns the bounds, for every file and text of the project's. In YAML an alias stands for what its anchor names, and each
level of aliases multiplies: walked once, a file of 5 KB can take gigabytes.
"""

from collections.abc import Iterator
from typing import Any

import yaml

from definitions.scalars import as_text

# libyaml's, which is ten times as fast; its errors do not quote the line, which may hold a secret.
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_TEXT = "tag:yaml.org,2002:str"
_CHARACTERS = 1_000_000
_DEPTH = 100


class DocumentError(ValueError):
    """A text is not YAML that is read here.

    Attributes:
        problem: What is wrong, to follow the name of the text.
        fix: What to do.
    """

    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(f"{problem}; {fix}")
        self.problem = problem
        self.fix = fix


def load(text: str) -> Any:
    """The value of a YAML document.

    Raises:
        DocumentError: It is not YAML, or more than is read.
    """
    documents = load_all(text)
    if len(documents) > 1:
        raise DocumentError("holds several documents", "leave one of them")
    return documents[0] if documents else None


def load_all(text: str) -> list[Any]:
    """The values of all documents in a YAML text.

    Raises:
        DocumentError: It is not YAML, or more than is read.
    """
    if len(text) > _CHARACTERS:
        raise DocumentError(f"is longer than {_CHARACTERS:,} characters", "shorten it")
    try:
        _measure(yaml.parse(text, Loader=_Loader))
        return list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        parts = ((error.context, error.context_mark), (error.problem, error.problem_mark))
        told = [f"{what} (line {mark.line + 1})" if mark else what for what, mark in parts if what]
        raise DocumentError("is not YAML", f"correct it: {', '.join(told)}") from None
    except DocumentError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: a date that there is not, or a number of thousands of digits.
        raise DocumentError("is not YAML", f"correct it: {' '.join(str(error).split())}") from None


def rewritten(text: str) -> dict[tuple[str | int, ...], str]:
    """What YAML reads as another value than its text, by its path: 1.10 is 1.1, 010 is 8, 1:30 is 90, yes is true.

    Args:
        text: A document that `load` reads.
    """
    loader = _Loader(text)
    found: dict[tuple[str | int, ...], str] = {}

    def walk(node: Any, path: tuple[str | int, ...]) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                walk(value, (*path, key.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, value in enumerate(node.value):
                walk(value, (*path, index))
        elif node.tag != _TEXT and as_text(loader.construct_object(node)) != node.value:
            found[path] = node.value

    try:
        node = loader.get_single_node()
        if node is not None:
            loader.construct_document(node)  # which puts in place what `<<` takes over
            walk(node, ())
    finally:
        loader.dispose()
    return found


def _measure(events: Iterator[Any]) -> None:
    """Refuse what is too deep or too long with every alias written out; nothing is built for it."""
    anchors: dict[str, tuple[int, int]] = {}
    around: list[tuple[str | None, int, int]] = []
    anchor, size, depth = None, 0, 0
    for event in events:
        if isinstance(event, yaml.CollectionStartEvent):
            around.append((anchor, size, depth))
            anchor, size, depth = event.anchor, 1, 1
        elif isinstance(event, yaml.CollectionEndEvent):
            inner = size, depth
            if anchor:
                anchors[anchor] = inner
            anchor, size, depth = around.pop()
            size, depth = size + inner[0], max(depth, 1 + inner[1])
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in anchors:
                raise DocumentError(
                    f"has an alias *{event.anchor} before the end of what it stands for", "write out the value"
                )
            inner = anchors[event.anchor]
            size, depth = size + inner[0], max(depth, 1 + inner[1])
        elif isinstance(event, yaml.ScalarEvent):
            size += 1 + len(event.value)
            if event.anchor:
                anchors[event.anchor] = 1 + len(event.value), 0
        if size > _CHARACTERS:
            raise DocumentError(f"comes to more than {_CHARACTERS:,} characters with its aliases", "use fewer aliases")
        if max(depth, len(around)) > _DEPTH:
            raise DocumentError(f"is nested more than {_DEPTH} deep", "make it flatter")
