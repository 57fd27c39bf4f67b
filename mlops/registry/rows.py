"""Rows to score, from a CSV, JSON or JSON Lines file."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .errors import BadInputError
from .manifest import loads


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Read rows, streaming where the format allows it.

    Args:
        path: ends with `.csv` (with a header), `.json` (a list of objects) or `.jsonl`. CSV has no types: a cell that
            reads as a number is one.

    Yields:
        One object a row.

    Raises:
        BadInputError: the file cannot be read, or a row is none.
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


def _csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise BadInputError(f"{path}, line {reader.line_num}: has not as many cells as the header")
            yield {name: _cell(cell) for name, cell in row.items()}


def _json(path: Path) -> Iterator[dict[str, Any]]:
    rows = loads(path.read_bytes(), str(path))
    if not isinstance(rows, list):
        raise BadInputError(f"{path} is not a list of objects")
    for number, row in enumerate(rows, 1):
        yield _object(row, f"{path}, item {number}")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _object(loads(line, f"{path}, line {number}"), f"{path}, line {number}")


def _object(row: object, where: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise BadInputError(f"{where}: is not an object")
    return row


def _cell(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text
