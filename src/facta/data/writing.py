"""Writing a dataset so that it exists whole or not at all: in a folder beside, flushed to disk, renamed into place."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.data.digests import array_digest, table_digest
from facta.data.histories import Manifest
from facta.errors import DataError, ResourceError

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST)


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn what a disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise ResourceError(
                f"The disk is full at '{place}'; nothing was kept: free some space, or write elsewhere."
            ) from error
        if error.errno in _FORBIDDEN:
            raise ResourceError(
                f"'{place}' cannot be written ({os.strerror(error.errno or 0)}); choose a folder that can be."
            ) from error
        raise ResourceError(f"Writing '{place}' failed ({error}); nothing was kept.") from error


class DatasetWriter:
    """`with DatasetWriter(out) as writer:` arrays and tables, then `commit`. Left without a commit, nothing remains."""

    def __init__(self, out: Path, *, overwrite: bool = False) -> None:
        self.out = out
        self.digests: dict[str, str] = {}
        _refuse_loss(out, overwrite)
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            self.beside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
            self.beside.chmod(0o755)
            (self.beside / "histories").mkdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.beside, ignore_errors=True)  # after a commit it is no longer there

    def array(self, name: str, values: npt.NDArray[Any]) -> None:
        """histories/<name>.npy, without a copy of the values."""
        values = np.ascontiguousarray(values)
        self.digests[name] = array_digest(values)
        with writing(self.out), (self.beside / "histories" / f"{name}.npy").open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(values))
            stream.write(values.data)
            _flush(stream.fileno())

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """<name>.parquet; its digest is of the values, not of how this version of polars lays them out."""
        self.digests[name] = table_digest(frame)
        with writing(self.out), (self.beside / f"{name}.parquet").open("wb") as stream:
            frame.write_parquet(stream)
            stream.flush()
            _flush(stream.fileno())

    def commit(self, manifest: Manifest) -> None:
        """Write the manifest, make all of it durable, and give the folder its name."""
        with writing(self.out):
            with (self.beside / "manifest.json").open("w", encoding="utf-8") as stream:
                stream.write(manifest.model_dump_json(indent=2) + "\n")
                stream.flush()
                _flush(stream.fileno())
            _flush_folder(self.beside / "histories")
            _flush_folder(self.beside)
            self._take_the_name()
            _flush_folder(self.out.parent)

    def _take_the_name(self) -> None:
        """Rename into place; what was there before is removed only when the new dataset stands."""
        if not self.out.exists():
            self.beside.rename(self.out)
            return
        old = self.beside.with_suffix(".replaced")
        self.out.rename(old)
        try:
            self.beside.rename(self.out)
        except OSError:
            if not self.out.exists():
                old.rename(self.out)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)


def _refuse_loss(out: Path, overwrite: bool) -> None:
    """Only a dataset of ours, or an empty folder, is ever replaced, and the former only on demand."""
    if not (out.exists() or out.is_symlink()):
        return
    if out.is_dir() and not out.is_symlink() and not any(out.iterdir()):
        return
    if not (out / "manifest.json").exists() or out.is_symlink():
        raise DataError(f"'{out}' exists and is no prepared dataset; choose another place, it will not be touched.")
    if not overwrite:
        raise DataError(
            f"'{out}' exists already; choose another place, or replace it with overwrite=True (--overwrite)."
        )


def _flush(descriptor: int) -> None:
    os.fsync(descriptor)


def _flush_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
