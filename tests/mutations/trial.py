"""What a checkout is caught by: run inside of it, by its own code, as continuous integration would.

Owns one trial: the program of some stacks, the rules, and some tests. It deliberately knows no change and compares
nothing. Tests that are parametrized by `stack` run for the tried stacks alone, and every program runs once.
"""

import contextlib
import functools
import json
import os
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

import inventory.recorder
from infra.settings import ROOT
from inventory.recorder import PlanError
from inventory.values import with_references
from policy.checkout import judged
from policy.verdicts import Policies

PLATFORM = "tests/platform"
"""Tests of whole stacks: of these only such as are of one stack."""


class Task(BaseModel):
    """What is to be tried.

    Attributes:
        stacks: The stacks.
        tests: Files and folders of tests; none, for what settings and rules say alone.
        left_out: Tests of these that do not run.
    """

    stacks: tuple[str, ...]
    tests: tuple[str, ...]
    left_out: tuple[str, ...]


class Outcome(BaseModel):
    """What was said.

    Attributes:
        refused: Why the program of a stack did not run; nothing else was tried then.
        policies: What rules say, by stack.
        failed: Ids of tests that failed.
        passed: How many tests passed.
    """

    refused: str | None = None
    policies: dict[str, Policies] = {}
    failed: list[str] = []
    passed: int = 0


class _Watched:
    """Which tests fail; those of other stacks are left out."""

    def __init__(self, stacks: tuple[str, ...]) -> None:
        self.stacks, self.failed, self.passed = stacks, set[str](), 0

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self._wanted(item)]

    def _wanted(self, item: pytest.Item) -> bool:
        callspec = getattr(item, "callspec", None)
        stack = callspec.params.get("stack") if callspec else None
        return stack in self.stacks if stack else not item.nodeid.startswith(PLATFORM)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed += 1


def tried(task: Task) -> Outcome:
    """Try this checkout."""
    # The same stack of the same checkout is the same inventory; tests take the function from here.
    record = inventory.recorder.record = functools.cache(inventory.recorder.record)
    outcome = Outcome()
    for stack in task.stacks:
        try:
            outcome.policies[stack] = judged(ROOT, with_references(record(stack)))
        except PlanError as error:
            outcome.refused = str(error)
            return outcome
    if task.tests:
        watched = _Watched(task.stacks)
        left_out = [f"--deselect={test}" for test in task.left_out]
        pytest.main([*task.tests, *left_out, "-q", "-p", "no:cacheprovider", "-p", "no:warnings"], plugins=[watched])
        outcome.failed, outcome.passed = sorted(watched.failed), watched.passed
    return outcome


if __name__ == "__main__":
    given = Task.model_validate(json.load(sys.stdin))
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        said = tried(given)
    sys.stdout.write(said.model_dump_json())
