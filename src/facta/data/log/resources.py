"""Memory and disk that preparing will need, estimated first and refused if they do not suffice."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from facta.data.log.events import EventLog
from facta.data.log.files import line_bytes
from facta.data.log.repairs import Drop
from facta.errors import ResourceError
from facta.hardware import disk_free, human, memory_free

_BASE_BYTES = 200 << 20  # for any log: buffers of polars and chunks of the file, measured 100 to 200 MB
EVENT_BYTES = 60  # measured peak per event: user row, time, order, a sort key and its sorted copy, a column
TEXT_BYTES = 40  # more per event and text id, while its column becomes rows
_CLEANED_BYTES = 24  # per event and column, if invalid events are dropped: the log and its cleaned copy
_LINE_BYTES = 100  # more per line of a pivoted log: pair, time, action and row, sorted, and its first lines
_DISTINCT_BYTES = 40  # per event and column, if duplicates are dropped: one copy more and a hash table
_UNZIP_RATIO = 5  # rough ratio of a .gz file's content to its size


@dataclass(frozen=True)
class Room:
    """The memory and disk that preparing needs, and those that are free."""

    events: int  # counted, or estimated from the size of text files
    memory: int
    disk: int
    memory_free: int | None
    disk_free: int

    def __str__(self) -> str:
        free = "unknown" if self.memory_free is None else human(self.memory_free)
        return f"about {self.events:,} events: {human(self.memory)} of memory needed, {free} free"


def estimate_resources(
    log: EventLog, columns: Iterable[str], out: Path, *, drop: Collection[Drop], pivot: bool = False, part: bool = False
) -> Room:
    """Bound memory and disk before anything is read. Text files are held in memory; Parquet only to `drop` events,
    to `pivot` lines, or to prepare a `part` of the log.

    The bound holds for texts of about ten letters: the lengths of Parquet texts are unknown before they are read.
    """
    columns = list(columns)
    held, events = _held(log)
    dropping = _DISTINCT_BYTES if "duplicates" in drop else _CLEANED_BYTES if drop or pivot or part else 0
    read = log.columns if "duplicates" in drop else columns
    texts = sum(log.types[name] == pl.String for name in read)
    event = EVENT_BYTES + TEXT_BYTES * texts + dropping * len(log.columns) + (_LINE_BYTES if pivot else 0)
    memory = _BASE_BYTES + held + events * event
    return Room(events, memory, events * 8 * len(columns), memory_free(), disk_free(out))


def check_resources(room: Room, out: Path) -> None:
    """Raise ResourceError if memory or disk would not suffice."""
    if room.memory_free is not None and room.memory > room.memory_free:
        raise ResourceError(
            f"Preparing {room.events:,} events needs about {human(room.memory)} of memory, "
            f"{human(room.memory_free)} is free; "
            f"close other programs, prepare fewer events, or give them as Parquet, which is read column by column."
        )
    if room.disk > room.disk_free:
        raise ResourceError(
            f"The dataset needs up to {human(room.disk)} at '{out}', {human(room.disk_free)} is free; write elsewhere."
        )


def _held(log: EventLog) -> tuple[int, int]:
    """(bytes of text that will be held, events)."""
    files = [Path(part.name) for part in log.parts if part.kind in ("CSV", "JSON-lines")]
    if not files:
        return 0, log.num_events()
    size = sum(file.stat().st_size * (_UNZIP_RATIO if file.name.lower().endswith(".gz") else 1) for file in files)
    return size, int(size / line_bytes(files[0]))
