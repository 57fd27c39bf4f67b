"""The list of changes is about the files as they are, and the page of the docs is of the same list."""

import contextlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from infra.settings import ROOT, stacks
from tests.mutations import catalogue, page
from tests.mutations.catalogue import CatalogueError, Mutation
from tests.mutations.chosen import chosen, left_out

LIST = catalogue.read()
THEMES = {
    *("access", "across", "cost", "kubernetes", "names-and-labels", "network", "nomad-jobs", "nomad-machines"),
    *("order-and-protection", "storage-and-keys", "workflows"),
}


def test_every_change_can_be_made() -> None:
    catalogue.check(LIST, ROOT)


def test_there_are_some_of_every_theme_and_no_two_are_the_same() -> None:
    assert {one.theme for one in LIST} == THEMES
    assert {theme for theme, changes in Counter(one.theme for one in LIST).items() if changes < 3} == set()
    assert len(LIST) >= 160
    assert len({(one.file, one.old, one.new) for one in LIST}) == len(LIST)
    assert {stack for one in LIST for stack in one.stacks} <= set(stacks())


def test_every_change_is_tried_with_tests_that_there_are() -> None:
    named = {test for one in LIST for test in (*chosen(one.file), *left_out(one.file))}
    for test in named:
        file, _, function = test.partition("::")
        assert (ROOT / file).exists(), test
        assert not function or f"def {function.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8"), test


def test_the_page_is_of_this_list() -> None:
    told = page.rows(page.PAGE.read_text(encoding="utf-8"))
    assert told == {one.id: one.what for one in LIST}, "run python -m tests.mutations --write"


@pytest.mark.parametrize("text", ["", "a = 1\na = 1\n"], ids=["gone", "there twice"])
def test_a_change_whose_text_is_not_there_as_said_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(text)
    rotten = Mutation(id="rotten", what="It is.", file="a.py", old="a = 1", new="a = 2", stacks=("dev",), theme="x")
    with pytest.raises(CatalogueError, match=r"rotten: a.py has its text . times and not 1, .*mend tests/mutations/x"):
        catalogue.check([rotten], tmp_path)


def test_a_change_is_taken_back_whatever_happens(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("a = 1\n")
    change = Mutation(id="change", what="It is.", file="a.py", old="a = 1", new="a = 2", stacks=("dev",))
    read: list[str] = []
    with contextlib.suppress(KeyboardInterrupt), catalogue.made(change, tmp_path):
        read.append(file.read_text())
        raise KeyboardInterrupt
    assert read == ["a = 2\n"]
    assert file.read_text() == "a = 1\n"


def test_what_cannot_be_tried_is_told_in_one_line() -> None:
    command = [sys.executable, "-m", "tests.mutations", "no-such-change"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (
        2,
        "there is no change no-such-change; tests/mutations/*.yaml has them all\n",
    )
