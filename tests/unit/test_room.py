"""What preparing is said to take: told from sizes and footers, and never less than what it takes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from facta.data.log import resources as room
from facta.data.log.prepare import prepare

START = 1_700_000_000


def test_text_files_are_counted_from_their_size(tmp_path: Path) -> None:
    log = pl.DataFrame({"user_id": range(20_000), "item_id": range(20_000)})
    log.write_csv(tmp_path / "log.csv")
    told: list[str] = []
    prepare(tmp_path / "log.csv", tmp_path / "log", progress=lambda text, _: told.append(text))
    events = int(next(text for text in told if text.startswith("about")).split()[1].replace(",", ""))
    assert events == pytest.approx(20_000, rel=0.3)


MEMORY = """
import sys
from facta.data.log import prepare as module
from facta.hardware import memory_peak
rooms = []
module.check_resources = lambda room, out: rooms.append(room)
before = memory_peak()
module.prepare(sys.argv[1], sys.argv[2], drop=sys.argv[3:])
print(memory_peak() - before, rooms[0].memory)
"""


@pytest.mark.parametrize("drop", [[], ["invalid"], ["duplicates", "invalid"]], ids=" ".join)
@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_no_more_memory_is_taken_than_projected(tmp_path: Path, kind: str, drop: list[str]) -> None:
    """One million events, one column of which is left out; dropping takes several times what is kept."""
    rng = np.random.default_rng(0)
    events = 1_000_000
    log = pl.DataFrame(
        {
            "user_id": rng.integers(0, 2**62, 20_000)[rng.integers(0, 20_000, events)],
            "item_id": rng.integers(0, 10_000, events),
            "timestamp": rng.integers(START, START + 10**7, events),
            "like": rng.integers(0, 2, events, dtype=np.int8),
            "page": pl.Series(rng.integers(0, 10**6, events)).cast(pl.String),
        }
    )
    getattr(log, f"write_{kind}")(tmp_path / f"log.{kind}")
    command = [sys.executable, "-c", MEMORY, tmp_path / f"log.{kind}", tmp_path / "log", *drop]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    taken, projected = map(int, run.stdout.split())
    assert taken <= projected
    if kind == "parquet" and not drop:
        assert taken / events <= 1.5 * room.EVENT_BYTES  # far below the 100 bytes an event that are promised
