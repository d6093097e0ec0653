"""Common code of `recommend` and `rank` for many users: the users, the file, the moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from facta.cli import console, histories
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.ids import clean_ids, id_from_text
from facta.data.dataset.schema import candidates
from facta.data.dataset.times import Time
from facta.data.log.events import open_events
from facta.errors import ConfigError, DataError
from facta.infer import parts
from facta.infer.artifact import Artifact


def asked(all_users: bool, users_file: Path | None, out: Path | None) -> bool:
    """Whether the options ask for lists of many users."""
    return all_users or users_file is not None or out is not None


def checked(all_users: bool, users_file: Path | None, data: Path | None, out: Path | None, **alone: Any) -> Dataset:
    """The dataset of a request for many users. Raises ConfigError for options that do not fit together."""
    given = [f"--{name}" for name, value in alone.items() if value is not None]
    if data is None or out is None or all_users == (users_file is not None) or given:
        found = f"; found {', '.join(given)} beside them" if given else ""
        raise ConfigError(
            f"The lists of many users need --data, --out, and either --all-users or --users-file{found}; leave out "
            "options of a single history."
        )
    return Dataset.open(data)


def users(file: Path | None, dataset: Dataset) -> pl.Series | None:
    """The ids of a users file; None: all users. Raises DataError."""
    return None if file is None else ids_of(file, "user", dataset.users["user_id"])


def ids_of(file: Path, what: str, known: pl.Series) -> pl.Series:
    """The ids of a text with one id a line, or of a table's column, of the type of the known ids. Raises DataError."""
    table = table_of(file, what)
    if table is None:
        return pl.Series([id_from_text(known, line, what) for line in lines_of(file)], dtype=known.dtype)
    return clean_ids(table[f"{what}_id"], what, text=is_text(file), like=known.dtype).drop_nulls()


def table_of(file: Path, *whats: str) -> pl.DataFrame | None:
    """The id columns of a table, such as user_id; None if the file is a list of ids. Raises DataError."""
    if is_text(file):
        first = next(iter(lines_of(file)), "")
        header = [name.strip(' "\ufeff') for name in first.replace("\t", ",").replace(";", ",").split(",")]
        if not all(candidates(f"{what}_id", header) for what in whats):
            return None
    log = open_events(file)
    columns = {}
    for what in whats:
        names = candidates(f"{what}_id", log.columns)
        if not names:
            return None
        columns[f"{what}_id"] = log.column(names[0])
    return pl.DataFrame(columns)


def lines_of(file: Path) -> list[str]:
    """The non-empty lines of a text. Raises DataError."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"'{file}' cannot be read ({error}); expected text, one id a line, or a table.") from error
    return [line.strip() for line in lines if line.strip()]


def is_text(file: Path) -> bool:
    """Whether ids in a file are text, in which digits may be numbers."""
    return file.suffix.lower() not in (".parquet", ".pq", ".jsonl", ".ndjson", ".gz", ".zst")


def write(
    artifact: Artifact, dataset: Dataset, out: Path, at: str | None, k: int | None,
    run: Callable[[Time | None, Any], None],
) -> Mapping[str, Any]:  # fmt: skip
    """Write the file with progress; returns the summary for `--json`.

    With `--at now` a resumed run keeps the moment of its beginning, so all lists of a file are of one moment.
    """
    moment, started = histories.moment(at), parts.started(out) or {}
    same = {"artifact": artifact.fingerprint, "dataset": dataset.content_hash, "k": k}
    if at == "now" and same.items() <= started.items() and isinstance(started.get("at"), int):
        began = datetime.fromtimestamp(started["at"] / 1000, UTC)
        console.note(f"'{out}' was begun at {began:%Y-%m-%d %H:%M} UTC; it goes on for that moment.")
        moment = began
    with console.counting("parts of the users") as progress:
        run(moment, progress)
    shown = pl.scan_parquet(out, glob=False)
    lines, people = shown.select(pl.len(), pl.col("user_id").n_unique()).collect().row(0)
    console.note(f"'{out}' holds {lines:,} lines for {people:,} users.")
    return {
        "artifact": artifact.fingerprint,
        "at": moment.isoformat() if isinstance(moment, datetime) else moment,
        "out": str(out),
        "users": people,
        "lines": lines,
    }
