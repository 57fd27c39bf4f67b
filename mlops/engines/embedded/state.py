"""What is remembered across restarts of the supervisor: documents by kind and id, in one SQLite file.

Owns: the file, its schema, and what a full disk means. Deliberately not: what the documents mean. Secrets never come
here.
"""

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlops.engines.embedded.errors import StorageError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS document (
  kind TEXT NOT NULL,
  id TEXT NOT NULL,
  parent TEXT NOT NULL,
  token TEXT,
  unfinished INTEGER NOT NULL,
  created INTEGER NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (kind, id)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_parent ON document (kind, parent, created);
CREATE UNIQUE INDEX IF NOT EXISTS by_token ON document (kind, parent, token) WHERE token IS NOT NULL;
PRAGMA user_version = 1;
"""

Document = dict[str, Any]


class Store:
    """Documents of one state folder. Every method raises StorageError if the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._db = sqlite3.connect(path, isolation_level=None)
            # A killed supervisor loses nothing in this mode; only a power cut may take the last moments.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, 1):
                raise StorageError(
                    f"{path} was written by a newer version of this program; use that, or move the folder away"
                )
            self._db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"cannot use {self._path}: {error}; free space there, or move the folder away")

    def _query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def put(
        self,
        kind: str,
        key: str,
        body: Document,
        *,
        parent: str = "",
        token: str | None = None,
        unfinished: bool = True,
    ) -> None:
        """Write a document, or replace its body and whether it is finished."""
        self._query(
            "INSERT INTO document (kind, id, parent, token, unfinished, created, body) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, unfinished = excluded.unfinished",
            kind, key, parent, token, unfinished, time.time_ns(), json.dumps(body, separators=(",", ":")),
        )  # fmt: skip

    @contextmanager
    def together(self) -> Iterator[None]:
        """All writes inside, or none of them."""
        self._query("BEGIN IMMEDIATE")
        try:
            yield
            self._query("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):  # a full disk may have ended the transaction already
                self._db.execute("ROLLBACK")
            raise

    def get(self, kind: str, key: str) -> Document | None:
        """A document, or None."""
        rows = self._query("SELECT body FROM document WHERE kind = ? AND id = ?", kind, key)
        return json.loads(rows[0][0]) if rows else None

    def by_token(self, kind: str, parent: str, token: str) -> Document | None:
        """The document that was written with this token under this parent, or None."""
        rows = self._query("SELECT body FROM document WHERE kind = ? AND parent = ? AND token = ?", kind, parent, token)
        return json.loads(rows[0][0]) if rows else None

    def all(self, kind: str, *, parent: str | None = None, unfinished: bool | None = None) -> Iterator[Document]:
        """All documents of a kind in the order of writing, of one parent or only the unfinished ones if asked."""
        rows = self._query(
            "SELECT body FROM document WHERE kind = ?1 AND (?2 IS NULL OR parent = ?2) "
            "AND (?3 IS NULL OR unfinished = ?3) ORDER BY created",
            kind, parent, unfinished,
        )  # fmt: skip
        return (json.loads(row[0]) for row in rows)

    def delete(self, kind: str, key: str) -> None:
        """Forget a document."""
        self._query("DELETE FROM document WHERE kind = ? AND id = ?", kind, key)

    def close(self) -> None:
        """Write out and close."""
        self._db.close()
