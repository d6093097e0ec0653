"""Times of columns: cut as request times are, and refused where their numbers are no moments."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl
import pytest

from facta import DataError
from facta.data.dataset.calendar_numbers import calendar_form
from facta.data.dataset.times import moment, period, refuse_lost_digits, to_milliseconds

MICROSECONDS = 1_700_075_710_123_999  # nearly the next millisecond


@pytest.mark.parametrize(
    "column",
    [
        pl.Series("t", [MICROSECONDS]),
        pl.Series("t", [MICROSECONDS * 1000 + 999]),
        pl.Series("t", [MICROSECONDS]).cast(pl.Datetime("us")),
        pl.Series("t", [MICROSECONDS * 1000]).cast(pl.Datetime("ns")),
        pl.Series("t", [str(np.datetime64(MICROSECONDS, "us"))]),
        pl.Series("t", [MICROSECONDS / 1_000_000]),
        pl.Series("t", [float(MICROSECONDS)]),
    ],
    ids=["us", "ns", "datetime us", "datetime ns", "text", "float s", "float us"],
)
def test_a_column_cuts_finer_times_as_a_request_does(column: pl.Series) -> None:
    expected = moment(np.datetime64(MICROSECONDS, "us"))
    assert expected == MICROSECONDS // 1000
    assert to_milliseconds(column).milliseconds.to_list() == [expected]


@pytest.mark.parametrize(
    ("form", "name"),
    [
        ("%Y%m%d", "YYYYMMDD"),
        ("%Y%m%d%H", "YYYYMMDDHH"),
        ("%Y%m%d%H%M", "YYYYMMDDHHMM"),
        ("%Y%m%d%H%M%S", "YYYYMMDDHHMMSS"),
        ("%y%m%d%H%M", "YYMMDDHHMM"),
    ],
)
@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64])
def test_numbers_that_spell_a_calendar_are_refused(form: str, name: str, kind: type[pl.DataType]) -> None:
    rng = np.random.default_rng(0)
    moments = [datetime(2023, int(m), int(d), int(h), 5) for m, d, h in rng.integers(1, 13, (300, 3))]
    spelled = pl.Series("t", [int(one.strftime(form)) for one in moments]).cast(kind)
    assert calendar_form(spelled) == name
    for unit in (None, "s"):
        with pytest.raises(DataError, match=f"spell a calendar \\({name}\\)"):
            to_milliseconds(spelled, unit)


def test_unix_times_spell_no_calendar() -> None:
    rng = np.random.default_rng(1)
    for digits in (1, 10**3, 10**6):
        times = pl.Series("t", rng.integers(10**8, 4_102_444_800, 5_000) * digits)
        assert calendar_form(times) is None
    assert calendar_form(pl.Series("t", [2_311_150_230])) is None  # without a century one number proves nothing
    assert calendar_form(pl.Series("t", [20_231_115.5])) is None


def test_floats_too_narrow_for_their_unit_are_refused() -> None:
    seconds = pl.Series("t", [1_700_075_710, 1_700_075_840])
    with pytest.raises(DataError, match=r"Float32, which cannot tell seconds .* differ by 128"):
        to_milliseconds(seconds.cast(pl.Float32))
    assert to_milliseconds(pl.Series("t", [0.5, 16.0], dtype=pl.Float32), "s").milliseconds.to_list() == [500, 16_000]


def test_digits_that_a_spreadsheet_dropped_are_missed() -> None:
    refuse_lost_digits(pl.Series("t", ["1.700075710e9", "1700075710", "17000757100e-1", None]))
    for text in ("1.70008E+09", "1,70008E+09", "2E+09"):
        with pytest.raises(DataError, match="fewer digits"):
            refuse_lost_digits(pl.Series("t", ["1700075710", text]))


def test_dates_before_our_time_are_refused_like_numbers() -> None:
    wrong_unit = pl.Series("t", [1_700_075_710]).cast(pl.Datetime("ms"))
    with pytest.raises(DataError, match=r"from 1970-01-20 to 1970-01-20.*wrong unit"):
        to_milliseconds(wrong_unit)
    mixed = to_milliseconds(pl.Series("t", [0, 1_700_075_710_000]).cast(pl.Datetime("ms")))
    assert mixed.bad == 1 and "1 time before 1973" in mixed.why
    assert period(mixed.milliseconds) == "from 2023-11-15 to 2023-11-15"
