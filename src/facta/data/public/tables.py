"""What a public dataset is once its files are read: tables, whatever form they were written in."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl


class Tables(NamedTuple):
    """In the input format of `prepare`."""

    events: pl.DataFrame  # in the publisher's order, which breaks ties in time
    items: pl.DataFrame
    users: pl.DataFrame | None = None
