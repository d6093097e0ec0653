"""A simulated log on disk: what the simulator drew, prepared by its own schema, and never half of one."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import polars as pl
import pytest
from pyarrow import parquet

from facta.cli.prepare import schema_of
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.codes import codes
from facta.data.log.prepare import prepare
from facta.data.synthetic import simulator
from facta.data.synthetic.simulate import write
from facta.data.synthetic.simulator import SimulatorConfig, World
from facta.errors import DataError, ResourceError

SMALL = SimulatorConfig(users=250, items=60, events_per_user=12)


def drawn(users: int) -> pl.DataFrame:
    world = World(SMALL)
    parts = [simulator.frame(world, first, part) for first, part in simulator.chunks(world, 3, users)]
    return pl.concat([part.with_columns(pl.col("surface").cast(pl.String)) for part in parts])


def test_the_file_holds_what_was_drawn_a_chunk_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulator, "CHUNK_USERS", 100)
    told: list[tuple[int, int]] = []
    events = write(World(SMALL), tmp_path / "a", seed=3, progress=lambda done, users: told.append((done, users)))
    log = pl.read_parquet(tmp_path / "a" / "events.parquet")
    assert log.equals(drawn(250)) and events == log.height
    assert told == [(100, 250), (200, 250), (250, 250)]
    assert parquet.ParquetFile(tmp_path / "a" / "events.parquet").num_row_groups == 3
    assert pl.read_parquet(tmp_path / "a" / "items.parquet").equals(World(SMALL).items())
    write(World(SMALL), tmp_path / "b", seed=3, users=100)
    assert pl.read_parquet(tmp_path / "b" / "events.parquet").equals(drawn(250).filter(pl.col("user_id") < 100))
    assert not list(tmp_path.glob(".*"))


def test_what_was_written_tells_the_world_that_it_is_of(tmp_path: Path) -> None:
    write(World(SMALL), tmp_path / "a", seed=3)
    made = json.loads((tmp_path / "a" / "world.json").read_text())
    assert SimulatorConfig.parse(made["world"]) == SMALL and (made["users"], made["seed"]) == (250, 3)


def test_its_schema_prepares_it(tmp_path: Path) -> None:
    write(World(SMALL), tmp_path / "a", seed=3)
    schema = schema_of(tmp_path / "a" / "schema.json")
    dataset = prepare(
        tmp_path / "a" / "events.parquet",
        tmp_path / "log",
        items=tmp_path / "a" / "items.parquet",
        fields=schema.fields,
        item_fields=schema.items,
    )
    fields = {field.name: field for field in dataset.manifest.fields}
    assert {name: (field.role, field.kind, field.positives) for name, field in fields.items()} == {
        "surface": ("context", "categorical", ()),
        "click": ("feedback", "binary", (2,)),
        "long_view": ("feedback", "binary", (2,)),
        "rating": ("feedback", "ordinal", (4, 5)),
    }
    log = drawn(250)  # users in order, and each one's events in order of time
    assert (codes(fields["long_view"], dataset.fields["long_view"]) == 1 + log["long_view"].to_numpy()).all()
    assert (codes(fields["rating"], dataset.fields["rating"]) == log["rating"].fill_null(0).to_numpy()).all()
    features = Catalogue.of(dataset).features
    world = World(SMALL)
    assert [features[name].field.kind for name in ("category", "duration")] == ["categorical"] * 2
    names = features["category"].field.categories or ()
    assert [int(names[code - 1]) for code in features["category"].values] == world.category.tolist()


@pytest.mark.parametrize("room", [100, 10_000])  # of a file: for the log, the items
def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path: Path, room: int) -> None:
    """A limit on file size is the nearest to a full disk that needs no rights."""
    world = World(SMALL.change(users=2, items=3000))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(ResourceError, match=r"Cannot write .*File too large"):
            write(world, tmp_path / "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.iterdir())
    write(world, tmp_path / "a")
    assert [(tmp_path / "a" / f"{name}.parquet").stat().st_size > 10_000 for name in ("events", "items")] == [
        False,
        True,
    ]


def test_what_lies_there_is_kept_and_nothing_half_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(DataError, match="exists already; choose another place"):
        write(World(SMALL), tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert write(World(SMALL), tmp_path / "empty") > 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(World(SMALL), tmp_path / "no", progress=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]
