"""The CoIL 2000 customers as Salesforce would hold them: areas, and customers who live in one.

Owns: reading `Caravan.csv`, splitting it into the two objects, record ids, and the plain files. Deliberately not:
fetching the file (set-up does), and joining the objects again (the pipelines' work).
"""

import csv
import io
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

AREA_COLUMNS = 43
COLUMNS = 86
TARGET = "Purchase"

Value = str | float
"""What a field holds; Salesforce answers every Number as a double."""

Record = tuple[Value, ...]
"""An object's values, in the order of its fields."""


class FeedError(ValueError):
    """The data file cannot be served; the message is one line for people."""


class Relationship(NamedTuple):
    """A lookup from one object to another, as `lookup` (the field) and `parent` (what it points to)."""

    lookup: str
    parent: "SObject"


@dataclass(frozen=True)
class SObject:
    """One Salesforce object: its fields, its records in the fields' order, and its lookups by relationship name."""

    name: str
    fields: tuple[str, ...]
    records: list[Record]
    relationships: dict[str, Relationship] = field(default_factory=dict)

    @cached_property
    def by_id(self) -> dict[Value, Record]:
        """Each record by its `Id`, which is the first field of every object."""
        return {record[0]: record for record in self.records}


@dataclass(frozen=True)
class Org:
    """What one feed serves: its objects by name, and plain files by name."""

    objects: dict[str, SObject]
    files: dict[str, bytes]


def record_id(prefix: str, number: int) -> str:
    """Make a record id: 15 characters, and Salesforce's three that tell the case of each (no capitals here)."""
    return f"{prefix}{number:012d}AAA"


def load(path: Path) -> Org:
    """Read `Caravan.csv` and split it into areas (one for each distinct combination of attributes 1-43) and customers.

    Raises:
      FeedError: The file is missing or is not the CoIL data set.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise FeedError(f"{path}: {error.strerror}; the feed has nothing to serve: run `make setup`") from None
    try:
        header, *rows = csv.reader(io.StringIO(raw.decode(), newline=""))
        if len(header) != COLUMNS or header[-1] != TARGET:
            raise ValueError(f"{len(header)} columns, the last {header[-1]!r}")
        numbers = [[*map(int, row[:-1])] for row in rows if len(row) == COLUMNS]
        if not rows or len(numbers) != len(rows):
            raise ValueError("rows of unequal length, or none")
    except ValueError as error:
        raise FeedError(f"{path}: not the CoIL data set ({error}); remove it and run `make setup`") from None
    return _split(raw, header, rows, numbers)


def _split(raw: bytes, header: list[str], rows: list[list[str]], numbers: list[list[int]]) -> Org:
    typed: list[Record] = [(*map(float, values), row[-1]) for values, row in zip(numbers, rows, strict=True)]
    area_ids: dict[Record, str] = {}
    areas: list[list[str]] = [["Id", *header[:AREA_COLUMNS]]]
    customers: list[list[str]] = [["Id", "Area", *header[AREA_COLUMNS:]]]
    for number, (record, row) in enumerate(zip(typed, rows, strict=True), 1):
        attributes = record[:AREA_COLUMNS]
        if attributes not in area_ids:
            area_ids[attributes] = record_id("a00", len(areas))
            areas.append([area_ids[attributes], *row[:AREA_COLUMNS]])
        customers.append([record_id("a01", number), area_ids[attributes], *row[AREA_COLUMNS:]])
    own = [f"{name}__c" for name in header]
    area = SObject("Area__c", ("Id", *own[:AREA_COLUMNS]), [(key, *values) for values, key in area_ids.items()])
    customer = SObject(
        "Customer__c",
        ("Id", "Area__c", *own[AREA_COLUMNS:]),
        [(*row[:2], *record[AREA_COLUMNS:]) for row, record in zip(customers[1:], typed, strict=True)],
        {"Area__r": Relationship("Area__c", area)},
    )
    objects = [dict(zip(header, (*values, row[-1]), strict=True)) for values, row in zip(numbers, rows, strict=True)]
    files = {
        "caravan.csv": raw,
        "caravan.json": json.dumps(objects).encode(),
        "areas.csv": "".join(",".join(row) + "\n" for row in areas).encode(),
        "customers.csv": "".join(",".join(row) + "\n" for row in customers).encode(),
    }
    return Org({area.name: area, customer.name: customer}, files)
