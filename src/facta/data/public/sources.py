"""Public datasets by name: `get` fetches one from the first origin with intact files and prepares it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facta.arguments import silent
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.schema import SchemaConfig
from facta.data.dataset.times import Unit
from facta.data.log.events import EventLog
from facta.data.log.files import Part
from facta.data.log.prepare import prepare
from facta.data.log.repairs import Drop
from facta.data.public import amazon, kuairand, movielens
from facta.data.public.origins import Archive, Files, Origin, Place, Progress, WebFolder, Wheel
from facta.data.public.tables import Tables
from facta.errors import DownloadError

_GROUPLENS = "https://files.grouplens.org/datasets/movielens"
_ARCHIVED = f"https://web.archive.org/web/2024id_/{_GROUPLENS}"  # id_: the original bytes, without the archive's frame
_S3REC = "RUCAIBox/CIKM2020-S3Rec"

_BY_VALUES = SchemaConfig()  # nothing declared: the values tell the kinds

RECONSTRUCTED = "17.7 % of timestamps reconstructed"


@dataclass(frozen=True)
class FileSet:
    """One published form of a dataset; every form of a dataset gives the same tables."""

    files: Mapping[str, str]  # name -> checksum
    read: Callable[[Files], Tables]
    origins: tuple[Origin, ...] = ()  # none: read only from the user's own folder
    notes: tuple[str, ...] = ()  # remarks to be shown beside results


@dataclass(frozen=True)
class Source:
    """A public dataset; its forms are tried in order."""

    title: str
    unit: Unit | None  # of the timestamps
    forms: tuple[FileSet, ...]
    schema: SchemaConfig = _BY_VALUES  # what its columns mean
    drop: tuple[Drop, ...] = ()  # kinds of events to drop, on the publisher's advice


MOVIES_1M = "md5:ef9fd9ff8d1b33faf73e2122c371e910"

SOURCES: dict[str, Source] = {
    "movielens-100k": Source(
        title="MovieLens 100K (GroupLens, research use)",
        unit="s",
        schema=movielens.SCHEMA,
        forms=(
            FileSet(
                files={
                    "u.data": "md5:6e47046882bad158b0efbb84cd5cb987",
                    "u.item": "md5:c9e7f390115d79079537301d5204f3f7",
                },
                read=movielens.published_100k,
                origins=(Archive(f"{_GROUPLENS}/ml-100k.zip"),),
            ),
            FileSet(
                files={
                    "ml-100k.inter": "md5:a8a8c3f165aedc53f63b5dc0a0463b14",
                    "ml-100k.item": "md5:fb748e97e64d9a35421d06d7083d0959",
                },
                read=movielens.recbole_100k,
                origins=(Wheel("recbole==1.2.1"),),
            ),
        ),
    ),
    "movielens-1m": Source(
        title="MovieLens 1M (GroupLens, research use)",
        unit="s",
        schema=movielens.SCHEMA,
        forms=(
            FileSet(
                files={"ratings.dat": "git:77a7c4b150f588c23bb9e1f068aa996c0b413695", "movies.dat": MOVIES_1M},
                read=movielens.published_1m,
                origins=(Archive(f"{_GROUPLENS}/ml-1m.zip"), Archive(f"{_ARCHIVED}/ml-1m.zip")),
            ),
            FileSet(
                files={"ratings.csv": "md5:c59df8d4202ac7890a64ba59e043bdb1", "movies.dat": MOVIES_1M},
                read=movielens.reconstructed_1m,
                notes=(RECONSTRUCTED,),
            ),
        ),
    ),
    "amazon-beauty": Source(
        title="Amazon Beauty, 5-core 2014, S3-Rec cut (research use)",
        unit=None,
        forms=(
            FileSet(
                files={"Beauty.txt": "md5:cb03635343187f36526ed4ba48102b53"},
                read=amazon.beauty,
                origins=(
                    WebFolder(f"https://raw.githubusercontent.com/{_S3REC}/master/data"),
                    WebFolder(f"https://cdn.jsdelivr.net/gh/{_S3REC}@master/data"),
                ),
            ),
        ),
    ),
    "kuairand-pure": Source(
        title="KuaiRand-Pure, standard log of 2022-04-25 to 05-08 (Gao et al., CIKM 2022; licence CC BY-SA 4.0)",
        unit="ms",
        schema=kuairand.SCHEMA,
        drop=("duplicates",),
        forms=(
            FileSet(
                files={
                    "log_standard_4_25_to_5_08_pure.csv": "md5:b0bdaddc46e9b7346dc66667a92eb1f5",
                    "user_features_pure.csv": "md5:c7ad8218429f511868c6335970555de5",
                    "video_features_basic_pure.csv": "md5:628641f5eec078fcd9d50ce938cb8dc5",
                    "history_4_08_to_4_24.jsonl": "md5:70545036f61adae665cffaf97f0bf30b",
                },
                read=kuairand.part,
            ),
        ),
    ),
}


@dataclass(frozen=True)
class Fetched:
    """The tables of a source, their origin, and the origins that failed before, each with its reason."""

    tables: Tables
    origin: str
    notes: tuple[str, ...]
    failures: tuple[str, ...]


def get(
    name: str,
    out: str | Path,
    *,
    place: str | Path | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    failed: Callable[[str], None] | None = None,
) -> Dataset:
    """Fetch the public dataset `name`, or read it from `place` (the user's folder or file), and prepare it as `out`.

    `failed` is called for each origin that fails. Raises DownloadError for an unknown name, and with all reasons where
    no origin has intact files.
    """
    source, fetched = find(name), fetch(name, place=place, progress=progress, failed=failed)
    tables, schema = fetched.tables, source.schema
    return prepare(
        EventLog([Part(name, "frame", tables.events.lazy())], (name, fetched.origin), fetched.notes),
        out,
        items=tables.items,
        users=tables.users,
        fields=schema.fields,
        item_fields=schema.items,
        user_fields=schema.users,
        unit=source.unit,
        drop=source.drop,
        overwrite=overwrite,
    )


def fetch(
    name: str,
    *,
    place: str | Path | None = None,
    progress: Progress | None = None,
    failed: Callable[[str], None] | None = None,
) -> Fetched:
    """The tables of `name` from the first origin with intact files; `failed` is called at once for the others."""
    source, failures = find(name), []
    for form, origin in _tries(source, place):
        try:
            files = origin.files(form.files, progress or silent)
        except DownloadError as error:
            failures.append(f"{origin.label}: {error}")
            if failed is not None and place is None:
                failed(failures[-1])
        else:
            return Fetched(form.read(files), origin.label, form.notes, tuple(failures))
    raise DownloadError(_nowhere(name, source, failures, place))


def find(name: str) -> Source:
    if name not in SOURCES:
        raise DownloadError(f"There is no public dataset '{name}'; there are: {', '.join(SOURCES)}.")
    return SOURCES[name]


def _tries(source: Source, place: str | Path | None) -> Sequence[tuple[FileSet, Origin]]:
    if place is not None:
        return [(form, Place(Path(place))) for form in source.forms]
    return [(form, origin) for form in source.forms for origin in form.origins]


def _nowhere(name: str, source: Source, failures: Sequence[str], place: str | Path | None) -> str:
    wanted = " or ".join("+".join(form.files) for form in source.forms)
    tried = "; ".join(failures)
    if place is not None:
        return f"'{place}' does not hold {source.title} ({tried}); expected {wanted}, plain, gzipped or in a zip."
    advice = f"get {wanted} yourself and give the folder: facta data {name} --from DIR"
    said = f"No origin could provide {source.title} ({tried})" if failures else f"{source.title} has no origin here"
    return f"{said}; {advice}."
