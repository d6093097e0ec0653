"""Whether a log has a line for each action (view, cart, purchase of one item), as its values tell.

Of such a log, in which the *first action* is the one that pairs of a user and an item mostly begin with,

    many pairs have lines of several actions close together         in a log of repeats they have one value
    the other actions mostly follow a first action of their pair    a category of items has nothing to follow
    runs begin with the first action more often than they end so    values without an order do both alike

The last test is only for columns whose name does not say that they hold actions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from facta.data.dataset.schema import ACTIONS, plain
from facta.data.log.pivot import MOST_ACTIONS, NEW_VISIT_AFTER_MS, first_action

_LEAST_PAIR_SHARE = {True: 0.01, False: 0.05}  # of pairs with several actions; True: its name tells of actions
_LEAST_FOLLOW_SHARE = 0.5  # of the other actions that follow a first one
_LEAST_DIRECTION = 0.4  # share of runs that begin with the first action, minus the share that end with it


class Actions(NamedTuple):
    """A column of actions."""

    column: str
    names: tuple[str, ...]  # the first action before all others
    pairs: int  # pairs of a user and an item with several actions in one run
    share: float  # of all pairs
    later: int  # lines in the event of an earlier line


def find_actions(lines: pl.DataFrame, columns: Mapping[str, pl.Series]) -> Actions | None:
    """The column with the action of each line; None if the log has no line for each action.

    `lines` [n]: user, item (rows), time (ms), null where unknown. `columns`: others of the log by name, [n].
    """
    there = lines.select(pl.all_horizontal(pl.all().is_not_null())).to_series()
    among = lines.filter(there)
    if not _runs(among.with_columns(action=0))["goes_on"].any():
        return None
    names = [name for name, column in columns.items() if _may_be(name, column)]
    found = [one for name in names if (one := _evidence(among, columns[name].filter(there))) is not None]
    return max(found, key=lambda one: (plain(one.column) in ACTIONS, one.share), default=None)


def _may_be(name: str, column: pl.Series) -> bool:
    worded = column.dtype in (pl.String, pl.Categorical, pl.Enum)
    if not (worded or (column.dtype.is_integer() and plain(name) in ACTIONS)) or column.null_count():
        return False
    return 2 <= column.head(10_000).n_unique() <= MOST_ACTIONS and column.n_unique() <= MOST_ACTIONS


def _evidence(lines: pl.DataFrame, column: pl.Series) -> Actions | None:
    values = column.cast(pl.String)
    names = values.unique().sort()
    codes = values.replace_strict(names, pl.Series(range(len(names)), dtype=pl.UInt8), return_dtype=pl.UInt8)
    lines = lines.with_columns(action=codes)
    first = first_action(lines)
    is_first = pl.col("action") == first
    runs = _runs(lines).with_columns(run=(~pl.col("goes_on")).cum_sum())
    each = runs.group_by("run").agg(
        pl.col("user", "item").first(),
        several=pl.col("action").n_unique() > 1,
        begins=is_first.first(),
        ends=is_first.last(),
        others=(~is_first).sum(),
        length=pl.len(),
    )
    several = each.filter("several")
    pairs, of = several.n_unique(["user", "item"]), each.n_unique(["user", "item"])
    follow = int(each.filter("begins")["others"].sum()) / max(1, int(each["others"].sum()))
    directed = (int(several["begins"].sum()) - int(several["ends"].sum())) / max(1, len(several))
    named = plain(column.name) in ACTIONS
    if (
        pairs < _LEAST_PAIR_SHARE[named] * of
        or follow < _LEAST_FOLLOW_SHARE
        or (directed < _LEAST_DIRECTION and not named)
    ):
        return None
    ordered = [names[first], *(name for code, name in enumerate(names) if code != first)]
    return Actions(column.name, tuple(ordered), pairs, pairs / of, int((several["length"] - 1).sum()))


def _runs(lines: pl.DataFrame) -> pl.DataFrame:
    """The lines in order of user, item and time, and whether each continues the run of its pair.

    Lines at one moment keep the order of the input.
    """
    ordered = lines.sort("user", "item", "time", maintain_order=True)
    same = (pl.col("user") == pl.col("user").shift()) & (pl.col("item") == pl.col("item").shift())
    return ordered.with_columns(goes_on=(same & (pl.col("time").diff() <= NEW_VISIT_AFTER_MS)).fill_null(False))
