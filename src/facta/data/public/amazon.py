"""Amazon Beauty, 5-core of 2014, as published with S3-Rec (Zhou et al., CIKM 2020): it has an order of events but no
times.

The reviews were collected by McAuley et al. (SIGIR 2015); research use. One line a user: user id, then item ids, oldest
first.
"""

from __future__ import annotations

import polars as pl

from facta.data.public.origins import Files
from facta.data.public.tables import Tables


def beauty(files: Files) -> Tables:
    """Beauty.txt -> events without timestamps, and the ids of all items."""
    lines = [line.split() for line in files["Beauty.txt"].decode().splitlines()]
    users = pl.DataFrame({"user_id": [line[0] for line in lines], "item_id": [line[1:] for line in lines]})
    events = users.explode("item_id").cast(pl.Int64)
    return Tables(events, events.select("item_id").unique().sort("item_id"))
