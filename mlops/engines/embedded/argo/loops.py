"""Loops: the turns of `withItems`, `withParam` and `withSequence`, and what each is called."""

import json
from collections.abc import Mapping
from typing import Any

from definitions.argo.models import Sequence, Step, json_text, text_of
from mlops.engines.embedded.argo import tags
from mlops.engines.embedded.errors import EmbeddedError


def items(call: Step, env: Mapping[str, Any]) -> list[Any] | None:
    """An item for each turn; None for what is no loop.

    Raises:
      EmbeddedError: The values make no list.
    """
    if call.with_items is not None:
        return tags.fill(call.with_items, env)
    if call.with_param is not None:
        text = tags.fill(call.with_param, env)
        try:
            given = json.loads(text)
        except ValueError:
            given = None
        if not isinstance(given, list):
            raise EmbeddedError(f"withParam value could not be parsed as a JSON list: {text[:200]}")
        return given
    return None if call.with_sequence is None else _sequence(tags.fill(call.with_sequence, env))


def in_turn(text: str) -> bool:
    """Whether a text differs from turn to turn."""
    return any(name == "item" or name.startswith("item.") for name in tags.names(text))


def env_of(item: Any) -> dict[str, Any]:
    """What tags in a turn find."""
    if isinstance(item, dict):
        return {"item": json_text(item), **{f"item.{name}": text_of(value) for name, value in item.items()}}
    return {"item": text_of(item)}


def label(index: int, item: Any) -> str:
    """What tells a turn's node from those of others."""
    if isinstance(item, dict):
        text = ",".join(f"{name}:{text_of(value)}" for name, value in sorted(item.items()))
    else:
        text = text_of(item)
    return f"({index}:{text})"


def _sequence(sequence: Sequence) -> list[str]:
    try:
        start = int(sequence.start)
        if sequence.count is None:
            stop = int(sequence.end or "")
        elif (count := int(sequence.count)) < 1:
            return []
        else:
            stop = start + count - 1
    except ValueError:
        given = dict(sequence.given())
        raise EmbeddedError(f"withSequence needs whole numbers, has {given}") from None
    numbers = range(start, stop + 1) if stop >= start else range(start, stop - 1, -1)
    return [sequence.format % number for number in numbers]
