"""Writing the parts of a dataset into a folder, each with the digest of its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta import durable
from facta.data.dataset.dataset import Manifest, array_file
from facta.data.dataset.digests import array_digest, table_digest
from facta.errors import DataError


class DatasetWriter:
    """Writes arrays and tables, then the manifest; `folder` is a draft that is renamed when all files are there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digests: dict[str, str] = {}

    def array(self, name: str, values: npt.NDArray[Any]) -> None:
        """`array_file`, without a copy of the values."""
        values = np.ascontiguousarray(values)
        self.digests[name] = array_digest(values)
        place = self.folder / array_file(name)
        place.parent.mkdir(exist_ok=True)
        with place.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(values))
            stream.write(values.data)

    def read(self, name: str) -> npt.NDArray[Any]:
        """An array that `array` wrote, memory-mapped."""
        values: npt.NDArray[Any] = np.load(self.folder / array_file(name), mmap_mode="r")
        return values

    def table(self, name: str, frame: pl.DataFrame) -> None:
        """<name>.parquet; its digest is of the values, not of the file, which depends on the version of polars."""
        self.digests[name] = table_digest(frame)
        durable.save_table(self.folder / f"{name}.parquet", frame)

    def manifest(self, manifest: Manifest) -> None:
        """manifest.json, the last."""
        (self.folder / "manifest.json").write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")


def check_overwrite(out: Path, *, overwrite: bool) -> None:
    """Raise DataError unless `out` is free, an empty folder, or a dataset of ours that may be replaced."""
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
