"""A Parquet file that is made part by part: a run that was stopped goes on with the parts that are missing.

    top.parquet.parts/     beside the file, while it is made
      identity.json        what the file is of; parts of anything else are thrown away
      00000.parquet …      the finished parts, each written beside its place and renamed

When all parts are there, they are copied into one file, a row group for each, and the folder is removed. A part is a
function of its number alone, so the file is the same however often the run was stopped.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl

from facta import durable
from facta.errors import ConfigError, ResourceError

Progress = Callable[[int, int], None]
"""Called with (parts done, parts in all)."""


def folder_of(out: Path) -> Path:
    """Where the finished parts of a file wait."""
    return out.with_name(f"{out.name}.parts")


def started(out: Path) -> Mapping[str, Any] | None:
    """What an unfinished run at `out` is of; None where there is none."""
    try:
        found = json.loads((folder_of(out) / "identity.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def check_overwrite(out: Path, *, overwrite: bool) -> None:
    """Raises ConfigError where something lies at `out` that may not be replaced."""
    if out.is_dir() or (out.exists() and not overwrite):
        hint = "choose another place" if out.is_dir() else "choose another place, or replace it (--overwrite)"
        raise ConfigError(f"'{out}' exists already; {hint}.")


def write(
    out: Path, identity: Mapping[str, Any], count: int, make: Callable[[int], pl.DataFrame], *, overwrite: bool,
    progress: Progress | None = None,
) -> None:  # fmt: skip
    """Make parts 0 … count - 1 (at least one) and join them at `out`.

    `identity`: plain values that say what the file is of. Raises ConfigError where `out` is taken, ResourceError where
    it cannot be written or another process is writing it.
    """
    check_overwrite(out, overwrite=overwrite)
    folder = folder_of(out)
    with _held(folder):
        if started(out) != identity:
            _empty(folder)
            durable.file(folder / "identity.json", json.dumps(identity).encode())
        for number in range(count):
            if not _place(folder, number).is_file():
                with durable.renamed(folder / "draft", _place(folder, number)) as draft:
                    durable.save_table(draft, make(number))
            if progress is not None:
                progress(number + 1, count)
        _join([_place(folder, number) for number in range(count)], folder / "draft", out)
        shutil.rmtree(folder, ignore_errors=True)


def _place(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.parquet"


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The folder, made where it is missing, for this process alone; the lock ends with the process, however it ends."""
    with durable.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("ab")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ResourceError(
                f"Another process is writing '{folder.name.removesuffix('.parts')}' (its parts lie in '{folder}'); "
                "wait for it, or choose another place."
            ) from error
        except OSError:  # a file system without locks
            pass
        yield


def _empty(folder: Path) -> None:
    """Remove the parts of another run; what no run wrote stays. The identity goes first: a part needs one."""
    for path in (folder / "identity.json", *folder.glob("*.parquet")):
        with durable.writing(path):
            path.unlink(missing_ok=True)


def _join(parts: list[Path], draft: Path, out: Path) -> None:
    """One file of all parts; one part at a time is in memory."""
    from pyarrow import parquet

    schema = parquet.read_schema(parts[0])
    with durable.renamed(draft, out), parquet.ParquetWriter(draft, schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(parquet.read_table(part))
