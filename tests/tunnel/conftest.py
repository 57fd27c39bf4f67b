"""The checkout with tunnels."""

from tests.tunnel.world import world

__all__ = ["world"]
