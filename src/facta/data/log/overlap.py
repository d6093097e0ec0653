"""Events that several files of one log have: they would count twice.

Letters: n events of a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from facta.data.log.events import EventLog
from facta.data.log.files import Part
from facta.errors import DataError

_SAMPLE_EVENTS = 1_000_000  # more events are sampled by their hash, so that equal ones are sampled together
_MOST_SHARE = 0.1  # share of a file's events in other files; a larger share is refused


def refuse_overlap(log: EventLog, mapping: Mapping[str, str], needed: Sequence[str]) -> list[str]:
    """Raise DataError if a file repeats events of another one; notes on a few repeated events.

    Events are equal if all `needed` columns are. Without times a repetition cannot be told from a copy. A log that also
    repeats events within files, as with coarse times, is not refused.
    """
    if len(log.parts) < 2 or "timestamp" not in mapping:
        return []
    every = max(1, log.num_events() // _SAMPLE_EVENTS)
    if not _shared(log, list(mapping.values()), every)[0].any():  # the usual case: three columns are enough
        return []
    shared, sizes, repeated = _shared(log, list(needed), every)
    share = shared / np.maximum(1, sizes)
    worst = int(share.argmax())
    if share[worst] > max(_MOST_SHARE, 2 * repeated):
        raise DataError(
            f"{share[worst]:.0%} of the events of '{log.parts[worst].name}' are in another file of the log, too, and "
            "would count twice; give each event once, or drop the copies with drop=('duplicates',) (--drop duplicates)."
        )
    if not shared.any():
        return []
    about = "" if every == 1 else "about "
    return [
        f"{about}{shared.sum() * every / 2:,.0f} events are in two files and count twice, most of them in "
        f"'{log.parts[worst].name}'; --drop duplicates drops the copies."
    ]


def _shared(
    log: EventLog, columns: Sequence[str], every: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], float]:
    """For each file: its distinct events that other files have too, all its distinct events; and the share of
    repetitions within files.
    """
    hashes = [_hashes(part, columns, every) for part in log.parts]
    distinct = [np.unique(part) for part in hashes]
    sizes = np.array([len(part) for part in distinct])
    values, times = np.unique(np.concatenate(distinct), return_counts=True)
    several = values[times > 1]
    shared = np.array([int(np.isin(part, several, assume_unique=True).sum()) for part in distinct])
    total = sum(len(part) for part in hashes)
    return shared, sizes, 1 - sizes.sum() / max(1, total)


def _hashes(part: Part, columns: Sequence[str], every: int) -> npt.NDArray[np.uint64]:
    """A hash of each event of a file, or of one in `every`."""
    frame = part.load(columns)
    alike = frame.select(
        column.cast(pl.Int64, strict=False) if column.dtype.is_integer() else column.cast(pl.String) for column in frame
    )
    found = alike.hash_rows(seed=0)
    sampled: npt.NDArray[np.uint64] = found.filter(found % every == 0).to_numpy()
    return sampled
