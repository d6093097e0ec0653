"""Broken places and requests: artifacts, datasets, folders, disks, downloads, settings and ids that do not exist."""

from __future__ import annotations

import atexit
import functools
import io
import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import polars as pl

import facta
from facta.data.public import sources
from facta.data.public.origins import Archive, checksum
from tests.robustness.cases import Answer, Case, in_process, with_full_disk, without_privileges
from tests.robustness.logs import altered, csv, prepare, rows, sound


@functools.cache
def _workshop() -> Path:
    """One sound dataset and one artifact, made once a process and copied by whoever breaks them."""
    folder = Path(tempfile.mkdtemp(prefix="facta-workshop-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    dataset = facta.prepare(pl.DataFrame(sound()), folder / "dataset")
    facta.train(dataset, "debug/popularity", folder / "artifact")
    return folder


def dataset(folder: Path) -> Path:
    return Path(shutil.copytree(_workshop() / "dataset", folder / "dataset"))


def artifact(folder: Path) -> Path:
    return Path(shutil.copytree(_workshop() / "artifact", folder / "artifact"))


def both(folder: Path, *arguments: str) -> list[str]:
    """Arguments in which ARTIFACT and DATASET stand for fresh copies."""
    places = {"ARTIFACT": str(artifact(folder)), "DATASET": str(dataset(folder)), "OUT": str(folder / "out")}
    return [places.get(argument, argument) for argument in arguments]


def asking(*arguments: str) -> Callable[[Path], list[str]]:
    return lambda folder: both(folder, *arguments)


def after(change: Callable[[Path], None], *arguments: str) -> Callable[[Path], list[str]]:
    """The same once something in the folder was changed."""

    def arrange(folder: Path) -> list[str]:
        filled = both(folder, *arguments)
        change(folder)
        return filled

    return arrange


def flip(content: bytes) -> bytes:
    """One bit in the middle."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def exchange(path: Path) -> None:
    """The values of an array in another order: its size and every value stay possible."""
    np.save(path, np.load(path)[::-1])


def set_format(path: Path, number: int = 99) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": number}))


def _other_items(folder: Path) -> list[str]:
    facta.prepare(pl.DataFrame(sound(item_id=[place % 7 for place in range(48)])), folder / "other")
    return ["evaluate", str(artifact(folder)), "--data", str(folder / "other")]


UNKNOWN = "unknown users and items"
UNKNOWNS = (
    Case(UNKNOWN, "user", asking("recommend", "ARTIFACT", "--data", "DATASET", "--user", "999"), "Unknown user 999"),
    Case(
        UNKNOWN,
        "user of another type",
        asking("recommend", "ARTIFACT", "--data", "DATASET", "--user", "Žofie"),
        "user id 'Žofie'; user ids here are whole numbers",
    ),
    Case(
        UNKNOWN,
        "items, answered by popularity",
        asking("recommend", "ARTIFACT", "--history", "77,78"),
        "of an item with training events; these are the most popular",
        repaired=True,
    ),
    Case(
        UNKNOWN,
        "items, left out and counted",
        asking("recommend", "ARTIFACT", "--history", "1,78"),
        "Left out 1 event",
        repaired=True,
    ),
    Case(UNKNOWN, "a dataset with other items", _other_items, "has other items \\(7\\) than the artifact \\(5\\)"),
    Case(UNKNOWN, "item of another type", asking("recommend", "ARTIFACT", "--history", "1,fox"), "item id 'fox'"),
)


def _bad_films(folder: Path) -> list[str]:
    (folder / "films").mkdir()
    (folder / "films" / "u.data").write_text("1\t1\t1\t1\n")
    (folder / "films" / "u.item").write_text("1|a\n")
    return ["data", "movielens-100k", "--from", str(folder / "films"), "--out", str(folder / "out")]


SUMS = "wrong checksum"
RECOMMEND = ("recommend", "ARTIFACT", "--history", "1,2")
WRONG_SUMS = (
    Case(
        SUMS,
        "weights of an artifact",
        after(lambda folder: altered(folder / "artifact" / "model.safetensors", flip), *RECOMMEND),
        "model.safetensors .* altered or torn",
    ),
    Case(
        SUMS,
        "metrics of an artifact",
        after(lambda folder: altered(folder / "artifact" / "metrics.json", flip), *RECOMMEND),
        "metrics.json .* altered or torn",
    ),
    Case(SUMS, "files of a public dataset", _bad_films, "u.data has the wrong checksum"),
    Case(
        SUMS,
        "a torn array of a dataset",
        after(
            lambda folder: altered(folder / "dataset" / "histories" / "item.npy", lambda content: content[:-8]),
            *("evaluate", "ARTIFACT", "--data", "DATASET"),
        ),
        "item.npy' is missing or torn",
    ),
    *(
        Case(
            SUMS,
            f"items of a dataset in another order, to {arguments[0]}",
            after(lambda folder: exchange(folder / "dataset" / "histories" / "item.npy"), *arguments),
            "item.npy' has another checksum than its manifest",
        )
        for arguments in (
            ("train", "debug/popularity", "--data", "DATASET", "--out", "OUT"),
            ("tune", "debug/hstu", "--data", "DATASET", "--out", "OUT", "--trials", "1"),
            ("evaluate", "ARTIFACT", "--data", "DATASET"),
            ("recommend", "ARTIFACT", "--data", "DATASET", "--user", "1"),
            ("doctor", "DATASET"),
        )
    ),
)


def _locked(folder: Path) -> Path:
    place = folder / "locked"
    place.mkdir(exist_ok=True)
    place.chmod(0o555)
    return place / "out"


READ_ONLY = "read-only folder"
LOCKED = (
    Case(
        READ_ONLY,
        "prepare",
        lambda folder: ["prepare", str(csv(folder / "log.csv", rows())), "--out", str(_locked(folder))],
        "locked/out' .*Permission denied",
        run=without_privileges,
    ),
    Case(
        READ_ONLY,
        "train",
        lambda folder: [
            *("train", "debug/popularity", "--data", str(dataset(folder))),
            *("--out", str(_locked(folder))),
        ],
        "locked/out' .*Permission denied",
        run=without_privileges,
    ),
    Case(
        READ_ONLY,
        "a file where a folder should be",
        lambda folder: ["prepare", str(csv(folder / "log.csv", rows())), "--out", str(folder / "log.csv" / "out")],
        "Cannot write .*log.csv/out",
    ),
)

DISK = "full disk"
FULL = (
    Case(
        DISK,
        "prepare",
        lambda folder: prepare(folder, csv(folder / "log.csv", rows(4000))),
        "Cannot write .*: free some space",
        run=with_full_disk(20_000),
    ),
    Case(
        DISK,
        "train",
        lambda folder: [
            *("train", "debug/sasrec-ss", "--data", str(dataset(folder)), "--set", "training.epochs=1"),
            *("--out", str(folder / "out")),
        ],
        "Cannot write .*File too large.*has room",
        leaves=("out.run",),
        run=with_full_disk(4_000),
    ),
)


FILMS = {"ratings.dat": b"1::1::5::978300760\n1::2::3::978302109\n", "movies.dat": b"1::Toy Story (1995)::Comedy\n"}


def _zip() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in FILMS.items():
            archive.writestr(f"ml-1m/{name}", content)
    return target.getvalue()


class _Breaking(BaseHTTPRequestHandler):
    """Promises more than it sends and hangs up, except at /whole.zip."""

    def do_GET(self) -> None:
        content, missing = (_zip(), 0) if self.path == "/whole.zip" else (_zip()[:32], 1_000_000 - 32)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) + missing))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _origins(*paths: str) -> Iterator[None]:
    """MovieLens 1M, a small one, comes from a server that breaks off, at these paths."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Breaking) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        source = sources.SOURCES["movielens-1m"]
        url = f"http://127.0.0.1:{server.server_address[1]}"
        sums = {name: checksum(content, "md5") for name, content in FILMS.items()}
        form = sources.FileSet(sums, source.forms[0].read, tuple(Archive(url + path) for path in paths))
        sources.SOURCES["movielens-1m"] = sources.Source(source.title, source.unit, (form,))
        try:
            yield
        finally:
            sources.SOURCES["movielens-1m"] = source
            server.shutdown()
            thread.join()


def _from_breaking(*paths: str) -> Callable[[Sequence[str]], Answer]:
    def run(arguments: Sequence[str]) -> Answer:
        with _origins(*paths):
            return in_process(arguments)

    return run


DOWNLOAD = "interrupted download"
MOVIES = ("data", "movielens-1m", "--out", "OUT")
INTERRUPTED = (
    Case(
        DOWNLOAD,
        "the only origin breaks off",
        asking(*MOVIES),
        "broke off after 32 of 1,000,000 bytes.*--from DIR",
        run=_from_breaking("/a.zip"),
    ),
    Case(
        DOWNLOAD,
        "every origin breaks off",
        asking(*MOVIES),
        "a.zip: the download broke off .*b.zip: the download broke off",
        run=_from_breaking("/a.zip", "/b.zip"),
    ),
    Case(
        DOWNLOAD,
        "the next origin is whole",
        lambda folder: ["data", "movielens-1m", "--out", str(folder / "out")],
        "Not from http://[0-9.:]+/a.zip: the download broke off",
        repaired=True,
        leaves=("out",),
        run=_from_breaking("/a.zip", "/whole.zip"),
        holds=lambda folder, _: facta.Dataset.open(folder / "out").num_events == 2,
    ),
)

KEYS = "wrong config key"
TRAIN = ("train", "debug/hstu", "--data", "DATASET", "--out", "OUT", "--set")
WRONG_KEYS = (
    Case(KEYS, "of training", asking(*TRAIN, "training.epoch=3"), "Unknown key 'epoch'.*valid keys: .*epochs"),
    Case(KEYS, "of the encoder", asking(*TRAIN, "model.encoder.heights=2"), "Unknown key 'heights'.*heads"),
    Case(
        KEYS,
        "a path that leads nowhere",
        asking(*TRAIN, "trainer.epochs=3"),
        "keys of the recipe: .*training",
    ),
    Case(KEYS, "a value of another type", asking(*TRAIN, "training.epochs=many"), "training.epochs.*'many'"),
    Case(KEYS, "no value", asking(*TRAIN, "training.epochs"), "expected KEY=VALUE"),
    Case(
        KEYS,
        "of the protocol",
        asking("evaluate", "ARTIFACT", "--data", "DATASET", "--set", "masks=nothing"),
        "Unknown key 'masks'.*mask",
    ),
    Case(
        KEYS,
        "a recipe that does not exist",
        asking("train", "debug/sasrek", "--data", "DATASET", "--out", "OUT"),
        "no recipe 'debug/sasrek'; debug has: .*debug/sasrec",
    ),
)

VERSIONS = "wrong artifact version"
NEWER = (
    Case(
        VERSIONS,
        "a newer artifact",
        after(lambda folder: set_format(folder / "artifact" / "checksums.json"), *RECOMMEND),
        r"format 99.*reads format \d: update facta",
    ),
    Case(
        VERSIONS,
        "a format that never was",
        after(lambda folder: set_format(folder / "artifact" / "checksums.json", 0), *RECOMMEND),
        "checksums.json' is damaged: it states no format",
    ),
    Case(
        VERSIONS,
        "a newer dataset",
        after(
            lambda folder: set_format(folder / "dataset" / "manifest.json"),
            *("evaluate", "ARTIFACT", "--data", "DATASET"),
        ),
        r"format 99, this facta reads up to \d; update facta",
    ),
    Case(
        VERSIONS,
        "an artifact that lacks a file",
        after(lambda folder: (folder / "artifact" / "config.json").unlink(), *RECOMMEND),
        "lacks config.json",
    ),
    Case(
        VERSIONS,
        "a dataset where an artifact should be",
        asking("recommend", "DATASET", "--history", "1"),
        "as --data",
    ),
    Case(
        VERSIONS,
        "a manifest that is no JSON",
        after(
            lambda folder: altered(folder / "dataset" / "manifest.json", lambda content: content[:20]),
            *("evaluate", "ARTIFACT", "--data", "DATASET"),
        ),
        "The manifest of .* cannot be read",
    ),
)

PLACES: tuple[Case, ...] = (*UNKNOWNS, *WRONG_SUMS, *LOCKED, *FULL, *INTERRUPTED, *WRONG_KEYS, *NEWER)
