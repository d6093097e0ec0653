"""PostgreSQL: one store for several machines. One of them writes at a time, as long as a commit lasts."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Connection, Subquery, Text, bindparam, cast, create_engine, event, func, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

from facta.store.backend import Backend
from facta.store.schema import EVENTS, ITEMS, STORE, USERS

LOCK = 0x6661637461  # "facta": the advisory lock that writers take
_PATIENCE = 5000  # ms: how long to wait for another process that writes, and for a server that does not answer
_ADVICE = {
    "08": "the connection was lost; is the server up?",
    "28": "the user or the password is refused; check the URL",
    "3D": "there is no such database; create it, or check the URL",
    "53": "the server has no room left (disk, memory or connections); give it some",
    "25006": "the server takes no writes (a standby, or set to read-only); give the URL of the one that does",
    "42501": "the user has too few rights; grant CREATE and USAGE on the schema",
    "55P03": "another process keeps it locked; wait, or end that process",
    "57": "the server is stopping or starting; wait",
}


class PostgreSQL(Backend):
    reads = {"isolation_level": "REPEATABLE READ"}

    def __init__(self, url: URL) -> None:
        engine = create_engine(url, pool_pre_ping=True, connect_args={"connect_timeout": _PATIENCE // 1000})
        event.listen(engine, "connect", _connected)
        super().__init__(engine, url.render_as_string(hide_password=True))

    def lock(self, db: Connection) -> None:
        db.execute(select(func.pg_advisory_xact_lock(LOCK)))

    def pairs(self) -> Subquery:
        pair = func.json_array_elements(cast(bindparam("pairs", type_=Text), JSON)).table_valued("value")
        first, second = (pair.c.value.op("->>")(place) for place in range(2))
        return select(first.label("first"), second.label("second")).select_from(pair).subquery()

    def vacuum(self) -> None:
        """New files for all tables; the server's write-ahead log and its backups hold old rows as long as they are
        kept."""
        with self._saying_why("rewritten"), self.engine.connect() as db:
            outside = db.execution_options(isolation_level="AUTOCOMMIT")
            for table in (USERS, EVENTS, ITEMS, STORE):
                outside.exec_driver_sql(f"VACUUM FULL {table.name}")

    def why(self, error: DBAPIError) -> str:
        state = str(getattr(error.orig, "sqlstate", None) or "08")  # without one, the server was not reached
        advice = next((said for start, said in _ADVICE.items() if state.startswith(start)), "see the server's log")
        return f"{advice} ({' '.join(str(error.orig).split())})"


def _connected(connection: Any, _: Any) -> None:
    """A server may be set to acknowledge before it has flushed; for events it does not. Nobody waits without end."""
    connection.execute("SET synchronous_commit TO on")
    connection.execute(f"SET lock_timeout TO {_PATIENCE}")
    connection.commit()
