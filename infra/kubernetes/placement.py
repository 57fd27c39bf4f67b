"""How pods get onto a node pool: the label and taint that its nodes have. Pure; without Google's library."""

from collections.abc import Collection
from typing import Any

from infra.settings.kubernetes import ClusterSettings

POOL = "hybrid-mlops/pool"
"""The label, and the key of the taint, whose value is the pool's name."""
SYSTEM = "system"
"""The pool without a taint, for whatever asked for none."""


def placed(kinds: Collection[str], cluster: ClusterSettings) -> dict[str, dict[str, Any]]:
    """Where pods of each kind go that has a pool of its name; a kind without one goes wherever there is a place."""
    return {
        kind: {
            "node_selector": {POOL: kind},
            "tolerations": ({"key": POOL, "value": kind, "effect": "NoSchedule"},) if kind != SYSTEM else (),
        }
        for kind in kinds
        if kind in cluster.node_pools
    }
