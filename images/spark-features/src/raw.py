"""One strict look at a raw CSV file before Spark reads it: the one reading of CSV that docs/adr/0017 decides.

Owns: what is well-formed, and how Spark has to read it to find the same rows. Deliberately not: what a row means.
Spark's own reader takes what is not well-formed for something else, and says nothing. It can read a file that passes
here in one way only.
"""

import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from job import InputError

RECORD_BYTES = 2**17
MAX_MALFORMED = 0
BLANKS = "\t\n\v\f\r \u00a0\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000\ufeff"
"""What does not count around a value: what String.trim() of JavaScript, the other lane's language, leaves out."""

MARK = b"\xef\xbb\xbf"

_FORMS = {
    b"\x1f\x8b": "is packed by gzip, and only plain files are read; unpack it",
    b"PK\x03\x04": "is a zip archive or a spreadsheet; save the table as CSV",
    b"\xff\xfe": "is UTF-16; save it as UTF-8",
    b"\xfe\xff": "is UTF-16; save it as UTF-8",
}
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_QUOTED = rb'[ \t]*+"(?:[^"]++|"")*+'
_CELL = rb"(?:" + _QUOTED + rb'"[ \t]*+|[^",]*+)'
_RECORD = re.compile(_CELL + rb"(?:," + _CELL + rb")*+")
_UNCLOSED = re.compile(rb"(?:" + _CELL + rb",)*+" + _QUOTED)
_QUOTES = re.compile(rb'"(?:[^"]++|"")*+"')
_PIECE = re.compile(r'"(?:[^"]++|"")*+"|[^",]++|,')


@dataclass
class Raw:
    """What a look at a file told.

    Attributes:
        uri: Of the file.
        header: Names of the columns, without blanks around them; empty where one has no name.
        records: How many follow the header, without blank lines.
        malformed: How many of these are no CSV, or have another number of cells than the header.
        example: The first of them: its line, and what is wrong with it.
        line_end: What ends a line for Spark, which takes CRLF for LF.
        sha256: Of the bytes.
        size: In bytes.
    """

    uri: str
    header: list[str] = field(default_factory=list)
    records: int = 0
    malformed: int = 0
    example: str = ""
    line_end: str = "\n"
    sha256: str = ""
    size: int = 0

    @property
    def options(self) -> dict[str, str]:
        """How Spark reads the file as RFC 4180 has it."""
        return {
            "header": "true",
            "mode": "PERMISSIVE",
            "multiLine": "true",
            "escape": '"',
            "lineSep": self.line_end,
            "ignoreLeadingWhiteSpace": "true",
            "ignoreTrailingWhiteSpace": "true",
            "maxColumns": str(len(self.header) + 1),
            # A row's length is not checked if columns that are left out are not parsed.
            "columnPruning": "false",
        }


class _Bytes(io.RawIOBase):
    """A stream of Java's as Python's, which digests what passes."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.digest, self.size, self.one_line = stream, hashlib.sha256(), 0, False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._stream.readNBytes(len(buffer))
        self.digest.update(found)
        if not self.size and (end := re.search(rb"[\r\n]+", found.lstrip())):
            self.one_line = end[0].startswith(b"\r") and not end[0].startswith(b"\r\n")
        self.size += len(found)
        if self.one_line:
            found = found.replace(b"\r", b"\n")
        buffer[: len(found)] = found
        return len(found)


def look(uri: str, stream: Any) -> Raw:
    """Read a file once, line by line.

    Raises:
      InputError: It is no CSV at all, or more of its rows are malformed than `MAX_MALFORMED`.
    """
    source = _Bytes(stream)
    raw = Raw(uri)
    for line, record in _records(uri, io.BufferedReader(source, 2**20)):
        cells, problem = _cells(record)
        if not raw.header:
            if problem:
                raise InputError(f"{uri}: line {line} is malformed, {problem}: {_shown(record)}; correct the data")
            raw.header = _names(record.decode())
            continue
        raw.records += 1
        if not problem and cells != len(raw.header):
            problem = f"it has {cells} values and the header {len(raw.header)}"
        if problem:
            raw.malformed += 1
            raw.example = raw.example or f"line {line}, {problem}: {_shown(record)}"
    raw.line_end = "\r" if source.one_line else "\n"
    raw.sha256, raw.size = source.digest.hexdigest(), source.size
    if not raw.header:
        raise InputError(f"{uri}: is empty; push a file that holds the rows")
    if raw.malformed > MAX_MALFORMED:
        raise InputError(
            f"{uri}: {raw.malformed} of {raw.records} rows are malformed, the first on {raw.example}; "
            "correct the data, nothing was written"
        )
    return raw


def _records(uri: str, stream: io.BufferedReader) -> Iterator[tuple[int, bytes]]:
    """Each record that is not blank with the number of its first line; one that is malformed ends with its line."""
    held, first = b"", 1
    for number, line in enumerate(iter(lambda: stream.readline(RECORD_BYTES + 2), b""), 1):
        if number == 1:
            _check_form(uri, line)
        _check_text(uri, number, line)
        if not held:
            first = number
        held += line.removeprefix(MARK) if number == 1 else line
        if len(held) > RECORD_BYTES:
            problem = "no quote closes it in" if _UNCLOSED.fullmatch(held) else "it is longer than"
            raise InputError(
                f"{uri}: line {first} is malformed, {problem} {RECORD_BYTES} bytes: {_shown(held)}; correct the data"
            )
        if b'"' in held and _UNCLOSED.fullmatch(held):
            continue
        if held.strip():
            yield first, held.removesuffix(b"\n").removesuffix(b"\r")
        held = b""
    if held:
        yield first, held


def _check_form(uri: str, start: bytes) -> None:
    for magic, problem in _FORMS.items():
        if start.startswith(magic):
            raise InputError(f"{uri}: {problem}")
    text = start.removeprefix(MARK).lstrip()
    if text.startswith(b"<"):
        raise InputError(f"{uri}: is HTML or XML, a page and no data; give the CSV itself")
    if text.startswith((b"{", b"[")):
        raise InputError(f"{uri}: is JSON; this lane reads CSV")


def _check_text(uri: str, number: int, line: bytes) -> None:
    if control := _CONTROL.search(line):
        code = f"U+{control[0][0]:04X}"
        raise InputError(f"{uri}: line {number} has the control character {code}, which no CSV holds; correct the data")
    try:
        line.decode()
    except UnicodeDecodeError:
        raise InputError(f"{uri}: line {number} is not UTF-8; save the file as UTF-8") from None


def _cells(record: bytes) -> tuple[int, str]:
    """How many cells a record has, and what is wrong with it."""
    if b'"' not in record:
        return record.count(b",") + 1, ""
    if _UNCLOSED.fullmatch(record):
        return 0, "a quote is never closed"
    if not _RECORD.fullmatch(record):
        return 0, "a quote stands inside a value"
    return _QUOTES.sub(b"", record).count(b",") + 1, ""


def _names(header: str) -> list[str]:
    names = [""]
    for piece in _PIECE.findall(header):
        if piece == ",":
            names.append("")
        else:
            names[-1] += piece
    names = [name.strip(BLANKS) for name in names]
    return [name[1:-1].replace('""', '"').strip(BLANKS) if name.startswith('"') else name for name in names]


def _shown(record: bytes) -> str:
    return ascii(record[:80].decode(errors="replace"))
