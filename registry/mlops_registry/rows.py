"""Rows to score, from a CSV, JSON or JSON Lines file, and the same rows with their prediction.

Owns that what is given back is what stood in the file: text that nobody had to understand is passed through, not parsed
and written anew.
"""

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from .errors import BadInputError

PREDICTION = "prediction"
_NUMBER = re.compile(r"\s*(-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)\s*", re.ASCII)


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        json: it, as one line: a JSON object, with numbers as they were written.
        line: it in a CSV file, with its line end.
        header: the line of that file with the columns' names.
    """

    json: str
    line: str = ""
    header: str = ""

    def json_with(self, prediction: float) -> str:
        """The JSON object, with its prediction."""
        inside = self.json.strip()[1:-1].rstrip()
        return f'{{{inside}{", " if inside.strip() else ""}"{PREDICTION}": {prediction!r}}}'

    def cells_with(self, prediction: float) -> dict[str, str]:
        """The row's cells by column, with its prediction."""
        return {name: _text(value) for name, value in _parse(self.json).items()} | {PREDICTION: repr(prediction)}


def read(path: Path) -> Iterator[Row]:
    """Read rows, streaming where the format allows it.

    Args:
        path: ends with `.csv` (with a header), `.json` (a list of objects) or `.jsonl`. CSV has no types: a cell that
            reads as a number is one.

    Raises:
        BadInputError: the file cannot be read, a row is none, or a column stands twice or is called `prediction`.
    """
    readers = {".csv": _csv, ".json": _json, ".jsonl": _lines, ".ndjson": _lines}
    try:
        reader = readers[path.suffix.lower()]
    except KeyError:
        raise BadInputError(f"{path} is none of {', '.join(readers)}: rename or convert it") from None
    try:
        yield from reader(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def with_column(line: str, cell: str) -> str:
    """A line of a CSV file with one more cell at its end."""
    content = line.rstrip("\r\n")
    return f"{content},{cell}{line[len(content) :] or chr(10)}"


class _Seen:
    """Lines, remembered until they are taken: a record of a CSV file may have several."""

    def __init__(self, lines: Iterable[str]):
        self._lines = lines
        self._seen: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self._seen.append(line)
            yield line

    def take(self) -> str:
        taken, self._seen = "".join(self._seen), []
        return taken


def _csv(path: Path) -> Iterator[Row]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        seen = _Seen(file)
        reader = csv.reader(seen, strict=True)
        columns = next(reader, [])
        header = seen.take()
        _check(columns, f"{path}, header")
        names = [json.dumps(name) for name in columns]
        for cells in reader:
            line = seen.take()
            if not cells:
                continue
            if len(cells) != len(columns):
                raise BadInputError(
                    f"{path}, line {reader.line_num}: {len(cells)} cells, where the header has {len(columns)}"
                )
            pairs = (f"{name}: {_cell(cell)}" for name, cell in zip(names, cells, strict=True))
            yield Row(f"{{{', '.join(pairs)}}}", line, header)


def _json(path: Path) -> Iterator[Row]:
    text, where = path.read_text(encoding="utf-8-sig"), str(path)
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        _decode(text, at, where)
        raise BadInputError(f"{path} is not a list of objects")
    at, number = _skip(text, at + 1), 0
    while text[at : at + 1] != "]":
        number += 1
        row, at = _row(text, at, f"{path}, item {number}")
        yield row
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
            if text[at : at + 1] != "]":
                continue
        if text[at : at + 1] != "]" or text[at - 1] == ",":
            raise BadInputError(f"{where} is not valid JSON: after item {number}, at character {at}")
    if _skip(text, at + 1) != len(text):
        raise BadInputError(f"{where} is not valid JSON: something follows the list")


def _lines(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig", newline="\n") as file:
        for number, line in enumerate(file, 1):
            if content := line.strip():
                where = f"{path}, line {number}"
                row, end = _row(content, 0, where)
                if end != len(content):
                    raise BadInputError(f"{where} is not valid JSON: something follows the object")
                yield row


def _row(text: str, at: int, where: str) -> tuple[Row, int]:
    value, end = _decode(text, at, where)
    if not isinstance(value, dict):
        raise BadInputError(f"{where}: is not an object")
    _check(value, where)
    # Between its parts only: no string of JSON holds a line break.
    return Row(re.sub(r"[\r\n]", " ", text[at:end])), end


class _Number(str):
    """A number as it was written."""

    __slots__ = ()


def _decode(text: str, at: int, where: str) -> tuple[Any, int]:
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        raise BadInputError(f"{where} is not valid JSON: {error}") from None


def _parse(text: str) -> dict[str, Any]:
    return _DECODER.decode(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} stands twice")
    return found


def _refuse(token: str) -> NoReturn:
    raise ValueError(f"{token} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_Number, parse_int=_Number, parse_constant=_refuse)


def _check(columns: Iterable[str], where: str) -> None:
    """Refuse what cannot be told apart from what is added, or from itself."""
    found: set[str] = set()
    for name in columns:
        if name in found:
            raise BadInputError(f"{where}: the column {name!r} stands twice, so nothing was scored: rename one")
        found.add(name)
    if PREDICTION in found:
        raise BadInputError(f"{where}: there is a column {PREDICTION!r} already, so nothing was scored: rename it")


def _skip(text: str, at: int) -> int:
    """Where the next thing begins that is no white space."""
    return re.compile(r"[ \t\r\n]*").match(text, at).end()  # pyright: ignore[reportOptionalMemberAccess]


def _cell(text: str) -> str:
    """A cell as JSON: a number as it is written, if it is one."""
    number = _NUMBER.fullmatch(text)
    return number[1] if number and math.isfinite(float(text)) else json.dumps(text)


def _text(value: object) -> str:
    """A value of JSON as a cell."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
