"""From an event log to a prepared dataset."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from facta.data.histories import Dataset, Manifest
from facta.data.ids import Ids, new_rows
from facta.data.schema import Field, recognise
from facta.errors import DataError

_MS = {"s": 1000.0, "ms": 1.0, "us": 1e-3, "ns": 1e-6}


def _frame(source: Any) -> pl.DataFrame:
    if isinstance(source, (str, Path)):
        path = Path(source)
        return pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    return source if isinstance(source, pl.DataFrame) else pl.DataFrame(source)


def prepare(
    source: Any,
    out: str | Path,
    *,
    items: Any = None,
    columns: Mapping[str, str] | None = None,
    unit: str | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Write the dataset directory `out` from `source` and open it."""
    frame, out = _frame(source), Path(out)
    mapping = recognise(frame.columns, columns)
    table = None if items is None else _frame(items)
    if table is not None:
        table = table.rename({recognise([*table.columns, "user_id"])["item_id"]: "item_id"})
    item_ids = new_rows(
        pl.concat([frame[mapping["item_id"]].alias("item_id"), *([] if table is None else [table["item_id"]])])
    )
    user_ids = new_rows(frame[mapping["user_id"]].alias("user_id"))
    user = Ids(user_ids, "user").rows(frame[mapping["user_id"]])
    item = Ids(item_ids, "item").rows(frame[mapping["item_id"]])
    time = None
    if "timestamp" in mapping:
        time = (frame[mapping["timestamp"]].to_numpy() * _MS[unit or "s"]).astype(np.int64)
    order = np.argsort(user, kind="stable") if time is None else np.lexsort((time, user))
    arrays = {"offsets": np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(user_ids)))]).astype(np.int64)}
    arrays["item"] = item[order].astype(np.int32)
    if time is not None:
        arrays["timestamp"] = time[order]
    fields = []
    for name in frame.columns:
        if name not in mapping.values() and frame[name].dtype.is_numeric():
            values = frame[name].shrink_dtype().to_numpy()[order]
            arrays[f"field-{name}"] = values
            fields.append(Field(name=name, dtype=str(values.dtype)))
    if out.exists():
        if not overwrite:
            raise DataError(f"'{out}' exists; pass overwrite=True (--force) to replace it.")
        shutil.rmtree(out)
    (out / "histories").mkdir(parents=True)
    digest = hashlib.sha256()
    for name, values in arrays.items():
        np.save(out / "histories" / f"{name}.npy", values)
        digest.update(np.ascontiguousarray(values).data)
    items_table = pl.DataFrame({"row": np.arange(len(item_ids)), "item_id": item_ids})
    if table is not None:
        items_table = items_table.join(table, on="item_id", how="left", maintain_order="left")
    items_table.write_parquet(out / "items.parquet")
    pl.DataFrame({"row": np.arange(len(user_ids)), "user_id": user_ids}).write_parquet(out / "users.parquet")
    manifest = Manifest(
        users=len(user_ids), items=len(item_ids), events=len(item), has_time=time is not None, fields=tuple(fields),
        order="user, timestamp, input row", tied_share=0.0, content_hash=digest.hexdigest(), columns=mapping,
    )  # fmt: skip
    (out / "manifest.json").write_text(manifest.model_dump_json(indent=2))
    return Dataset.open(out)
