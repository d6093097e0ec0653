"""Event stores for tests: each is made empty, with a clock that stands still, and removed afterwards."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache, partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import pytest

from facta.store.content import Clock
from facta.store.memory import MemoryStore
from facta.store.opening import open_store
from facta.store.protocol import EventStore

NOW = 1_893_456_000_000  # 2030-01-01
CLOCK = Clock(now=lambda: NOW)

_number = count()


@contextmanager
def memory() -> Iterator[EventStore]:
    yield MemoryStore(CLOCK)


@contextmanager
def sqlite_url() -> Iterator[str]:
    with TemporaryDirectory() as folder:
        yield f"sqlite:///{Path(folder) / 'events.db'}"


@contextmanager
def postgresql_url() -> Iterator[str]:
    """A schema of its own in a server that is started once for all tests; skips where none can be started."""
    schema = f"store_{next(_number)}"
    execute(f"CREATE SCHEMA {schema}")
    yield f"postgresql+psycopg://postgres@/postgres?host={_server()}&options=-csearch_path%3D{schema}"
    execute(f"DROP SCHEMA {schema} CASCADE")


@contextmanager
def sqlite() -> Iterator[EventStore]:
    with sqlite_url() as url, _opened(url) as store:
        yield store


@contextmanager
def postgresql() -> Iterator[EventStore]:
    with postgresql_url() as url, _opened(url) as store:
        yield store


STORES: list[Callable[[], AbstractContextManager[EventStore]]] = [memory, sqlite, postgresql]
URLS: list[Callable[[], AbstractContextManager[str]]] = [sqlite_url, postgresql_url]


@contextmanager
def _opened(url: str) -> Iterator[EventStore]:
    store = open_store(url, CLOCK)
    yield store
    store.close()


def connected() -> Any:
    """A connection to the PostgreSQL server of these tests, outside every store."""
    import psycopg

    return psycopg.connect(host=_server(), user="postgres", dbname="postgres", autocommit=True)


def execute(statement: str) -> None:
    """A statement for that server."""
    with connected() as db:
        db.execute(statement)


def _server() -> str:
    """The folder of the socket of a PostgreSQL server for these tests, which ends with this process."""
    folder, reason = _started()
    if folder is None:
        pytest.skip(reason)
    return folder


@cache
def _started() -> tuple[str | None, str]:
    programs = _programs()
    if programs is None:
        return None, "PostgreSQL is not installed (Debian: apt install postgresql)"
    owner = None if os.getuid() else _someone()
    if os.getuid() == 0 and owner is None:
        return None, "PostgreSQL does not run as root, and there is no user 'postgres'"
    folder = Path(mkdtemp(prefix="pg"))  # short: a socket's path has at most 107 bytes
    if owner is not None:
        os.chown(folder, owner.pw_uid, owner.pw_gid)

    run = partial(subprocess.run, capture_output=True, cwd=folder, **_as(owner))
    data = folder / "data"

    def stop() -> None:
        run([programs / "pg_ctl", "stop", "-D", data, "-m", "immediate"])
        shutil.rmtree(folder, ignore_errors=True)

    run([programs / "initdb", "-D", data, "-U", "postgres", "--auth=trust", "-E", "UTF8", "--no-sync"], check=True)
    options = f"-k {folder} -c listen_addresses= -c fsync=off -c synchronous_commit=off -c max_connections=50"
    run([programs / "pg_ctl", "start", "-w", "-D", data, "-l", folder / "log", "-o", options], check=True)
    atexit.register(stop)
    return str(folder), ""


def _programs() -> Path | None:
    """Where initdb and pg_ctl are: Debian keeps them out of PATH."""
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    there = shutil.which("initdb") or (str(max(found)) if found else None)
    return None if there is None else Path(there).resolve().parent


def _someone() -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam("postgres")
    except KeyError:
        return None


def _as(owner: pwd.struct_passwd | None) -> dict[str, Any]:
    """How a process is started as somebody else."""
    return {} if owner is None else {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
