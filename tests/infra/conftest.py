"""The small checkout that the recorder's tests use."""

from tests.plan.conftest import tree

__all__ = ["tree"]
