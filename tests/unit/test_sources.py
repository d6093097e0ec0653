"""Public datasets: two forms give the same dataset, and no broken origin gets past its checksum or leaves anything."""

from __future__ import annotations

import gzip
import io
import os
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facta.data.dataset.catalogue import Catalogue
from facta.data.public import movielens, origins, sources
from facta.data.public.origins import Archive, Place, WebFolder, Wheel, checksum
from facta.data.public.sources import FileSet, Source
from facta.errors import DownloadError

GENRE_FLAGS = "0|0|0|1|1|1|0|0|0|0|0|0|0|0|0|0|0|0|0"  # Animation, Children's, Comedy
PUBLISHED = {
    "u.data": b"7\t1\t5\t200\n7\t3\t2\t100\n2\t1\t4\t100\n7\t2\t1\t200\n",
    "u.item": (
        f"1|Toy Story (1995)|01-Jan-1995||url|{GENRE_FLAGS}\n"
        f"2|Land: The Gift (1995) (V)|01-Jan-1995||url|{GENRE_FLAGS}\n"
        "3|unknown||||1|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0|0\n"
        f"4|C\u00e9r\u00e9monie, La (1995)|01-Jan-1995||url|{GENRE_FLAGS}\n"
    ).encode("latin-1"),
}
RECBOLE = {
    "ml-100k.inter": b"user_id:token\titem_id:token\trating:float\ttimestamp:float\n" + PUBLISHED["u.data"],
    "ml-100k.item": (
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        "1\tToy Story\t1995\tAnimation Children's Comedy\n"
        "2\tLand: The Gift (1995)\tV\tAnimation Children's Comedy\n"
        "3\tunkonwn\tunkonwn\tunknown\n"
        "4\tC\u00e9r\u00e9monie, La\t1995\tAnimation Children's Comedy\n"
    ).encode(),
}


def sums(files: dict[str, bytes]) -> dict[str, str]:
    return {name: checksum(content, "md5") for name, content in files.items()}


