"""The checkout with tunnels, which lead to a real Nomad here."""

from tests.tunnel.world import world

__all__ = ["world"]
