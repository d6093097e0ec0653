"""Ids to rows and back, exactly; rows depend on the set of ids, and never change their meaning."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facta.data.dataset.ids import Ids, all_rows, clean_ids
from facta.errors import DataError

INT64 = st.integers(-(2**63), 2**63 - 1)
UINT64 = st.integers(0, 2**64 - 1)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1)


@given(st.one_of(st.lists(INT64, min_size=1), st.lists(UINT64, min_size=1), st.lists(TEXT, min_size=1)))
def test_every_id_comes_back_as_it_was(values: list[int] | list[str]) -> None:
    if isinstance(values[0], int):
        kind = pl.Int64() if max(values) < 2**63 else pl.UInt64()
    else:
        kind = pl.String()
    if kind == pl.UInt64 and min(values) < 0:
        return
    ids = clean_ids(pl.Series("id", values, dtype=kind), "user")
    table = Ids(all_rows(ids), "user")
    rows = table.rows(values)
    assert table.ids.gather(rows).to_list() == values
    assert table.rows_known(ids).tolist() == rows.tolist()
    expected = sorted(set(values), key=lambda value: value.encode() if isinstance(value, str) else value)
    assert table.ids.to_list() == expected


@given(st.lists(st.integers(0, 50), min_size=1), st.lists(st.integers(0, 50), min_size=1))
def test_rows_are_append_only(first: list[int], then: list[int]) -> None:
    known = all_rows(pl.Series(first))
    after = all_rows(pl.Series(then), known)
    assert after.head(len(known)).to_list() == known.to_list()
    assert set(after.to_list()) == set(first) | set(then)
    assert after.n_unique() == len(after)


def test_text_files_keep_their_digits() -> None:
    def read(*values: str | None) -> pl.Series:
        return clean_ids(pl.Series("id", values, dtype=pl.String), "item", text=True)

    assert read("1", "20", "-3").to_list() == [1, 20, -3]
    assert read("007", "12").to_list() == ["007", "12"]
    assert read(str(2**63), "1").dtype == pl.UInt64
    assert read(str(2**64), "1").to_list() == [str(2**64), "1"]
    assert read("3.0", "4.0").to_list() == [3, 4]
    assert read("3.0", "4.5").to_list() == ["3.0", "4.5"]
    assert read("1", "", None).to_list() == [1, None, None]
    assert read("+1", "1e5").dtype == pl.String


def test_one_number_written_two_ways_is_one_id() -> None:
    """A table with gaps writes 1.0 where another writes 1; two files of one log may do either."""

    def read(*values: str | None) -> list[object]:
        return clean_ids(pl.Series("id", values, dtype=pl.String), "user", text=True).to_list()

    assert read("1", "1.0", "2.0") == [1, 1, 2]
    assert read("-0", "0", "-0.0") == [0, 0, 0]
    assert read("-0", "0", str(2**64), "1.0") == ["0", "0", str(2**64), "1"]
    assert read("1", "1.0", "x") == ["1", "1.0", "x"]  # text is kept to the letter
    assert read("1", "007.0", "1.0.0") == ["1", "007.0", "1.0.0"]


def test_what_stands_for_nothing_beside_numbers_is_missing() -> None:
    def read(*values: str | None) -> list[object]:
        return clean_ids(pl.Series("id", values, dtype=pl.String), "user", text=True).to_list()

    for nothing in ("NaN", "nan", "NA", "N/A", "null", "NULL", "None", "<NA>"):
        assert read("1", nothing, "2.0") == [1, None, 2], nothing
        assert read("DE", nothing, "1") == ["DE", nothing, "1"]  # NA is Namibia
    assert read("nan", "nan") == [None, None]


def test_text_of_other_files_stays_text() -> None:
    assert clean_ids(pl.Series("id", ["1", "2"]), "item").dtype == pl.String
    assert clean_ids(pl.Series("id", ["1", "2"]), "item", text=True, like=pl.String()).dtype == pl.String
    assert clean_ids(pl.Series("id", ["b", "a"], dtype=pl.Categorical), "item").to_list() == ["b", "a"]


def test_floats_are_ids_only_where_nothing_can_be_lost() -> None:
    assert clean_ids(pl.Series("id", [1.0, 2.0, float("nan")]), "user").to_list() == [1, 2, None]
    for value in (1.5, 2.0**53, float("inf")):
        with pytest.raises(DataError, match=r"'id' has user ids as Float64.*write them as whole numbers or text"):
            clean_ids(pl.Series("id", [1.0, value]), "user")


@pytest.mark.parametrize(("kind", "digits"), [(pl.Float16, 11), (pl.Float32, 24), (pl.Float64, 53)])
def test_narrow_floats_lose_digits_earlier(kind: type[pl.DataType], digits: int) -> None:
    assert clean_ids(pl.Series("id", [2.0**digits - 1], dtype=kind), "user").to_list() == [2**digits - 1]
    for value in (2.0**digits, -(2.0**digits)):
        with pytest.raises(DataError, match=rf"'id' has user ids as {kind.__name__}, such as .*may have lost digits"):
            clean_ids(pl.Series("id", [1.0, value], dtype=kind), "user")


def test_decimals_are_ids_where_they_are_whole() -> None:
    """Warehouses write the whole numbers of a NUMBER column as decimals."""

    def read(*values: str | None, scale: int = 0) -> pl.Series:
        return clean_ids(pl.Series("id", values).cast(pl.Decimal(38, scale)), "user")

    assert read("9007199254740993", "-1", None).to_list() == [2**53 + 1, -1, None]
    assert read(str(2**64 - 1), "0").dtype == pl.UInt64
    assert read("9007199254740993.00", scale=2).to_list() == [2**53 + 1]
    with pytest.raises(DataError, match=r"'id' has user ids beyond 64 bits.*make them text"):
        read("1" + "0" * 25)
    with pytest.raises(DataError, match=r"such as 1\.50?, which may have lost digits"):
        read("2", "1.5", scale=2)


@pytest.mark.parametrize("values", [[True], [[1]], [{"a": 1}], [b"x"]])
def test_what_is_no_id_is_refused(values: list[object]) -> None:
    with pytest.raises(DataError, match="item ids are whole numbers or text"):
        clean_ids(pl.Series("id", values), "item")


def test_tables_must_agree() -> None:
    with pytest.raises(DataError, match="type String, but the other tables have Int64"):
        clean_ids(pl.Series("id", ["x"]), "item", like=pl.Int64())
    assert clean_ids(pl.Series("id", [1, 2], dtype=pl.UInt64), "item", like=pl.Int64()).dtype == pl.Int64


def test_unknown_ids_are_named_and_expected_ones_shown() -> None:
    table = Ids(pl.Series([10, 20, 30]), "item")
    assert table.rows([30, 10]).tolist() == [2, 0]
    assert table.rows(np.array([20], dtype=np.int32)).tolist() == [1]
    assert table.rows([]).tolist() == []
    with pytest.raises(
        DataError, match=r"Unknown item 5, 18446744073709551616; expected one of 3 item ids.*such as 10"
    ):
        table.rows([5, 10, 2**64])
    assert table.rows(id_ for id_ in (30, 10)).tolist() == [2, 0]
    with pytest.raises(DataError, match="Unknown item 999; expected one of 3"):
        table.rows(id_ for id_ in (10, 999))
    with pytest.raises(DataError, match="Found item ids of type String"):
        table.rows(["10"])
    with pytest.raises(DataError, match="Found item ids of type Float64"):
        table.rows([10.0])
    with pytest.raises(DataError, match="several types"):
        table.rows([10, "20"])


def test_ids_are_looked_up_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log of more than 4,194,304 events is: every piece has its own rows."""
    monkeypatch.setattr("facta.data.dataset.ids._CHUNK_IDS", 3)
    ids = Ids(pl.Series([10, 20, 30, 40, 50, 60, 70]), "user")
    asked = pl.Series([70, 10, 20, 30, 60, 50, 40, 10])
    assert ids.rows_known(asked).tolist() == [6, 0, 1, 2, 5, 4, 3, 0]


