"""Which images a resource names, and how they change: by their keys, and within manifests and jobspecs that are texts.

Owns finding them. It asks no registry, so it knows what a name says and not what is behind it.
"""

import re
from collections.abc import Iterator
from typing import Any

Image = tuple[str, str, str]
"""An image's name, and its tag or digest before and after."""
_KEY = re.compile(r"(?:.*[a-z])?[iI]mage|image_\w+")
_LINE = re.compile(r"""^\s*(?:-\s+)?["']?(?:\w*[a-z])?[iI]mage["']?\s*[:=]\s*["']?([^\s"'#,]+)""", re.MULTILINE)


def image_changes(old: Any, new: Any) -> list[Image]:
    """Every image that is another version of itself."""
    before, after = _image_names(old), _image_names(new)
    return [
        (name, ", ".join(sorted(before[name])), ", ".join(sorted(after[name])))
        for name in sorted(before.keys() & after.keys())
        if before[name] != after[name]
    ]


def _image_names(value: Any) -> dict[str, set[str]]:
    """The tags or digests of every image that a resource names, by the image's name."""
    found: dict[str, set[str]] = {}
    for text in _image_texts(value):
        match = re.fullmatch(r"([^\s@${]+?)(?:@(sha256:\w+)|:([\w.-]+))", text)
        if match:
            found.setdefault(match[1], set()).add(match[2] or match[3])
        elif re.fullmatch(r"[\w./:-]+", text) and "/" in text:
            # A machine's image: the last part of its path is its version.
            name, _, version = text.rpartition("/")
            found.setdefault(name, set()).add(version)
    return found


def _image_texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and _KEY.fullmatch(key):
                yield inner
            else:
                yield from _image_texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _image_texts(inner)
    elif isinstance(value, str) and "\n" in value:
        # A manifest or a jobspec within a text.
        yield from _LINE.findall(value)
