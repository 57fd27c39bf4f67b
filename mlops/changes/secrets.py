"""Which of two values may be shown: not a secret, nor what stands on the other side in a secret's place.

Owns the comparison of a value that is secret with one that is not. What looks like a credential is found by
`infra.credentials`.
"""

from collections.abc import Mapping
from typing import Any, Self

from infra.credentials import masked_value
from inventory.resources import SECRET


class _Told(str):
    """A text as it is shown, which is equal to what was sent as the same: two passwords are shown alike and differ."""

    __slots__ = ("sent",)
    sent: str

    def __new__(cls, shown: str, sent: str) -> Self:
        told = super().__new__(cls, shown)
        told.sent = sent
        return told

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Told) and self.sent == other.sent

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.sent)


def told(value: Any, name: str = "") -> Any:
    """A value whose texts are shown without credentials, and compare as they were sent."""
    return _beside(value, masked_value(value, name))


def sent(text: str) -> str:
    """A text of such a value as it was sent. It is not to be shown."""
    return text.sent if isinstance(text, _Told) else text


def bare(value: Any) -> Any:
    """Such a value as it is shown, and nothing else."""
    if isinstance(value, Mapping):
        return {key: bare(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [bare(inner) for inner in value]
    return str(value) if isinstance(value, _Told) else value


def _beside(value: Any, shown: Any) -> Any:
    if isinstance(value, dict):
        return {key: _beside(inner, shown[key]) for key, inner in value.items()}
    if isinstance(value, list):
        return [_beside(inner, other) for inner, other in zip(value, shown, strict=True)]
    return value if value == shown or not isinstance(value, str) else _Told(shown, value)


def sides(old: Any, new: Any) -> tuple[Any, Any]:
    """Two values in which the other side of a secret is a secret too, at any depth.

    In a list nothing says which item has become which. Where one is secret, so is every item that only the other side
    has, unless all items have names to be told by.
    """
    if not (holds(old) or holds(new)):
        return old, new
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        both = {key: sides(old[key], new[key]) for key in old if key in new}
        return (
            {key: both[key][0] if key in both else value for key, value in old.items()},
            {key: both[key][1] if key in both else value for key, value in new.items()},
        )
    if isinstance(old, list) and isinstance(new, list):
        before, after = by_name(old), by_name(new)
        if before is None or after is None:
            # It cannot be said which item has become which.
            return [_kept(item, new) for item in old], [_kept(item, old) for item in new]
        gone = holds([before[name] for name in before.keys() - after])
        come = holds([after[name] for name in after.keys() - before])
        before, after = sides(before, after)
        return (
            [value if name in after or not come else SECRET for name, value in before.items()],
            [value if name in before or not gone else SECRET for name, value in after.items()],
        )
    if isinstance(old, Mapping | list | str) and isinstance(new, Mapping | list | str):
        return SECRET, SECRET
    # A number or a switch that becomes a secret; and what is not there at all on one side is no value to be hidden.
    return _value(old), _value(new)


def holds(value: Any) -> bool:
    """Whether a value is secret, or holds one that is."""
    if isinstance(value, Mapping):
        return any(map(holds, value.values()))
    return any(map(holds, value)) if isinstance(value, list) else isinstance(value, str) and value == SECRET


def told_apart(old: list[Any], new: list[Any]) -> bool:
    """Whether each item of two lists can be compared with its own other one: a secret may be that of any other."""
    return not (holds(old) or holds(new)) or (by_name(old) is not None and by_name(new) is not None)


def by_name(items: list[Any]) -> dict[str, Any] | None:
    """The maps of a list by their names; None unless each has one of its own."""
    names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        return None
    return dict(zip(map(str, names), items, strict=True))


def _kept(item: Any, others: list[Any]) -> Any:
    return item if item in others else SECRET


def _value(value: Any) -> Any:
    return SECRET if isinstance(value, bool | int | float) else value
