"""One reading of CSV in both lanes: each file gives the same rows to Spark's lane and to Node's, or both refuse it."""

import gzip
import json
import subprocess

import pytest

COLUMNS = 86
HERE = """
import io, json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import raw
class Stream(io.BytesIO):
    readNBytes = io.BytesIO.read
answers = {"": raw.BLANKS}
for file in Path(sys.argv[2]).iterdir():
    try:
        answers[file.name] = raw.look("x", Stream(file.read_bytes())).records
    except raw.InputError as error:
        answers[file.name] = str(error)
print(json.dumps(answers))
"""
THERE = """
import { readFileSync, readdirSync } from 'node:fs';
const [source, folder] = process.argv.slice(1);
const { fileRows } = await import(`${source}/rows.js`);
const { InputError } = await import(`${source}/errors.js`);
const every = Array.from({ length: 0x10000 }, (_, code) => String.fromCharCode(code));
const answers = { '': every.filter((one) => one.trim() === '').join('') };
for (const name of readdirSync(folder)) {
  answers[name] = 0;
  try {
    const body = [readFileSync(`${folder}/${name}`)];
    for await (const row of fileRows(body, 'text/csv', 'x', new Set())) answers[name] += 1;
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    answers[name] = error.message;
  }
}
console.log(JSON.stringify(answers));
"""


def table(note, header="Note", end="\n"):
    """Three rows, the second of which has this in the column `Note`, which nothing uses."""
    rest = ",".join(["1"] * (COLUMNS - 1))
    rows = [f"{text},{rest},{label}" for text, label in (("-", "Yes"), (note, "No"), ("-", "Yes"))]
    return end.join([f"{header},{NAMES}", *rows, ""]).encode()


NAMES = "@"
"""Stands for the schema's columns, which the fixture knows."""
GOOD = {
    "plain": table("-"),
    "crlf": table("-", end="\r\n"),
    "cr": table("-", end="\r"),
    "lf and crlf": table("-").replace(b"\n", b"\r\n", 1),
    "lf, then crlf": table("-", end="\r\n").replace(b"\r\n", b"\n", 1),
    "mark": b"\xef\xbb\xbf" + table("-"),
    "mark and quotes": b"\xef\xbb\xbf" + table("-", '"Note"'),
    "no last end": table("-")[:-1],
    "blank lines": table("-").replace(b"\n", b"\n\n \t\n"),
    "blank lines first": b"\n \r\n" + table("-"),
    "quotes": table('"say ""yes, later"" twice"'),
    "quotes alone": table('""""""'),
    "empty quotes": table('""'),
    "line breaks": table('"one\ntwo,\r\n\n\nthree\rfour"'),
    "a record in a cell": table('"a\n1,2,3\n"'),
    "padded quotes": table(' \t"a, b"\t '),
    "backslash": table('"a\\"'),
    "backslash outside": table("\\"),
    "apostrophe": table("it's"),
    "separators of other kinds": table("a;b|c\u2028d\u0085e"),
    "a comment": table("#"),
    "breaks in a name": table("-", '"a\nb"'),
    "no name": table("", ""),
    "names of ours": table("-", "_malformed").replace(b"-", b"values"),
    "a name with a dot": table("-", "a.b`c"),
    "form feed": table("a\x0c\x0bb"),
    "any letter": table("\u00e9\u4e2d\U0001f600"),
    "a long row": table("x" * 100_000),
}
BAD = {
    "nothing": (b"", "empty"),
    "blanks": (b" \n\n", "empty"),
    "a quote inside": (table('3" tube'), "line 3|malformed"),
    "text after a quote": (table('"a"b'), "malformed"),
    "a quote after a quote": (table('"a" "b"'), "malformed"),
    "never closed": (table('"a'), "malformed"),
    "never closed at the end": (table("-") + b'"a', "malformed"),
    "too few": (table("-") + b"1,2\n", "malformed"),
    "too many": (table("a,b"), "malformed"),
    "a row too long": (table("x" * 200_000), "malformed"),
    "many columns": (b"a," * 1_000_000 + b"b\n", "malformed"),
    "gzip": (gzip.compress(table("-")), "gzip"),
    "zip": (b"PK\x03\x04\x14\x00", "spreadsheet"),
    "utf-16": (table("-").decode().encode("utf-16"), "UTF-16"),
    "utf-16 without a mark": (table("-").decode().encode("utf-16-le"), "U+0000"),
    "latin-1": (table("\u00e9").decode().encode("latin-1"), "line 3 is not UTF-8"),
    "nul": (table("\0"), "line 3 has the control character U+0000"),
    "escape": (table("\x1b[31m"), "U+001B"),
    "html": (b"<!DOCTYPE html>\n<html></html>\n", "HTML"),
    "json": (b'[{"a": 1}]', "JSON"),
}


@pytest.fixture(scope="module")
def readings(spark, tmp_path_factory):
    """What both lanes say to each file: how many rows it has, or why it is refused."""
    folder = tmp_path_factory.mktemp("corpus")
    other = spark.image.parent / "tensornode" / "src"
    schema = json.loads((spark.image / "src" / "schema.json").read_text())
    names = ",".join([*(one["name"] for one in schema["attributes"]), schema["target"]["name"]])
    for name, content in {**GOOD, **{name: content for name, (content, _) in BAD.items()}}.items():
        encoding = {"utf-16": "utf-16", "utf-16 without a mark": "utf-16-le"}.get(name)
        if encoding:
            (folder / name).write_bytes(content.decode(encoding).replace(NAMES, names).encode(encoding))
        elif name == "gzip":
            (folder / name).write_bytes(gzip.compress(gzip.decompress(content).replace(NAMES.encode(), names.encode())))
        else:
            (folder / name).write_bytes(content.replace(NAMES.encode(), names.encode()))
    here = [spark.image / ".venv" / "bin" / "python", "-c", HERE, spark.image / "src", folder]
    there = ["node", "--input-type=module", "--eval", THERE, other, folder]
    said = [subprocess.run(command, capture_output=True, text=True, check=True) for command in (here, there)]
    return [json.loads(done.stdout) for done in said]


@pytest.mark.parametrize("name", GOOD)
def test_both_lanes_read_every_row(readings, name):
    assert [answers[name] for answers in readings] == [3, 3]


@pytest.mark.parametrize("name", BAD)
def test_both_lanes_refuse_in_one_line(readings, name):
    for answers in readings:
        assert isinstance(answers[name], str)
        assert answers[name].isprintable()
        assert len(answers[name]) < 600
    here, there = (answers[name] for answers in readings)
    assert any(word in here for word in BAD[name][1].split("|"))
    # That lane reads JSON; this one lacks the columns.
    assert "well-formed" in there or any(word in there.replace(":", "") for word in (*BAD[name][1].split("|"), "lacks"))


def test_both_lanes_mean_the_same_by_blanks(readings):
    here, there = readings
    assert sorted(here[""]) == sorted(there[""])


def test_malformed_rows_are_counted_and_one_is_shown(readings):
    here, _ = readings
    assert "1 of 4 rows are malformed, the first on line 5, it has 2 values and the header 87: '1,2'" in here["too few"]
