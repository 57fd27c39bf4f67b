"""YAML with Argo's `{{...}}` in it, which is no YAML until a run has put its values in.

Owns reading it with the tags left as they are. It deliberately evaluates none.
"""

import re
from functools import lru_cache
from typing import Any

from definitions import documents

TAG = re.compile(r"\{\{(=?)(.*?)\}\}", re.DOTALL)
"""What Argo puts a value in the place of: whether it is an expression, and its text."""


@lru_cache(maxsize=256)
def read(text: str) -> list[Any]:
    """The documents of a text. Do not change them: they are kept.

    Raises:
        DocumentError: It is not YAML, wherever the tags may be.
    """
    tags: list[str] = []

    def stand_in(match: re.Match[str]) -> str:
        tags.append(match[0])
        # As long as what it stands for: it counts in how much is read.
        return f"⟪{len(tags) - 1}".ljust(len(match[0]) - 1, "_") + "⟫"

    return [_restored(document, tags) for document in documents.load_all(TAG.sub(stand_in, text))]


def _restored(value: Any, tags: list[str]) -> Any:
    if isinstance(value, str):
        return re.sub(r"⟪(\d+)_*⟫", lambda match: tags[int(match[1])], value)
    if isinstance(value, dict):
        return {_restored(key, tags): _restored(inner, tags) for key, inner in value.items()}
    return [_restored(inner, tags) for inner in value] if isinstance(value, list) else value
