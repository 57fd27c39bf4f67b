"""Inventories of commits are kept, and read back only where nothing can have changed and nobody else have written."""

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from inventory import kept
from inventory.kept import recorded
from inventory.resources import Inventory

INVENTORY = Inventory(stack="local", mode="update", resources=[], outputs={"url": "x"})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(kept.FOLDER, str(tmp_path / "cache"))
    return tmp_path / "cache" / "inventories"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", tmp_path / "tree"], check=True)
    _change(tmp_path / "tree", "one")
    return tmp_path / "tree"


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stacks whose program was run."""
    found: list[str] = []

    def record(stack: str, **_: object) -> Inventory:
        found.append(stack)
        return INVENTORY.model_copy(update={"stack": stack})

    monkeypatch.setattr(kept, "record", record)
    return found


def _change(tree: Path, text: str) -> None:
    (tree / "file").write_text(text)
    subprocess.run(["git", "add", "--all"], cwd=tree, check=True)


def test_a_commit_is_run_once(folder: Path, tree: Path, runs: list[str]) -> None:
    assert recorded("local", tree, confine=True) == recorded("local", tree, confine=True) == INVENTORY
    assert runs == ["local"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


@pytest.mark.usefixtures("folder")
def test_another_file_stack_package_or_variable_is_run_again(
    tree: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    recorded("local", tree, confine=True)
    recorded("dev", tree, confine=True)
    _change(tree, "two")
    recorded("dev", tree, confine=True)
    monkeypatch.setenv("TZ", "Europe/Vienna")
    recorded("dev", tree, confine=True)
    (tmp_path / "pulumi-9.dist-info").mkdir()
    monkeypatch.setattr("sysconfig.get_path", lambda _: str(tmp_path))
    recorded("dev", tree, confine=True)
    assert runs == ["local", "dev", "dev", "dev", "dev"]


def test_a_program_that_could_read_more_is_not_kept(folder: Path, tree: Path, runs: list[str]) -> None:
    recorded("local", tree, confine=False)
    recorded("local", tree, confine=False)
    assert runs == ["local", "local"]
    assert not folder.exists()


def _link(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.chmod(0o620),
        lambda path: path.write_text('{"stack": "local"}'),
        lambda path: path.write_text(INVENTORY.model_copy(update={"stack": "prod"}).model_dump_json()),
        _link,
    ],
    ids=["others may write it", "no inventory", "another stack's", "a link"],
)
def test_what_is_not_surely_ours_is_not_read_back(
    folder: Path, tree: Path, runs: list[str], spoil: Callable[[Path], None]
) -> None:
    recorded("local", tree, confine=True)
    (path,) = folder.iterdir()
    spoil(path)
    assert recorded("local", tree, confine=True) == recorded("local", tree, confine=True) == INVENTORY
    assert runs == ["local", "local"]


def test_a_folder_that_others_may_change_is_not_used(folder: Path, tree: Path, runs: list[str]) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o770)
    recorded("local", tree, confine=True)
    assert not list(folder.iterdir())
    folder.rmdir()
    folder.write_text("")
    recorded("local", tree, confine=True)
    assert runs == ["local", "local"]


def test_an_empty_variable_keeps_none(tree: Path, runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(kept.FOLDER, "")
    recorded("local", tree, confine=True)
    recorded("local", tree, confine=True)
    assert runs == ["local", "local"]


@pytest.mark.usefixtures("runs")
def test_the_oldest_go(folder: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "_AT_MOST", 2)
    for number, text in enumerate("abc"):
        _change(tree, text)
        recorded("local", tree, confine=True)
        for path in folder.iterdir():
            if path.stat().st_mtime > 1000:
                os.utime(path, (number, number))
    assert sorted(path.stat().st_mtime for path in folder.iterdir()) == [1, 2]
