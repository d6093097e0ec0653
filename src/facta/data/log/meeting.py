"""Whether the ids of a table match those of the log; a table whose ids do not match has no effect."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

_LEAST_SHARE = 0.5  # share of ids with events that the table should have; below it there is a note
_ALIKE: dict[str, Callable[[pl.Series], pl.Series]] = {
    "without spaces around them": lambda ids: ids.str.strip_chars(),
    "in one case": lambda ids: ids.str.to_lowercase(),
    "without leading zeros": lambda ids: ids.str.strip_chars().str.strip_chars_start("0"),
    "without what follows a decimal point": lambda ids: ids.str.replace(r"\.0*$", ""),
    "without prefixes": lambda ids: ids.str.extract(r"([0-9]+)\s*$", 1),
}


def meeting(table: pl.Series, log: pl.Series, what: str) -> list[str]:
    """A note if few of the log's distinct ids are in its table of users or items."""
    met = int(log.is_in(table.implode()).sum())
    if not len(log) or not len(table) or met >= _LEAST_SHARE * len(log):
        return []
    both = f"the log has {_example(log, table)}, the table {_example(table, log)}"
    advice = _advice(table.cast(pl.String), log.cast(pl.String), met)
    return [f"{met:,} of {len(log):,} {what}s with events are in the {what} table: {both}{advice}."]


def _example(ids: pl.Series, others: pl.Series) -> str:
    odd = ids.filter(~ids.is_in(others.implode())).sort()
    value = odd[0] if len(odd) else ids[0]
    return repr(value)


def _advice(table: pl.Series, log: pl.Series, met: int) -> str:
    for how, form in _ALIKE.items():
        alike = form(log)
        if int(alike.is_in(form(table).drop_nulls().implode()).sum()) > max(2 * met, len(log) // 2):
            return f"; {how} they would meet: write both in one way"
    return "; write both in one way"
