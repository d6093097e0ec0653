"""Tiny worlds whose right answer is known by construction, as event frames and as ready batches."""

from __future__ import annotations

import numpy as np
import polars as pl
import torch

from facta import draws, jagged
from facta.types import Events, SequenceBatch, Targets

DAY = 86_400_000  # milliseconds


def cycle(users: int = 48, items: int = 12, length: int = 10) -> pl.DataFrame:
    """After item i comes item i + 1, and 0 after the last: the newest event tells the next item."""
    user, place = np.divmod(np.arange(users * length), length)
    return _frame(user, (user * 5 + place) % items, place)


def copy_last(users: int = 48, items: int = 12, length: int = 10) -> pl.DataFrame:
    """Everyone repeats one item for ever: the next item is the last one."""
    user, place = np.divmod(np.arange(users * length), length)
    return _frame(user, user % items, place)


def pairs(users: int = 96, items: int = 12, length: int = 10, seed: int = 0) -> pl.DataFrame:
    """A random item of the first half, then its partner of the second half, and so on; every second person begins with
    a partner. An opening is told by the event behind it alone, a partner by the one before it. Who only looks back is
    right about every second event, and about the last one of those who began with an opening."""
    rng = np.random.default_rng(seed)
    user, place = np.divmod(np.arange(users * (length + 1)), length + 1)
    item = rng.integers(0, items // 2, users * (length + 1)).reshape(users, length + 1)
    item[:, 1::2] = item[:, :length:2] + items // 2
    kept = (place >= user % 2) & (place < length + user % 2)
    return _frame(user[kept], item.flatten()[kept], (place - user % 2)[kept])


def checkerboard(users: int = 160, items: int = 12, seed: int = 0) -> pl.DataFrame:
    """Everyone takes all items of one colour (parity) in random order: with the history masked, the only right
    recommendation before the last event is the one item of that colour that is left."""
    rng = np.random.default_rng(seed)
    rows = [rng.permutation(np.arange(u % 2, items, 2)) for u in range(users)]
    user, place = np.divmod(np.arange(users * items // 2), items // 2)
    return _frame(user, np.concatenate(rows), place)


def _frame(user: np.ndarray, item: np.ndarray, place: np.ndarray) -> pl.DataFrame:
    time = 1_600_000_000_000 + place * DAY + user * 1000
    return pl.DataFrame({"user_id": user, "item_id": item.astype(np.int64), "timestamp": time})


def batch_of(items: list[list[int]], times: list[list[int]] | None = None, *, first_user: int = 0) -> SequenceBatch:
    """Rows of events as a training batch: all but the newest event of a row are inputs, all but the oldest are targets.

    Keys are functions of (user, place), user = first_user + row.
    """
    length = torch.tensor([max(len(row) - 1, 0) for row in items])
    offsets = jagged.offsets_of(length)
    index = jagged.places(offsets)
    user = jagged.rows(offsets) + first_user
    slot = index + 1
    slot[offsets[1:][length > 0] - 1] = -1

    def column(rows: list[list[int]], start: int) -> torch.Tensor:
        return torch.tensor([x for row in rows for x in (row[1:] if start else row[:-1])], dtype=torch.int64)

    def events(start: int) -> Events:
        time = None if times is None else column(times, start)
        return Events(column(items, start), time, draws.mix(draws.mix(user, start), index))

    return SequenceBatch(
        offsets=offsets,
        events=events(0),
        index=index,
        next_time=None if times is None else column(times, 1),
        targets=Targets(offsets, events(1), num_visible=index + 1, input_index=slot, weight=torch.ones(len(index))),
    )


def random_rows(
    rng: np.random.Generator, rows: int, longest: int, items: int, shortest: int = 2
) -> tuple[list[list[int]], list[list[int]]]:
    """Random histories and ascending times with ties."""
    length = rng.integers(shortest, longest + 1, rows)
    names = [rng.integers(0, items, n).tolist() for n in length]
    gaps = [np.where(rng.random(n) < 0.3, 0, 10 ** rng.uniform(3, 9, n)).astype(np.int64) for n in length]
    return names, [(1_600_000_000_000 + np.cumsum(gap)).tolist() for gap in gaps]


def colours(users: int = 150, items: int = 12, length: int = 24, seed: int = 0) -> pl.DataFrame:
    """Everyone is shown random items and clicks on nine in ten of one colour (parity), one in ten of the other: the
    history tells which. The best prediction has an NE of .469; without history nothing can be told."""
    rng = np.random.default_rng(seed)
    user, place = np.divmod(np.arange(users * length), length)
    item = rng.integers(0, items, users * length)
    click = rng.random(users * length) < np.where(item % 2 == user % 2, 0.9, 0.1)
    facts = {"click": click.astype(np.int8), "tab": rng.integers(0, 2, users * length)}
    return _frame(user, item, place).with_columns(**{name: pl.Series(value) for name, value in facts.items()})


def surfaces(users: int = 96, surfaces: int = 6, length: int = 10, seed: int = 0) -> pl.DataFrame:
    """Everyone takes items of one colour (parity), on random surfaces; each surface has one item of either colour. Who
    knows the surface of an event knows its item, who does not has a chance of 1 in `surfaces`."""
    rng = np.random.default_rng(seed)
    user, place = np.divmod(np.arange(users * length), length)
    surface = rng.integers(0, surfaces, users * length)
    frame = _frame(user, 2 * surface + user % 2, place)
    return frame.with_columns(surface=pl.Series([f"s{one}" for one in surface]))
