"""Hashes of values: equal for equal content, independent of library versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.data.dataset.schema import Field


def array_digest(values: npt.NDArray[Any]) -> str:
    """SHA-256 of the bytes of an array."""
    return hashlib.sha256(np.ascontiguousarray(values).reshape(-1).view(np.uint8).data).hexdigest()


_ALWAYS = ("name", "role", "kind", "dtype", "file", "undefined", "categories")
"""Settings hashed for every field. Newer settings are hashed only if set, so that older datasets keep their hash."""


def content_hash(digests: Mapping[str, str], fields: Sequence[Field], others: Sequence[Field] = ()) -> str:
    """One hash over all arrays, tables and their meaning: `fields` of events, `others` of items and users."""
    meanings = [[_said(field) for field in some] for some in (fields, others) if some or some is fields]
    text = json.dumps([sorted(digests.items()), *meanings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _said(field: Field) -> dict[str, Any]:
    return {key: value for key, value in field.model_dump().items() if key in _ALWAYS or value is not None}


def table_digest(frame: pl.DataFrame) -> str:
    """A hash of names, types and values of a table."""
    digest = hashlib.sha256()
    for column in frame:
        digest.update(f"{column.name}\0{column.dtype}\0{len(column)}\0".encode())
        digest.update(column.is_null().to_numpy().tobytes())
        for part in _bytes(column):
            digest.update(part)
    return digest.hexdigest()


def _bytes(column: pl.Series) -> Iterator[bytes]:
    if column.dtype.is_integer() and column.dtype != pl.Int128:
        yield column.fill_null(0).to_numpy().tobytes()
    elif column.dtype == pl.String:
        yield column.str.len_bytes().fill_null(0).to_numpy().tobytes()
        yield (column.str.join("").item() or "").encode()
    else:  # features of any other type: slower, and equal on every version
        yield json.dumps(column.to_list(), default=str).encode()
