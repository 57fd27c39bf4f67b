"""The small checkout that the recorder's tests use, and an event loop for what Pulumi registers in one."""

import asyncio

import pytest

from tests.plan.conftest import tree

__all__ = ["loop", "tree"]


@pytest.fixture
def loop() -> None:
    """An event loop: a resource hook is registered in one. It stays open, as later tests of the process may use it."""
    asyncio.set_event_loop(asyncio.new_event_loop())
