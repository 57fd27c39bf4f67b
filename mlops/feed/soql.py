"""The part of SOQL that reading records needs: `SELECT fields FROM object [ORDER BY ...] [LIMIT n]`.

Owns: parsing, strictly, and running a query over the feed's objects. What this part does not know is answered as
Salesforce answers a mistake, never ignored. Deliberately not: WHERE, aggregates and sub-queries.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

from mlops.feed.data import Record, SObject

_TOKEN = re.compile(r"\s*([A-Za-z_][\w.]*|\d+|\S|$)")
_ASK = "Please reference your WSDL or the describe call for the appropriate names."
_KEYWORDS = {"SELECT", "FROM", "WHERE", "ORDER", "BY", "LIMIT"}
_NAME = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)*")


class SalesforceError(Exception):
    """A refusal, in Salesforce's own words: HTTP status, error code and message."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Column(NamedTuple):
    """A field of an object (`MOSTYPE__c`), or of the one it looks up (`Area__r.MOSTYPE__c`)."""

    field: str
    position: int
    relationship: str | None = None
    lookup_position: int = 0


@dataclass(frozen=True)
class Query:
    """A query that was found valid against the objects."""

    object: SObject
    columns: tuple[Column, ...]
    order: tuple[tuple[Column, bool], ...] = ()
    limit: int | None = None

    def run(self) -> list[Record]:
        """Give the object's records in the query's order, cut to its limit."""
        records = self.object.records
        for column, descending in reversed(self.order):
            records = sorted(records, key=lambda record: self._value(record, column), reverse=descending)
        return records[: self.limit]

    def render(self, record: Record, base: str) -> dict[str, Any]:
        """Give a record as Salesforce's JSON has it, under `base`, such as `/services/data/v60.0`."""
        shown: dict[str, Any] = {"attributes": _attributes(self.object, record, base)}
        for column in self.columns:
            if column.relationship is None:
                shown[column.field] = record[column.position]
                continue
            parent, row = self._parent(record, column)
            nested = shown.setdefault(column.relationship, {"attributes": _attributes(parent, row, base)})
            nested[column.field] = row[column.position]
        return shown

    def _parent(self, record: Record, column: Column) -> tuple[SObject, Record]:
        parent = self.object.relationships[str(column.relationship)].parent
        return parent, parent.by_id[record[column.lookup_position]]

    def _value(self, record: Record, column: Column) -> Any:
        return (record if column.relationship is None else self._parent(record, column)[1])[column.position]


def _attributes(sobject: SObject, record: Record, base: str) -> dict[str, str]:
    return {"type": sobject.name, "url": f"{base}/sobjects/{sobject.name}/{record[0]}"}


def parse(text: str, objects: dict[str, SObject]) -> Query:
    """Parse a query and check it against the objects; case does not count, as in Salesforce.

    Raises:
      SalesforceError: With the code and the words of Salesforce's answer.
    """
    if not text.strip():
        raise SalesforceError("MALFORMED_QUERY", "A query string has to be specified")
    return _Parser(text, objects).query()


class _Parser:
    def __init__(self, text: str, objects: dict[str, SObject]) -> None:
        self.text = text
        self.objects = {name.lower(): sobject for name, sobject in objects.items()}
        self.matches = _TOKEN.finditer(text)
        self.match = next(self.matches)

    @property
    def token(self) -> str:
        return self.match[1]

    def take(self) -> re.Match[str]:
        taken, self.match = self.match, next(self.matches)
        return taken

    def unexpected(self) -> NoReturn:
        raise SalesforceError("MALFORMED_QUERY", f"unexpected token: '{self.token or '<EOF>'}'")

    def accept(self, *words: str) -> bool:
        if self.token.upper() not in words:
            return False
        self.take()
        return True

    def expect(self, word: str) -> None:
        if not self.accept(word):
            self.unexpected()

    def name(self) -> re.Match[str]:
        if not _NAME.fullmatch(self.token) or self.token.upper() in _KEYWORDS:
            self.unexpected()
        return self.take()

    def names(self, item: Callable[[], Any]) -> list[Any]:
        found = [item()]
        while self.accept(","):
            found.append(item())
        return found

    def query(self) -> Query:
        self.expect("SELECT")
        selected = self.names(self.name)
        self.expect("FROM")
        name = self.name()[1]
        ordered: list[tuple[re.Match[str], bool]] = []
        limit = None
        if self.accept("ORDER"):
            self.expect("BY")
            ordered = self.names(self.ordering)
        if self.accept("LIMIT"):
            if not self.token.isdecimal():
                self.unexpected()
            limit = int(self.take()[1])
        if self.token:
            self.unexpected()
        sobject = self.objects.get(name.lower())
        if sobject is None:
            hint = "If you are attempting to use a custom object, be sure to append the '__c' after the entity name."
            raise SalesforceError("INVALID_TYPE", f"sObject type '{name}' is not supported. {hint} {_ASK}")
        columns = [self.resolve(sobject, found) for found in selected]
        for i, column in enumerate(columns):
            if column in columns[:i]:
                raise SalesforceError("MALFORMED_QUERY", f"duplicate field selected: {selected[i][1]}")
        order = tuple((self.resolve(sobject, found), descending) for found, descending in ordered)
        return Query(sobject, tuple(columns), order, limit)

    def ordering(self) -> tuple[re.Match[str], bool]:
        found = self.name()
        descending = not self.accept("ASC") and self.accept("DESC")
        if self.accept("NULLS") and not self.accept("FIRST", "LAST"):  # there are none, so either is the same
            self.unexpected()
        return found, descending

    def resolve(self, sobject: SObject, found: re.Match[str]) -> Column:
        via, _, name = found[1].rpartition(".")
        target, relationship, lookup = sobject, None, 0
        if via:
            relationship = next((r for r in sobject.relationships if r.lower() == via.lower()), None)
            if relationship is None:
                hint = "If you are attempting to use a custom relationship, be sure to append the '__r' after it."
                raise self.invalid(found, f"Didn't understand relationship '{via}' in field path. {hint}")
            field, target = sobject.relationships[relationship]
            lookup = sobject.fields.index(field)
        for position, field in enumerate(target.fields):
            if field.lower() == name.lower():
                return Column(field, position, relationship, lookup)
        hint = "If you are attempting to use a custom field, be sure to append the '__c' after the custom field name."
        raise self.invalid(found, f"No such column '{name}' on entity '{target.name}'. {hint}")

    def invalid(self, found: re.Match[str], problem: str) -> SalesforceError:
        start = found.start(1)
        row = self.text.count("\n", 0, start) + 1
        column = start - self.text.rfind("\n", 0, start)
        return SalesforceError("INVALID_FIELD", f"ERROR at Row:{row}:Column:{column}\n{problem} {_ASK}")