@given(
    st.one_of(
        st.tuples(st.lists(INT64, min_size=1, unique=True), st.lists(INT64)),
        st.tuples(st.lists(TEXT, min_size=1, unique=True), st.lists(TEXT)),
    )
)
def test_a_search_for_few_ids_finds_what_the_join_finds(
    case: tuple[list[int] | list[str], list[int] | list[str]],
) -> None:
    """In any order of the ids: those of a catalogue that grew are sorted in pieces."""
    ids, others = case
    table = Ids(pl.Series(ids), "user")
    asked = pl.Series([*ids, *others, None], dtype=table.ids.dtype)
    assert table._search(asked).tolist() == table._join(asked).tolist()


def test_a_look_up_of_one_id_costs_no_table_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Ids(pl.Series([f"u{number:05d}" for number in range(10_000)]), "user")

    def refuse(ids: pl.Series) -> pl.Series:
        raise AssertionError("joined with all ids")

    monkeypatch.setattr(table, "_join", refuse)
    assert table.rows(["u00017", "u09999"]).tolist() == [17, 9999]
    with pytest.raises(DataError, match="Unknown user 'u1'"):
        table.rows(["u1"])


@pytest.mark.parametrize(
    ("ids", "asked"),
    [
        (["b", "a", "é", "日"], ["a", "x", "é", "a\udcff", "", "日", "b"]),
        ([30, 10, 20], [10, 11, 2**200, -(2**70), 30, 2**63]),
        ([1, 2**63 + 5], [2**63 + 5, 1, -1, 2**64]),
        (list(range(0, 3000, 3)), [0, 1, 2997, 2998, 9999]),
    ],
)
def test_ids_without_a_row_are_told_apart_as_by_a_dictionary(ids: list[object], asked: list[object]) -> None:
    table = Ids(pl.Series(ids, dtype=pl.UInt64 if 2**63 + 5 in ids else None), "item")
    row = {id_: place for place, id_ in enumerate(ids)}
    for some in (asked, [], asked[:1]):
        assert table.rows_if_known(some).tolist() == [row.get(id_, -1) for id_ in some]  # type: ignore[arg-type]
