"""What goes wrong around an event store in a database: kills, full disks, other writers, old and new versions."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

import pytest
from sqlalchemy import event as hooks

from facta.errors import ConflictError, StoreError
from facta.store import postgresql, schema, sqlite
from facta.store.opening import open_store
from facta.store.protocol import Person, StoredEvent, UserId
from facta.store.sql import SQLStore
from tests import event_store_kills as kills
from tests.event_stores import CLOCK, URLS, connected, execute


@pytest.fixture(params=URLS, ids=lambda kind: kind.__name__)
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    with request.param() as made:
        yield made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@contextmanager
def opened(url: str) -> Iterator[SQLStore]:
    store = open_store(url, CLOCK)
    assert isinstance(store, SQLStore)
    try:
        yield store
    finally:
        store.close()


def one(id_: str, time: int = 1, **values: Any) -> StoredEvent:
    return StoredEvent(id_, 7, time, values)


def in_threads(count: int, run: Callable[[int], None]) -> None:
    failed: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            run(number)
        except BaseException as error:
            failed.append(error)

    threads = [Thread(target=guarded, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed


@pytest.mark.parametrize("seconds", [0.02, 0.3])
def test_a_kill_loses_and_doubles_nothing_that_was_acknowledged(url: str, seconds: float) -> None:
    acknowledged = kills.killed(url, 0, seconds)
    assert acknowledged
    kills.check(url, acknowledged)
    again = kills.killed(url, 1, seconds)
    kills.check(url, [*acknowledged, *again])


def test_nothing_is_acknowledged_before_its_commit(url: str) -> None:
    """A commit that fails: the append says so, nothing is there, and the next one works."""
    with opened(url) as store:
        store.append([(1, one("before"))])
        engine = store._backend.engine

        def fail(connection: Any) -> None:
            raise StoreError("pulled the plug")

        hooks.listen(engine, "commit", fail)
        with pytest.raises(StoreError, match="pulled the plug"):
            store.append([(1, one("lost"))])
        hooks.remove(engine, "commit", fail)
        assert [event.id for event in store.person(1).events] == ["before"]
        store.append([(1, one("after"))])
        assert [event.id for event in store.person(1).events] == ["before", "after"]


def test_what_is_acknowledged_is_on_the_disk(url: str) -> None:
    """As far as settings can say: no test here cuts the power."""
    words = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    with opened(url) as store, store._backend.reading() as db:
        if url.startswith("sqlite"):
            assert {name: db.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in words} == words
        else:
            assert db.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_appends_of_many_threads_share_commits_and_none_is_mixed_up(url: str) -> None:
    with opened(url) as store:
        commits: list[float] = []

        def slow(connection: Any) -> None:
            commits.append(time.perf_counter())
            time.sleep(0.01)  # as a disk that flushes

        store._backend.lock, lock = (lambda db: (slow(db), lock(db))[1]), store._backend.lock  # type: ignore[method-assign]
        store.append([("conflict", one("a"))])

        def run(number: int) -> None:
            """Half of the threads begin with what is refused, so that a commit holds both."""
            for turn in range(5 + number % 2):
                if turn or number % 2 == 0:
                    name = f"{number}.{turn}"
                    assert store.append([(number, one(name, turn)), ("all", one(name, turn))]).ids == (name, name)
                with pytest.raises(ConflictError):
                    store.append([("all", one("half", 0)), ("conflict", one("a", 2))])

        in_threads(8, run)
        assert len(commits) < 42, "84 appends of 8 threads"
        assert len(store.person("all").events) == store.person("all").revision == 40
        assert [event.id for event in store.person(2).events] == [f"2.{turn}" for turn in range(5)]


def test_two_processes_write_one_store(url: str) -> None:
    """Two stores here, which know nothing of each other, as replicas do."""
    with opened(url) as store, opened(url) as other:

        def run(number: int) -> None:
            for turn in range(10):
                (store, other)[number % 2].append([("all", one(f"{number}.{turn}", turn))])

        in_threads(4, run)
        assert store.person("all") == other.person("all")
        assert len(store.person("all").events) == store.person("all").revision == 40
        store.append([("all", one("newest", 99))])
        assert [event.id for event in other.changes({"all": 40})["all"].appended] == ["newest"]


def test_a_reader_beside_a_writer_sees_one_moment(url: str) -> None:
    """Each event raises the revision by one here, so a revision and events of two moments do not fit."""
    with opened(url) as store, opened(url) as reader:
        writing = Thread(target=lambda: [store.append([("all", one(f"e{n}", n))]) for n in range(150)])
        writing.start()
        known = 0
        while known < 150 and (writing.is_alive() or reader.changes({"all": known})):
            for change in reader.changes({"all": known}).values():
                assert [event.id for event in change.appended] == [f"e{n}" for n in range(known, change.revision)]
                known = change.revision
        writing.join()
        assert known == 150


def test_every_look_up_goes_by_an_index(path: Path) -> None:
    """One range for each user or event: the parts of a key that SQLite's plan names."""
    with opened(f"sqlite:///{path}") as store:
        engine, tables = store._backend.engine, store._tables
        by = {"(name=?)": (tables._users, tables._news), "(user_row=? AND event_id=?)": (tables._events,)}
        by["(user_row=? AND arrival>?)"] = (tables._arrived,)
        for key, queries in by.items():
            for query in queries:
                compiled = query.compile(engine)
                given = {"pairs": "[]", "param_1": "$[0]", "param_2": "$[1]"}
                values = tuple(given.get(name, 0) for name in compiled.positiontup or ())
                with store._backend.reading() as db:
                    plan = [row[3] for row in db.exec_driver_sql(f"EXPLAIN QUERY PLAN {compiled}", values)]
                assert [step for step in plan if step.startswith("SEARCH facta_") and key in step], plan


