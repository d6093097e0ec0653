"""The tables of an event store in a database, and the steps that bring an older store up to date.

    facta_users   a row per user: id, revisions, facts
    facta_events  a row per event; `arrival` is the user's revision that brought it, so the events since a revision are
                  one range of the primary key
    facta_items   a row per item of which something was posted; `revision` counts the changes of all items
    facta_store   one row: how many steps were taken, and the revision from which new users count

The first step makes the tables, so a new store and an old one take the same way. A step is never changed once it was
released: another one is added.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Connection, MetaData, Table, Text, inspect, text

from facta.errors import StoreError

STEPS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE facta_users (
            user_row BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL UNIQUE, revision BIGINT NOT NULL,
            rewritten BIGINT NOT NULL, events BIGINT NOT NULL, newest BIGINT, facts TEXT NOT NULL,
            series TEXT NOT NULL)""",
        """CREATE TABLE facta_events (
            user_row BIGINT NOT NULL REFERENCES facta_users, arrival BIGINT NOT NULL, event_id TEXT NOT NULL,
            time BIGINT, item TEXT NOT NULL, fields TEXT NOT NULL, known_at TEXT NOT NULL,
            posted_fields TEXT, posted_known_at TEXT,
            PRIMARY KEY (user_row, arrival), UNIQUE (user_row, event_id)) WITHOUT ROWID""",
        """CREATE TABLE facta_items (
            name TEXT NOT NULL PRIMARY KEY, revision BIGINT NOT NULL UNIQUE, known TEXT NOT NULL)""",
        "CREATE TABLE facta_store (steps BIGINT NOT NULL, first_revision BIGINT NOT NULL)",
        "INSERT INTO facta_store VALUES (0, 0)",
    ),
)

_METADATA = MetaData()

USERS = Table(
    "facta_users",
    _METADATA,
    Column("user_row", BigInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),  # the id as JSON, which keeps its type
    Column("revision", BigInteger, nullable=False),
    Column("rewritten", BigInteger, nullable=False),  # the revision of the newest change that was no append
    Column("events", BigInteger, nullable=False),  # how many
    Column("newest", BigInteger),  # ms: the time of the newest one; null where there is none, or no times
    Column("facts", Text, nullable=False),  # JSON
    Column("series", Text, nullable=False),  # JSON
)
EVENTS = Table(
    "facta_events",
    _METADATA,
    Column("user_row", BigInteger, primary_key=True, autoincrement=False),
    Column("arrival", BigInteger, primary_key=True, autoincrement=False),
    Column("event_id", Text, nullable=False),
    Column("time", BigInteger),
    Column("item", Text, nullable=False),  # the id as JSON
    Column("fields", Text, nullable=False),  # JSON
    Column("known_at", Text, nullable=False),  # JSON
    Column("posted_fields", Text),  # as first posted, where they were amended since
    Column("posted_known_at", Text),
)
ITEMS = Table(
    "facta_items",
    _METADATA,
    Column("name", Text, primary_key=True),  # the id as JSON
    Column("revision", BigInteger, nullable=False),
    Column("known", Text, nullable=False),  # JSON: values, hidden
)
STORE = Table(
    "facta_store",
    _METADATA,
    Column("steps", BigInteger, nullable=False),
    Column("first_revision", BigInteger, nullable=False),
)


def bring_up_to_date(db: Connection) -> None:
    """Take the steps that a store lacks, inside a transaction that nobody else writes in. Raises StoreError where it
    has taken more steps than are known here."""
    taken = db.execute(text("SELECT steps FROM facta_store")).scalar_one() if inspect(db).has_table(STORE.name) else 0
    if taken > len(STEPS):
        raise StoreError(
            f"The event store has schema version {taken}, and this facta knows versions up to {len(STEPS)}: a newer "
            "one wrote it; install that, or open another store."
        )
    for step in STEPS[taken:]:
        for statement in step:
            db.execute(text(_in_the_words_of(db.dialect.name, statement)))
    if taken < len(STEPS):
        db.execute(STORE.update().values(steps=len(STEPS)))


def _in_the_words_of(dialect: str, statement: str) -> str:
    """SQLite calls integers of 64 bits INTEGER, and keeps events in the order of their key where they have no rowid:
    the events of a user then lie together. PostgreSQL has no such tables."""
    if dialect == "sqlite":
        return statement.replace("BIGINT", "INTEGER")
    return statement.replace(" WITHOUT ROWID", "")
