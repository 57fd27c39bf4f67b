"""What the command writes, and what it says where it cannot."""

import io
import json
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from mlops.cli import models
from mlops.cli.output import RefusalError
from mlops_registry.manifest import Verification, now
from mlops_registry.rows import Row
from tests.conftest import Mlops


def test_a_row_that_the_csv_has_no_column_for_is_told_in_one_line() -> None:
    scored = [(Row('{"a": 1}'), 0.5), (Row('{"a": 2, "note": "x"}'), 0.25)]
    with pytest.raises(RefusalError, match=r"^row 2 has the column 'note', which the first row has not"):
        models._write_csv(io.StringIO(), iter(scored))
    target = io.StringIO()
    assert models._write_json(target, iter(scored)) == 2
    assert [json.loads(line) for line in target.getvalue().splitlines()] == [
        {"a": 1, "prediction": 0.5},
        {"a": 2, "note": "x", "prediction": 0.25},
    ]


def test_output_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    mlops = Mlops(tmp_path)
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            mlops.argv("down", "--json"), env=mlops.env(), stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (done.returncode, done.stderr) == (1, "mlops: cannot write the output: No space left on device\n")


def test_a_version_that_looks_like_markup_is_a_version(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Answers:
        def verify(self, version: str) -> Verification:
            return Verification(
                model="m", version_id="s_v1_a", format=None, passed=False, examples=0, max_difference=None,
                tolerance=0, time=now(), runner="command", message=f"no {version}",
            )  # fmt: skip

    monkeypatch.setattr(models, "Session", lambda _: SimpleNamespace(registry=Answers()))
    with pytest.raises(typer.Exit):
        models.verify("[/red]")
    assert "no [/red]" in capsys.readouterr().out
