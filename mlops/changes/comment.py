"""Text of others in a comment for GitHub: code that it cannot leave, cut to what there is room for. Pure functions."""

import re

from mlops_registry.text import printable

LIMIT = 65_536
"""How long GitHub lets a comment be, in characters. Bytes are counted here, of which there are never fewer."""

# How much is shown of one thing, in characters.
_SPAN = 120
_LINE = 200
_MESSAGE = 3_000


def code(text: str, room: int = _SPAN) -> str:
    """Text as a code span that it cannot leave."""
    text = printable(cut(text, room))
    if not text:
        return '`""`'
    fence = "`" * (_longest(text) + 1)
    pad = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def block(text: str, language: str = "", room: int = _MESSAGE) -> str:
    """Lines as a fenced block that they cannot leave."""
    lines = [printable(cut(line, _LINE)) for line in cut(text, room).split("\n")]
    fence = "`" * max(3, _longest("\n".join(lines)) + 1)
    return "\n".join([fence + language, *lines, fence])


def cut(text: str, room: int) -> str:
    """Text of at most so many characters, and how many more there were."""
    return text if len(text) <= room else f"{text[:room]}… ({len(text) - room:,} more characters)"


def _longest(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)
