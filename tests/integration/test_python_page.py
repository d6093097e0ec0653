"""docs/python.md: its blocks run, one after the other, as they stand but with recipes that train in a second."""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl
import pytest

import facta
from tests.integration.test_readme import blocks
from tests.worlds import cycle

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_the_python_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    log = cycle(items=24).with_columns(
        surface=pl.when(pl.col("item_id") % 3 == 0).then(pl.lit("home")).otherwise(pl.lit("search"))
    )
    log.write_csv("events.csv")
    genre = pl.when(pl.col("item_id") % 2 == 0).then(pl.lit("Comedy")).otherwise(pl.lit("Drama"))
    items = log.select(pl.col("item_id").unique()).with_columns(title=pl.format("item {}", "item_id"), genre=genre)
    items.write_csv("items.csv")
    found, scope = blocks(PAGE, "python"), dict[str, object]()
    for code in found:
        text = re.sub(r"own-log/", "debug/", code)
        exec(compile(text, "python.md", "exec"), scope)
    frame, part, dataset = scope["frame"], scope["part"], scope["dataset"]
    assert isinstance(frame, pl.DataFrame) and frame["title"].null_count() == 0 and frame.height == 10
    assert isinstance(part, facta.Dataset) and isinstance(dataset, facta.Dataset)
    assert 0 < part.num_events < dataset.num_events and part.items.equals(dataset.items)
