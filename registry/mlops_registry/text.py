"""Text that others wrote, on a terminal. Standard library only, and nothing of this project: images hold a copy."""

import unicodedata


def printable(text: str, keep: str = "") -> str:
    r"""Text in which nothing commands a terminal, hides, or reorders what is read.

    Args:
        text: What somebody else wrote.
        keep: Control characters that stay as they are, such as line breaks.

    Returns:
        The text with every other control, format or unassigned character as an escape: `\x1b`, `\u202e`.
    """
    if text.isprintable():
        return text
    return "".join(char if _harmless(char) or char in keep else _escaped(char) for char in text)


def _harmless(char: str) -> bool:
    # Python calls no space but its own printable: a no-break space is one to look at.
    return char.isprintable() or unicodedata.category(char) == "Zs"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
