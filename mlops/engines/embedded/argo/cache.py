"""Memoised results: what a template gave for a key, in the state folder instead of Argo's ConfigMaps.

Owns: when an entry counts. Deliberately not: keys (the definition makes them), and whether artifacts are still there.
"""

import time
from typing import Any

from mlops.engines.embedded.state import Store

_KIND = "memo"


class Cache:
    """The caches of one platform."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, cache: str, key: str, max_age: float | None) -> dict[str, Any] | None:
        """The entry of a key that is not older than `max_age` seconds, or None."""
        entry = self._store.get(_KIND, f"{cache}/{key}")
        if entry is None or (max_age is not None and time.time() - entry["created"] > max_age):
            return None
        return entry

    def save(self, cache: str, key: str, outputs: dict[str, Any], workflow: str, node: str) -> None:
        """Remember what a node gave."""
        entry = {"outputs": outputs, "workflow": workflow, "node": node, "created": time.time()}
        self._store.put(_KIND, f"{cache}/{key}", entry, parent=cache, unfinished=False)