def zipped(files: dict[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"ml-100k/{name}", content)
    return target.getvalue()


@pytest.fixture
def web() -> Iterator[Any]:
    """A server; `web.pages[path] = (status, promised length, body)`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, promised, body = self.server.pages.get(self.path, (404, 0, b""))  # type: ignore[attr-defined]
            self.server.asked.append(self.path)  # type: ignore[attr-defined]
            self.send_response(status)
            self.send_header("Content-Length", str(promised))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.pages, server.asked = {}, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def serve(web: Any, path: str, body: bytes, *, promised: int | None = None, status: int = 200) -> str:
    web.pages[path] = (status, len(body) if promised is None else promised, body)
    return f"{web.url}{path}"


@pytest.fixture
def films(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Declares a source `films` in the two forms of MovieLens 100K, with the origins that a test wants."""

    def declare(published: tuple[Any, ...] = (), recbole: tuple[Any, ...] = ()) -> None:
        forms = (
            FileSet(files=sums(PUBLISHED), read=movielens.published_100k, origins=published),
            FileSet(files=sums(RECBOLE), read=movielens.recbole_100k, origins=recbole, notes=("a note",)),
        )
        monkeypatch.setitem(
            sources.SOURCES, "films", Source(title="Films", unit="s", forms=forms, schema=movielens.SCHEMA)
        )

    return declare


def test_both_forms_give_the_same_dataset(web: Any, films: Any, tmp_path: Path) -> None:
    films((Archive(serve(web, "/a.zip", zipped(PUBLISHED))),))
    first = sources.get("films", tmp_path / "first")
    films((), (Archive(serve(web, "/b.zip", zipped(RECBOLE))),))
    second = sources.get("films", tmp_path / "second")
    assert first.content_hash == second.content_hash
    assert first.items.equals(second.items) and first.users.equals(second.users)
    assert np.array_equal(first.fields["rating"], second.fields["rating"])
    assert first.manifest.notes != second.manifest.notes and "a note" in second.manifest.notes
    assert f"{web.url}/a.zip" in first.manifest.source


def test_tables_hold_titles_of_films_nobody_rated_and_times_in_milliseconds(films: Any, tmp_path: Path) -> None:
    films()
    for name, content in PUBLISHED.items():
        (tmp_path / name).write_bytes(content)
    dataset = sources.get("films", tmp_path / "out", place=tmp_path)
    titles = ["Toy Story (1995)", "Land: The Gift (1995) (V)", "unknown", "C\u00e9r\u00e9monie, La (1995)"]
    assert dataset.items["title"].to_list() == titles
    assert dataset.items["year"].to_list() == [1995, 1995, None, 1995]
    assert dataset.items["genres"].to_list() == [
        *["Animation|Children's|Comedy"] * 2,
        "unknown",
        "Animation|Children's|Comedy",
    ]
    (rating,), features = dataset.manifest.fields, Catalogue.of(dataset).features
    assert (rating.kind, rating.levels, rating.positives) == ("ordinal", (1, 2, 4, 5), (3, 4))
    assert features["genres"].field.categories == ("Animation", "Children's", "Comedy", "unknown")
    assert features["year"].values.tolist() == [1, 1, 0, 1]
    user = int(dataset.user_rows([7])[0])
    mine = slice(int(dataset.offsets[user]), int(dataset.offsets[user + 1]))
    assert dataset.timestamp is not None and dataset.timestamp[mine].tolist() == [100_000, 200_000, 200_000]
    assert dataset.fields["rating"][mine].tolist() == [2, 5, 1]  # equal times keep the publisher's order


def test_a_place_may_be_gzipped_nested_or_an_archive(films: Any, tmp_path: Path) -> None:
    films()
    nested = tmp_path / "here" / "ml-100k"
    nested.mkdir(parents=True)
    for name, content in PUBLISHED.items():
        (nested / f"{name}.gz").write_bytes(gzip.compress(content))
    archive = tmp_path / "films.zip"
    archive.write_bytes(zipped(RECBOLE))
    events = [sources.fetch("films", place=place).tables.events for place in (nested.parent, nested, archive)]
    assert events[0].equals(events[1]) and events[0].equals(events[2])


def broken(web: Any) -> dict[str, Archive | WebFolder]:
    whole = zipped(PUBLISHED)
    altered = {**PUBLISHED, "u.data": PUBLISHED["u.data"].replace(b"5", b"4", 1)}
    return {
        "Not Found": Archive(f"{web.url}/nothing.zip"),
        "broke off after": Archive(serve(web, "/short.zip", whole[:-20], promised=len(whole))),
        "torn": Archive(serve(web, "/torn.zip", whole[:-20])),
        "wrong checksum": Archive(serve(web, "/altered.zip", zipped(altered))),
        "u.item is not there": Archive(serve(web, "/part.zip", zipped({"u.data": PUBLISHED["u.data"]}))),
        "Connection refused": Archive("http://127.0.0.1:9/refused.zip"),
        "Service Unavailable": WebFolder(serve(web, "/folder", b"", status=503)),
    }


REASONS = (
    *("Not Found", "broke off after", "torn", "wrong checksum", "u.item is not there", "Connection refused"),
    "Service Unavailable",
)


@pytest.mark.parametrize("reason", REASONS)
def test_a_broken_origin_gives_its_reason_and_the_next_is_tried(web: Any, films: Any, reason: str) -> None:
    serve(web, "/folder/u.data", b"", status=503)
    bad = broken(web)[reason]
    films((bad, Archive(serve(web, "/good.zip", zipped(PUBLISHED)))))
    fetched = sources.fetch("films")
    assert fetched.origin == f"{web.url}/good.zip"
    assert len(fetched.failures) == 1 and reason in fetched.failures[0] and bad.label in fetched.failures[0]


def test_when_all_origins_fail_the_sentence_names_each_and_nothing_is_left(
    web: Any, films: Any, tmp_path: Path
) -> None:
    serve(web, "/folder/u.data", b"", status=503)
    bad = broken(web)
    films(tuple(bad.values()))
    with pytest.raises(DownloadError) as raised:
        sources.get("films", tmp_path / "out")
    for reason, origin in bad.items():
        assert f"{origin.label}: " in str(raised.value) and reason in str(raised.value)
    assert "facta data films --from DIR" in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_origin_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch, films: Any) -> None:
    import socket

    monkeypatch.setattr(origins, "PATIENCE_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        films((Archive(f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip"),))
        with pytest.raises(DownloadError, match="timed out"):
            sources.fetch("films")


