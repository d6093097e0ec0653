"""A store by its URL."""

from __future__ import annotations

from facta.errors import StoreError
from facta.store.content import Clock
from facta.store.memory import MemoryStore
from facta.store.protocol import EventStore

_EXPECTED = "expected sqlite:///PATH, postgresql+psycopg://USER@HOST/DATABASE or memory://"


def open_store(url: str, clock: Clock = Clock()) -> EventStore:
    """Open the store at a URL; a file or tables that are not there are made, older ones are brought up to date.

    Raises StoreError for a URL that names no store, where the store cannot be reached, and where a newer version of
    facta wrote it.
    """
    if url == "memory://":
        return MemoryStore(clock)
    try:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError
    except ModuleNotFoundError:
        raise StoreError("An event store needs SQLAlchemy; install it with `pip install facta[serve]`.") from None
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise StoreError(f"Found the store '{url}'; {_EXPECTED}.") from None
    from facta.store.sql import SQLStore

    if parsed.drivername in ("sqlite", "sqlite+pysqlite"):
        from facta.store.sqlite import SQLite

        return SQLStore(SQLite(parsed), clock)
    if parsed.drivername != "postgresql+psycopg":
        raise StoreError(f"Found a store of kind '{parsed.drivername}'; {_EXPECTED}.")
    from facta.store.postgresql import PostgreSQL

    try:
        return SQLStore(PostgreSQL(parsed), clock)
    except ModuleNotFoundError:
        raise StoreError("PostgreSQL needs psycopg; install it with `pip install facta[postgres]`.") from None
