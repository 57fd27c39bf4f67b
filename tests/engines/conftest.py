"""The platform that the embedded engine's tests use."""

from tests.embedded.conftest import checkout, engine

__all__ = ["checkout", "engine"]
