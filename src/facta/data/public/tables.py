"""The tables of a public dataset after its files are read, independent of their form."""

from __future__ import annotations

from typing import NamedTuple

import polars as pl


class Tables(NamedTuple):
    """In the input format of `prepare`."""

    events: pl.DataFrame  # in the publisher's order, which breaks ties in time
    items: pl.DataFrame
    users: pl.DataFrame | None = None
