"""How tests are chosen, and how they wait: marks are used, callers know them, and nothing sleeps for a fixed time."""

import ast
import fnmatch
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.conftest import CHECKOUT

MARKERS = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["markers"]
MARKS = [marker.partition(":")[0] for marker in MARKERS]
FILES = sorted({*CHECKOUT.glob("tests/**/test_*.py"), *CHECKOUT.glob("images/*/tests/test_*.py")})
WHOLE = "pytest.mark.whole"


def whole(path: Path) -> set[str] | None:
    """The tests and classes of a file that `make test` leaves out; None for all of them."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assigned = [each for each in tree.body if isinstance(each, ast.Assign)]
    if any(ast.unparse(each.targets[0]) == "pytestmark" and WHOLE in ast.unparse(each.value) for each in assigned):
        return None
    marked = [each for each in tree.body if isinstance(each, ast.FunctionDef | ast.ClassDef)]
    return {each.name for each in marked if any(WHOLE in ast.unparse(mark) for mark in each.decorator_list)}


@pytest.mark.parametrize("mark", MARKS)
def test_every_mark_is_used(mark: str) -> None:
    assert [path for path in FILES if f"pytest.mark.{mark}" in path.read_text(encoding="utf-8")]


def test_nothing_is_waited_for_by_a_fixed_time() -> None:
    fixed = []
    for path in sorted({*CHECKOUT.glob("tests/**/*.py"), *CHECKOUT.glob("images/*/tests/*.py")}):
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        inside = {
            id(inner)
            for loop in ast.walk(tree)
            if isinstance(loop, ast.While | ast.For | ast.AsyncFor)
            for inner in ast.walk(loop)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "asyncio.sleep"):
                line = text.splitlines()[node.lineno - 1]
                if id(node) not in inside and ast.unparse(node.args[0]) != "0" and "stands for work" not in line:
                    fixed.append(f"{path.relative_to(CHECKOUT)}:{node.lineno}")
    assert fixed == [], "wait for the condition, with a bound; where a sleep is the work itself, say: # stands for work"


def test_tests_are_chosen_by_a_mark_that_there_is_and_people_are_told() -> None:
    makefile = (CHECKOUT / "Makefile").read_text()
    assert set(re.findall(r"-m [\"'](?:not )?(\w+)", makefile)) == {"whole"} <= set(MARKS)
    for page in ("README.md", "CONTRIBUTING.md"):
        text = (CHECKOUT / page).read_text()
        assert re.search(r"`make test`", text), page
        assert re.search(r"`make test-all`", text), page


def test_all_tests_run_on_a_change_of_what_only_they_cover() -> None:
    workflow = yaml.safe_load((CHECKOUT / ".github/workflows/check-all.yml").read_text())[True]
    assert workflow["schedule"]
    paths = workflow["pull_request"]["paths"]
    assert workflow["push"] == {"branches": ["main"], "paths": paths}
    for path in FILES:
        if whole(path) != set():
            name = str(path.relative_to(CHECKOUT))
            assert any(fnmatch.fnmatch(name, pattern) for pattern in paths), name
    for pattern in paths:
        assert list(CHECKOUT.glob(pattern)), pattern


def test_every_image_and_every_room_has_fast_tests() -> None:
    rooms: dict[Path, bool] = {}
    for path in FILES:
        left_out = whole(path)
        names = {
            each.name
            for each in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(each, ast.FunctionDef) and each.name.startswith("test_")
        }
        rooms[path.parent] = rooms.get(path.parent, False) or (left_out is not None and bool(names - left_out))
    assert [str(room) for room, fast in rooms.items() if not fast] == []


def test_a_mutation_that_a_test_catches_is_caught_by_a_fast_one() -> None:
    page = (CHECKOUT / "docs/reference/mutations.md").read_text()
    named = set(re.findall(r"`([\w/]+\.py)::(\w+)`", page))
    assert named
    for file, name in named:
        left_out = whole(CHECKOUT / "tests" / file)
        assert left_out is not None, file
        assert name not in left_out, f"{file}::{name}"
