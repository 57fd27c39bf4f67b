"""Watching runs: what is said of one that failed."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, cast

from mlops.cli import run
from mlops.engines.base import Engine, EngineError, Execution, Run, Step


def test_a_log_that_is_out_of_reach_does_not_end_the_watching() -> None:
    def logs(*_: Any, **__: Any) -> Iterator[str]:
        raise EngineError("no path to the node")
        yield

    step = Step("train", "dead", failed=True, restarts=0, exit_code=137, message="Exit Code: 137")
    failed = Run("a/1", "a", "failed", {}, 0.0, (Execution("1", "failed", (step,), None),))
    assert run._ended(cast("Engine", SimpleNamespace(logs=logs)), failed) == "a/1: failed: train: Exit Code: 137"
