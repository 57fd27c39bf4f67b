"""Which changes are caught, and by what: `python -m tests.mutations [ID...]`.

Makes each change in a scratch copy of the checkout, one at a time, and tries the copy (`trial.py`); what is new beside
the unchanged copy has caught it. Cheapest first: settings and rules, and tests only where those say nothing. All of
them take ten minutes on two cores, and with `--tests all` half an hour. Exit code 0 whoever catches what, 2 for a list
that cannot be used.
"""

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, NoReturn, TypeAlias, get_args

from infra.settings import ROOT
from inventory.checkout import checkout
from inventory.recorder import PlanError
from policy.verdicts import policy_change
from tests.mutations import catalogue, page
from tests.mutations.catalogue import CatalogueError, Mutation
from tests.mutations.chosen import chosen, left_out
from tests.mutations.page import Caught
from tests.mutations.trial import Outcome, Task

Tests: TypeAlias = Literal["missed", "all", "none"]
_SECONDS = 900


class Trials:
    """Copies of the checkout, each of which is tried by one process at a time."""

    def __init__(self, trees: Sequence[Path], tests: Tests) -> None:
        self._tests = tests
        self._free: SimpleQueue[Path] = SimpleQueue()
        for tree in trees:
            self._free.put(tree)
        self._running: set[subprocess.Popen[str]] = set()
        self._before: Outcome | None = None

    def begin(self, mutations: Sequence[Mutation]) -> Outcome:
        """Try the unchanged copy: what it is caught by now says nothing of a change."""
        stacks = dict.fromkeys(stack for one in mutations for stack in one.stacks)
        tests = dict.fromkeys(test for one in mutations for test in chosen(one.file))
        by_all = set.intersection(*({*left_out(one.file)} for one in mutations))
        task = Task(stacks=tuple(stacks), tests=tuple(tests), left_out=tuple(sorted(by_all)))
        with self._tree() as tree:
            self._before = _tried(tree, task if self._tests != "none" else _without_tests(task), self._running)
        return self._before

    def caught(self, mutation: Mutation) -> Caught:
        """Try one change: first what takes seconds."""
        task = Task(stacks=mutation.stacks, tests=chosen(mutation.file), left_out=left_out(mutation.file))
        with self._tree() as tree, catalogue.made(mutation, tree):
            found = self._compared(mutation, _tried(tree, _without_tests(task), self._running))
            if not found.settings and (self._tests == "all" or (self._tests == "missed" and found.by_nobody)):
                found = self._compared(mutation, _tried(tree, task, self._running), asked=True)
        return found

    def stop(self) -> None:
        """End every process that is under way."""
        for process in list(self._running):
            process.terminate()

    @contextmanager
    def _tree(self) -> Iterator[Path]:
        tree = self._free.get()
        try:
            yield tree
        finally:
            self._free.put(tree)

    def _compared(self, mutation: Mutation, now: Outcome, *, asked: bool = False) -> Caught:
        before = self._before
        assert before, "the unchanged copy was tried"
        if now.refused:
            return Caught(mutation, settings=now.refused)
        new = [one for of, said in now.policies.items() for one in policy_change(before.policies[of], said).new]
        failed = sorted({_name(test) for test in {*now.failed} - {*before.failed}})
        rules = dict.fromkeys(one.rule for one in new if one.state == "violated")
        return Caught(mutation, rules=tuple(rules), tests=tuple(failed), asked=asked)


def _tried(tree: Path, task: Task, running: set[subprocess.Popen[str]]) -> Outcome:
    # No byte code: one that is older than a second's change would be taken for its source's.
    environment = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.mutations.trial"],
        cwd=tree,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    running.add(process)
    try:
        out, err = process.communicate(task.model_dump_json(), timeout=_SECONDS)
    finally:
        process.kill()
        running.discard(process)
    if process.returncode:
        # A change after which nothing can even be imported is one that any check refuses.
        return Outcome(refused=(err.strip().splitlines() or ["the program said nothing"])[-1])
    return Outcome.model_validate_json(out.strip().splitlines()[-1])


def _without_tests(task: Task) -> Task:
    return task.model_copy(update={"tests": ()})


def _name(test: str) -> str:
    """A test without its parameters, which would be many."""
    return re.sub(r"\[.*", "", test).removeprefix("tests/")


def main(arguments: Sequence[str]) -> int:
    """Try the named changes, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("ids", nargs="*", metavar="ID", help="changes to try; without one, all")
    parser.add_argument(
        "--tests",
        choices=get_args(Tests),
        default="missed",
        help="which changes tests are asked about: those that settings and rules missed, all (slow), or none",
    )
    parser.add_argument("--write", action="store_true", help=f"write {page.PAGE.relative_to(ROOT)}; only for all")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many to try at a time")
    given = parser.parse_args(arguments)
    try:
        listed = catalogue.read()
        catalogue.check(listed, ROOT)
        if unknown := sorted({*given.ids} - {one.id for one in listed}):
            raise CatalogueError(f"there is no change {', '.join(unknown)}; tests/mutations/*.yaml has them all")
        if given.write and given.ids:
            raise CatalogueError("the page tells of all changes, so --write takes no ID; leave either out")
        asked = [one for one in listed if not given.ids or one.id in given.ids]
        found = _all(asked, max(1, given.jobs), given.tests)
    except (CatalogueError, PlanError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    width = max(len(one.mutation.id) for one in found)
    for one in found:
        sys.stdout.write(f"{one.mutation.id:{width}}  {one.told()}\n")
    sys.stdout.write(f"\n{page.counts(found)}\n")
    if given.write:
        page.write(found)
    return 0


def _all(mutations: Sequence[Mutation], jobs: int, tests: Tests) -> list[Caught]:
    signal.signal(signal.SIGTERM, _interrupted)
    with ExitStack() as held:
        trees = [held.enter_context(checkout(ROOT)) for _ in range(min(jobs, len(mutations)))]
        trials = Trials(trees, tests)
        pool = held.enter_context(ThreadPoolExecutor(jobs))
        try:
            before = trials.begin(mutations)
            if before.refused:
                raise CatalogueError(
                    f"the unchanged checkout cannot be planned, so nothing was tried: {before.refused}"
                )
            if before.failed:
                sys.stderr.write(f"these tests fail without any change, so they catch none: {before.failed}\n")
            asked = {pool.submit(trials.caught, one): one for one in mutations}
            found: dict[str, Caught] = {}
            for number, done in enumerate(as_completed(asked), 1):
                one = found[asked[done].id] = done.result()
                sys.stderr.write(f"{number}/{len(mutations)} {one.mutation.id}: {one.told()}\n")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            trials.stop()
            raise
    return [found[one.id] for one in mutations]


def _interrupted(*_: object) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
