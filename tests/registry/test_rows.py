"""What of a file of rows is scored, what comes back, and what is refused before anything is."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from mlops_registry import BadInputError, Registry, rows
from tests.conftest import Mlops

from .conftest import VERSION, Emulator, Program
from .test_use import _store


def read(folder: Path, name: str, content: str | bytes) -> list[rows.Row]:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(rows.read(folder / name))


def test_a_number_in_a_csv_is_a_number_and_text_stays_text(tmp_path: Path) -> None:
    content = "a,b,c,d,e,f,g,h,i\n1,2.5,x,,true,12E5,1E400,NaN,007\n"
    (row,) = read(tmp_path, "rows.csv", content)
    assert row.json == (
        '{"a": 1, "b": 2.5, "c": "x", "d": "", "e": "true", "f": 12E5, "g": "1E400", "h": "NaN", "i": "007"}'
    )


@pytest.mark.parametrize(
    "content",
    [
        "x,Ref,Size\n1,12E5,1.10\n2,9E3,0.30000000000000001\n",
        'x,"No ""te"\r\n1,"a, ""b"""\r\n2,"two\r\nlines"\r\n',
        "x,é\u00a0\n1, \t\u202e\n2,'\n",
    ],
    ids=["numbers", "quotes", "characters"],
)
def test_a_line_of_a_csv_comes_back_as_it_is(tmp_path: Path, content: str) -> None:
    found = read(tmp_path, "rows.csv", content)
    assert found[0].header + "".join(row.line for row in found) == content
    end = "\r\n" if "\r\n" in content else "\n"
    assert rows.with_column(found[1].line, "0.5") == found[1].line.removesuffix(end) + ",0.5" + end


def test_a_last_line_without_an_end_gets_one() -> None:
    assert rows.with_column("1,2", "0.5") == "1,2,0.5\n"


def test_an_object_comes_back_as_it_is(tmp_path: Path) -> None:
    content = '[{"x": 1.10,\n "Ref" : 12E5, "y": null, "t": true, "z": "\\u00e9\\n"} , {}]'
    first, second = read(tmp_path, "rows.json", content)
    assert first.json_with(0.5) == (
        '{"x": 1.10,  "Ref" : 12E5, "y": null, "t": true, "z": "\\u00e9\\n", "prediction": 0.5}'
    )
    assert second.json_with(1e-7) == '{"prediction": 1e-07}'
    assert first.cells_with(0.5) == {
        "x": "1.10",
        "Ref": "12E5",
        "y": "",
        "t": "true",
        "z": "é\n",
        "prediction": "0.5",
    }
    (line,) = read(tmp_path, "rows.jsonl", '\n {"x": 1.10} \n')
    assert line.json_with(0.5) == '{"x": 1.10, "prediction": 0.5}'
    assert read(tmp_path, "none.json", " [ ] \n") == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("rows.csv", "x,prediction\n1,2\n", "prediction"),
        ("rows.csv", "x,Note,Note\n1,a,b\n", "'Note' stands twice"),
        ("rows.csv", "x\n1,2\n", "line 2: 2 cells"),
        ("rows.csv", "x,y\n1,2\n1\n", "line 3: 1 cells"),
        ("rows.csv", b"x\n\xff\n", "utf-8"),
        ("rows.csv", 'x\n"a\n', "end of data"),
        ("rows.json", '[{"x": 1, "prediction": 2}]', "prediction"),
        ("rows.json", '[{"x": 1, "x": 2}]', "'x' stands twice"),
        ("rows.json", '[{"x": NaN}]', "NaN"),
        ("rows.json", '[{"x": 1},]', "item 1"),
        ("rows.json", '[{"x": 1}', "item 1"),
        ("rows.json", '[{"x": 1}] x', "follows"),
        ("rows.json", '[{"x": 1} {"x": 2}]', "item 1"),
        ("rows.json", "[" * 100_000, "item 1"),
        ("rows.json", '{"x": 1}', "not a list"),
        ("rows.jsonl", '{"x": 1, "prediction": 2}\n', "line 1"),
        ("rows.jsonl", '{"x": 1} {"x": 2}\n', "line 1"),
    ],
)
def test_what_would_be_changed_or_misread_is_refused(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    with pytest.raises(BadInputError) as refused:
        read(tmp_path, name, content)
    assert message in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


@pytest.fixture
def mlops(registry: Registry, emulator: Emulator, tmp_path: Path) -> Mlops:
    """The command on a bucket with one version: as where an engine is elsewhere, so that no platform is needed."""
    name = "hybrid-mlops-local-models"
    if not (emulator.root / name).exists():
        emulator.create(name)
        (tmp_path / "training").mkdir()
        _store(Registry(f"gs://{name}/models"), tmp_path / "training")
    settings = {"NOMAD_ADDR": "http://127.0.0.1:1", "STORAGE_EMULATOR_HOST": emulator.address}
    return Mlops(tmp_path / "state", environment={**settings, "MLOPS_TENSORNODE": os.environ["MLOPS_TENSORNODE"]})


def test_the_command_adds_a_column_and_changes_nothing(mlops: Mlops, tmp_path: Path) -> None:
    source, target = tmp_path / "rows.csv", tmp_path / "scored.csv"
    source.write_bytes("Ref,x,é\r\n12E5,1,NaN\r\n1.10,2.0,1E400\r\n".encode())
    done = mlops("models", "predict", VERSION, str(source), "--output", str(target))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = target.read_bytes().decode().split("\r\n")
    assert [line.rpartition(",")[0] for line in lines] == ["Ref,x,é", "12E5,1,NaN", "1.10,2.0,1E400", ""]
    assert [float(line.rpartition(",")[2]) for line in lines[1:3]] == pytest.approx([0.507, 1.007])
    # A language of the terminal that has no such letter.
    shown = mlops("models", "predict", VERSION, str(source), PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout == target.read_text()
    as_json = mlops("models", "predict", VERSION, str(source), "--json")
    told = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [row["é"] for row in told] == ["NaN", "1E400"]
    assert '"Ref": 12E5' in as_json.stdout


@pytest.mark.parametrize("content", ["x,prediction\n1,2\n", "x,x\n1,2\n", "x\nNaN\n"])
def test_the_commands_refuse_in_one_line(mlops: Mlops, program: Program, tmp_path: Path, content: str) -> None:
    source, target = tmp_path / "rows.csv", tmp_path / "scored.csv"
    source.write_text(content)
    done = mlops("models", "predict", VERSION, str(source), "--output", str(target))
    registry = program.run("predict", VERSION, str(source), GCP_BUCKET_PATH="gs://hybrid-mlops-local-models/models")
    for each in (done, registry):
        assert (each.returncode, each.stdout) == (2, "")
        assert len(each.stderr.splitlines()) == 1
    assert not target.exists()


def test_rows_command_no_terminal(mlops: Mlops, tmp_path: Path) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("x,Note\n1,\x1b]0;x\x07\u202e\n")
    reader, writer = pty.openpty()
    try:
        command = mlops.argv("models", "predict", VERSION, str(source))
        process = subprocess.run(command, env=mlops.env(), cwd=mlops.checkout, stdout=writer, stderr=subprocess.PIPE)
        shown = os.read(reader, 10_000).decode()
    finally:
        os.close(writer)
        os.close(reader)
    assert process.returncode == 0, process.stderr
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert r"\x1b" in shown
