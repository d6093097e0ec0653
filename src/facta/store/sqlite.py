"""SQLite: one file, no server. What is acknowledged was flushed to the disk (write-ahead log, synchronous=FULL)."""

from __future__ import annotations

import math
import sqlite3
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Subquery, bindparam, create_engine, event, func, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from facta.errors import StoreError
from facta.store.backend import Backend

_PATIENCE = 5000  # ms: how long to wait for another process that writes
_SWEEPING = 100  # ms: how long writers may wait for readers, so that what was deleted is wiped out at once
_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", f"busy_timeout={_PATIENCE}")
_ADVICE = {
    "SQLITE_FULL": "the disk is full; free some space",
    "SQLITE_READONLY": "the file or its folder is read-only; let this process write there",
    "SQLITE_CANTOPEN": "the file cannot be opened; check its folder, and who may read and write there",
    "SQLITE_PERM": "the file may not be opened; check who may read and write it",
    "SQLITE_BUSY": "another process keeps it locked; wait, or end that process",
    "SQLITE_LOCKED": "another connection keeps it locked; wait",
    "SQLITE_IOERR": "the disk fails to read or write; check it",
    "SQLITE_CORRUPT": "the file is damaged; restore a backup",
    "SQLITE_NOTADB": "the file is no SQLite database; give another path",
}


class SQLite(Backend):
    """A file. Beside it lie `-wal` and `-shm` while it is open; a backup takes all three, or `VACUUM INTO`."""

    writes = {"facta_writes": True}

    def __init__(self, url: URL) -> None:
        if url.database in (None, "", ":memory:"):
            raise StoreError(
                "Found an SQLite URL without a file; expected sqlite:///PATH, or memory:// to keep nothing."
            )
        engine = create_engine(url)
        event.listen(engine, "connect", _connected)
        event.listen(engine, "begin", _begin)
        super().__init__(engine, str(url.database))

    def lock(self, db: Connection) -> None:
        """BEGIN IMMEDIATE has waited."""

    def pairs(self) -> Subquery:
        pair = func.json_each(bindparam("pairs")).table_valued("value")
        first, second = (func.json_extract(pair.c.value, f"$[{place}]") for place in range(2))
        return select(first.label("first"), second.label("second")).select_from(pair).subquery()

    def vacuum(self) -> None:
        with self._saying_why("rewritten"):
            self._outside("VACUUM")
            if not self._emptied(_PATIENCE):
                raise StoreError(
                    f"The event store '{self.place}' was rewritten, but somebody reads its log of changes, which holds "
                    "what was deleted; try again when nobody reads."
                )

    def sweep(self) -> None:
        """Deleted rows are overwritten (secure_delete), but the log of changes still has them: it is emptied, unless
        somebody reads it just now. Pages that were split may keep copies of rows until `vacuum`."""
        with suppress(StoreError), self._saying_why("rewritten"):
            self._emptied(_SWEEPING)

    def _emptied(self, patience: int) -> bool:
        """Whether the write-ahead log could be put into the database and cut to nothing, after so many ms at most."""
        _, busy, _ = self._outside(
            f"PRAGMA busy_timeout={patience}", "PRAGMA wal_checkpoint(TRUNCATE)", f"PRAGMA busy_timeout={_PATIENCE}"
        )
        return bool(busy == 0)

    def _outside(self, *statements: str) -> list[Any]:
        """What cannot run inside a transaction: the first value that each statement returns, if any."""
        with self.engine.connect() as db:
            cursor = db.connection.cursor()
            try:
                found = [cursor.execute(statement).fetchone() for statement in statements]
            except sqlite3.Error as error:
                raise OperationalError(statements[0], None, error) from error
        return [None if row is None else row[0] for row in found]

    def why(self, error: DBAPIError) -> str:
        name = str(getattr(error.orig, "sqlite_errorname", ""))
        advice = next((said for start, said in _ADVICE.items() if name.startswith(start)), None)
        return f"{advice} ({error.orig})" if advice else str(error.orig)


def _connected(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where `_begin` says so, for reading too
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()
    try:
        connection.execute("SELECT exp(0.0)").close()
    except sqlite3.OperationalError:  # a library that was built without mathematics
        connection.create_function("exp", 1, math.exp, deterministic=True)


def _begin(db: Connection) -> None:
    """Who will write takes the lock at once: a reader that begins to write later may be refused."""
    db.exec_driver_sql("BEGIN IMMEDIATE" if db.get_execution_options().get("facta_writes") else "BEGIN")
