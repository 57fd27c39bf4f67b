"""The real bucket that the registry's tests use."""

from tests.registry.conftest import bucket, emulator

__all__ = ["bucket", "emulator"]
