"""Edits inside of Argo's templates: of one template by its name, and of the text of its manifest; and of lists."""

from collections.abc import Callable
from typing import Any

from tests.policy.cases import put


def template(name: str, *path: str | int, to: Any) -> Callable[[dict[str, Any]], object]:
    """An edit that sets one value of a template; None takes the key away."""

    def edit(inputs: dict[str, Any]) -> None:
        put(*path, to=to)(_template(inputs, name))

    return edit


def manifest(name: str, old: str, new: str) -> Callable[[dict[str, Any]], object]:
    """An edit of the first such text in a resource template's manifest."""

    def edit(inputs: dict[str, Any]) -> None:
        resource = _template(inputs, name)["resource"]
        assert old in resource["manifest"], resource["manifest"]
        resource["manifest"] = resource["manifest"].replace(old, new, 1)

    return edit


def added(*path: str, to: Any) -> Callable[[dict[str, Any]], object]:
    """An edit that adds one item to a list."""

    def edit(inputs: dict[str, Any]) -> None:
        place: Any = inputs
        for key in path:
            place = place[key]
        place.append(to)

    return edit


def _template(inputs: dict[str, Any], name: str) -> dict[str, Any]:
    return next(one for one in inputs["spec"]["templates"] if one["name"] == name)