def test_a_closed_store_says_so(url: str) -> None:
    with opened(url) as store:
        store.append([(1, one("a"))])
    with pytest.raises(StoreError, match="The event store was closed; open it again"):
        store.append([(1, one("b"))])
    with opened(url) as store:
        assert len(store.person(1).events) == 1


def test_an_older_store_is_brought_up_to_date_and_a_newer_one_is_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(url) as store:
        store.append([(1, one("a"))])
    step = ("ALTER TABLE facta_events ADD COLUMN seen BIGINT", "UPDATE facta_events SET seen = time + 1")
    with monkeypatch.context() as later:
        later.setattr(schema, "STEPS", (*schema.STEPS, step))
        for _ in range(2):  # the second time there is nothing to do
            with opened(url) as store, store._backend.reading() as db:
                assert db.exec_driver_sql("SELECT seen FROM facta_events").scalar_one() == 2
    with pytest.raises(StoreError, match="has schema version 2, and this facta knows versions up to 1"), opened(url):
        pass


def test_a_step_that_fails_leaves_the_older_store(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(url) as store:
        store.append([(1, one("a"))])
    step = ("ALTER TABLE facta_events ADD COLUMN seen BIGINT", "UPDATE facta_events SET nothing = 1")
    with monkeypatch.context() as later:
        later.setattr(schema, "STEPS", (*schema.STEPS, step))
        with pytest.raises(Exception, match="nothing"), opened(url):
            pass
    with opened(url) as store:
        assert len(store.person(1).events) == 1
        with store._backend.reading() as db, pytest.raises(Exception, match="seen"):
            db.exec_driver_sql("SELECT seen FROM facta_events")


def test_tables_are_as_the_statements_expect(url: str) -> None:
    from sqlalchemy import inspect

    with opened(url) as store:
        found = inspect(store._backend.engine)
        for table in (schema.USERS, schema.EVENTS, schema.ITEMS, schema.STORE):
            columns = {one["name"]: one["nullable"] for one in found.get_columns(table.name)}
            assert columns == {column.name: column.nullable for column in table.columns}


@pytest.mark.parametrize(
    ("pragma", "match"),
    [("max_page_count={pages}", "the disk is full; free some space"), ("query_only={on}", "is read-only")],
    ids=["full", "read-only"],
)
def test_a_disk_that_takes_nothing_is_a_sentence_until_it_does(path: Path, pragma: str, match: str) -> None:
    with opened(f"sqlite:///{path}") as store:
        limit = {"pages": 2**30, "on": 0}

        def limited(connection: Any, *_: Any) -> None:
            connection.execute(f"PRAGMA {pragma.format(**limit)}").close()

        hooks.listen(store._backend.engine, "checkout", limited)
        store.append([(1, one("before"))])
        limit.update(pages=20, on=1)
        with pytest.raises(StoreError, match=f"The event store '.*' cannot be written: .*{match}"):
            for number in range(50):
                store.append([(1, one(f"e{number}", 1, text="x" * 5000))])
        there = [event.id for event in store.person(1).events]
        assert there[0] == "before" and there[1:] == [f"e{number}" for number in range(len(there) - 1)]
        limit.update(pages=2**30, on=0)
        store.append([(1, one("after", text="x" * 5000))])
        assert [event.id for event in store.person(1).events] == [*there, "after"]


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Another process writes, and does not come to an end."""
    if url.startswith("sqlite"):
        other = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.close()
    else:
        with connected() as server:
            server.execute(f"SELECT pg_advisory_lock({postgresql.LOCK})")
            yield


def test_another_process_that_keeps_it_locked_is_a_sentence(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_PRAGMAS", (*sqlite._PRAGMAS, "busy_timeout=20"))
    monkeypatch.setattr(postgresql, "_PATIENCE", 20)
    with opened(url) as store:
        with locked(url):
            with pytest.raises(StoreError, match="cannot be written: another process keeps it locked"):
                store.append([(1, one("a"))])
            assert store.person(1) == Person(), "reading goes on"
        assert store.append([(1, one("a"))]).accepted == 1


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("nonsense", "Found the store 'nonsense'; expected sqlite:///PATH"),
        ("mysql://root@host/db", "Found a store of kind 'mysql'; expected sqlite:///PATH"),
        ("sqlite://", "Found an SQLite URL without a file"),
        ("sqlite:////nowhere/at/all/events.db", "cannot be written: the file cannot be opened; check its folder"),
        ("postgresql+psycopg://me:secret@/db?host=/nowhere", r"'postgresql\+psycopg://me:\*\*\*@/.*is the server up"),
    ],
)
def test_a_url_that_leads_nowhere_is_a_sentence(url: str, match: str) -> None:
    with pytest.raises(StoreError, match=match) as caught:
        open_store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [("sqlalchemy", "sqlite:///a.db", "serve"), ("psycopg", "postgresql+psycopg://me@/db", "postgres")],
)
def test_a_package_that_is_missing_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, package: str, url: str, extra: str
) -> None:
    for module in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(StoreError, match=rf"pip install facta\[{extra}\]"):
        open_store(url)


def test_a_file_that_is_no_store_is_a_sentence(path: Path) -> None:
    path.write_bytes(b"user_id,item_id\n" * 1000)
    with pytest.raises(StoreError, match="the file is no SQLite database; give another path"):
        open_store(f"sqlite:///{path}")


def test_lost_connections_are_made_anew(url: str) -> None:
    if not url.startswith("postgresql"):
        pytest.skip("SQLite has no connections to lose")
    with opened(url) as store:
        store.append([(1, one("a"))])
        execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        assert store.append([(1, one("b"))]).accepted == 1
        assert len(store.person(1).events) == 2


def traces(path: Path) -> list[str]:
    """The files of a store that hold a word of who was forgotten."""
    files = sorted(path.parent.iterdir())
    assert path in files
    return [file.name for file in files if b"forgotten" in file.read_bytes()]


def test_no_byte_of_who_was_forgotten_is_left_after_a_vacuum(path: Path) -> None:
    """Events of many lengths split pages, and split pages keep copies: with this seed some are left by `forget`."""
    random = Random(8)
    with opened(f"sqlite:///{path}") as store:
        for batch in range(60):
            posts: list[tuple[UserId, StoredEvent]] = []
            for number in range(40):
                user = random.choice(["forgotten-user", *(f"kept{other}" for other in range(6))])
                word = user.split("-")[0]
                length = random.choice([1, 1, 1, 20, 100, 500])
                posts.append((user, one(f"{word}-{batch}-{number}", random.randrange(10**6), text=word * length)))
            store.append(posts)
        assert traces(path)
        store.forget("forgotten-user")
        store.vacuum()
        assert traces(path) == [] and len(list(store.people())) == 6
    assert traces(path) == []


def test_a_vacuum_beside_a_reader_says_that_bytes_are_left(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "_PATIENCE", 50)
    with opened(f"sqlite:///{path}") as store:
        store.append([("forgotten-user", one("a"))])
        reader = sqlite3.connect(path, isolation_level=None)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM facta_users").fetchone() == (1,)
        assert store.forget("forgotten-user"), "it does not wait for the reader"
        assert traces(path), "the reader may still read it"
        with pytest.raises(StoreError, match="somebody reads its log of changes"):
            store.vacuum()
        reader.close()
        store.vacuum()
        assert traces(path) == []


def test_the_log_of_changes_is_emptied_without_a_vacuum(path: Path) -> None:
    with opened(f"sqlite:///{path}") as store:
        store.append([("forgotten-user", one("a"))])
        store.forget("forgotten-user")
        assert traces(path) == []
