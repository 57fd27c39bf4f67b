"""docs/how-to/add-a-workflow.md, followed to the letter: its files, in a checkout, make a second pipeline that runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT, Mlops

PAGE = CHECKOUT / "docs" / "how-to" / "add-a-workflow.md"
FOLDERS = ("images/dice", "jobs/dice_odds")


def files() -> dict[str, str]:
    """What the page says is in each file: the block of code after the file's name."""
    found: dict[str, str] = {}
    name = ""
    for match in re.finditer(
        rf"`((?:{'|'.join(FOLDERS)})/[\w./]+)`|^```\w+\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        if match[1]:
            name = match[1]
        elif name:
            found[name], name = match[2], ""
    return found


@pytest.mark.whole
def test_the_pages_pipeline_runs_and_holds_to_every_check(scratch_checkout: Path, tmp_path: Path) -> None:
    given = files()
    assert {str(Path(name).parent) for name in given} == {*FOLDERS, "images/dice/src"}
    for name, text in given.items():
        (scratch_checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (scratch_checkout / name).write_text(text)
    mlops = Mlops(tmp_path / "state", scratch_checkout)
    up = mlops("up")
    assert up.returncode == 0, up.stderr
    try:
        (run,) = mlops.json("run", "dice-odds", "-p", "count=4")["runs"]
        assert run["status"] == "complete"
        assert re.fullmatch(
            r"4000 throws, 0\.1[4-9]\d\d of them sixes\n", mlops("runs", "logs", run["id"], "--task", "join").stdout
        )
        refused = mlops("run", "dice-odds", "-p", "count=0")
        assert (refused.returncode, len(refused.stderr.strip().splitlines())) == (2, 1)
    finally:
        mlops("down")
    command = [sys.executable, "-m", "pytest", "-q", "tests/argo/test_registered.py", "-p", "no:cacheprovider"]
    checked = subprocess.run(command, cwd=scratch_checkout, env=mlops.env(), capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
    style = [sys.executable, "-m", "ruff", "check", *FOLDERS]
    assert subprocess.run(style, cwd=scratch_checkout, capture_output=True, text=True).stdout == "All checks passed!\n"