def test_an_endless_answer_is_cut(monkeypatch: pytest.MonkeyPatch, web: Any, films: Any) -> None:
    monkeypatch.setattr(origins, "LARGEST_BYTES", 10)
    films((Archive(serve(web, "/a.zip", zipped(PUBLISHED))),))
    with pytest.raises(DownloadError, match="longer than 10 bytes"):
        sources.fetch("films")


def test_progress_ends_at_the_whole(web: Any, films: Any) -> None:
    content, told = zipped(PUBLISHED), []
    films((Archive(serve(web, "/a.zip", content)),))
    sources.fetch("films", progress=lambda label, done, total: told.append((label, done, total)))
    assert told[-1] == (f"{web.url}/a.zip", len(content), len(content))


def test_pip_failures_are_reasons(films: Any) -> None:
    films((), (Wheel("facta-has-no-such-package==0"),))
    with pytest.raises(DownloadError, match="pip could not fetch it"):
        sources.fetch("films")


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("u.data", b"1\t1\t1\t1\n", "wrong checksum"),
        ("u.data.gz", gzip.compress(PUBLISHED["u.data"], mtime=0)[:-6], "torn"),
        ("films.zip", b"PK\x03\x04 and no more", "u.data is not there"),
    ],
)
def test_a_damaged_place_is_refused(films: Any, tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    films()
    (tmp_path / "u.item").write_bytes(PUBLISHED["u.item"])
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DownloadError, match=reason):
        sources.get("films", tmp_path / "out", place=tmp_path)
    assert not (tmp_path / "out").exists()


def test_wrong_names_list_the_right_ones(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="movielens-100k, movielens-1m, amazon-beauty"):
        sources.get("movielens", tmp_path / "out")
    with pytest.raises(DownloadError, match="does not exist"):
        sources.get("movielens-1m", tmp_path / "out", place=tmp_path / "nothing")


def test_checksums_are_the_known_ones() -> None:
    assert checksum(b"", "md5") == "md5:d41d8cd98f00b204e9800998ecf8427e"
    assert checksum(b"", "git") == "git:e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"  # git hash-object of an empty file


SHARED = os.environ.get("FACTA_SHARED_DATA")
needs_data = pytest.mark.skipif(
    SHARED is None, reason="FACTA_SHARED_DATA names no folder with ml-100k, ml-1m, s3rec and kuairand-pure-part"
)


@needs_data
@pytest.mark.parametrize(
    ("name", "folder", "events", "users", "items", "notes"),
    [
        ("movielens-100k", "ml-100k", 100_000, 943, 1_682, ()),
        ("movielens-1m", "ml-1m", 1_000_209, 6_040, 3_883, (sources.RECONSTRUCTED,)),
        ("amazon-beauty", "s3rec", 198_502, 22_363, 12_101, ()),
        ("kuairand-pure", "kuairand-pure-part", 228_329, 25_156, 7_583, ()),
    ],
)
def test_published_counts(name: str, folder: str, events: int, users: int, items: int, notes: tuple[str, ...]) -> None:
    fetched = sources.fetch(name, place=Path(str(SHARED)) / folder)
    table, movies, _ = fetched.tables
    assert (table.height, table["user_id"].n_unique(), movies.height) == (events, users, items)
    assert movies["item_id"].n_unique() == items and fetched.notes == notes
    assert ("timestamp" in table.columns) == (name != "amazon-beauty")


@needs_data
def test_the_wheel_equals_the_published_files() -> None:
    source = sources.SOURCES["movielens-100k"]
    try:
        files = Wheel("recbole==1.2.1").files(source.forms[1].files, lambda *_: None)
    except DownloadError as error:
        pytest.skip(f"pip reaches no index that has the wheel: {error}")
    published = Place(Path(str(SHARED)) / "ml-100k").files(source.forms[0].files, lambda *_: None)
    ours, theirs = source.forms[1].read(files), source.forms[0].read(published)
    assert ours[0].equals(theirs[0]) and ours[1].equals(theirs[1])
