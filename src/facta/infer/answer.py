"""Recommendations as they are answered: one list per history.

Letters: B histories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import polars as pl

from facta.arrays import Bools
from facta.data.batches.encoded import EncodedHistory
from facta.data.dataset.ids import ItemId
from facta.infer import frames
from facta.infer.ranking import Ranking, joined

Source = Literal["model", "popularity", "live popularity"]


def sources(of_model: Bools, *, live: bool = False) -> list[Source]:
    """[B] where the lists come from. `live`: popularity is of live events."""
    return ["model" if read else "live popularity" if live else "popularity" for read in of_model.tolist()]


class Because(NamedTuple):
    """An event, and what it does to the score of an item."""

    event_id: str
    item_id: ItemId
    title: str | None
    change: float  # score with all events minus score without this one


@dataclass(frozen=True)
class Answer:
    """One list per history, best first; shorter than k only where fewer items may be recommended."""

    ids: list[list[ItemId]]
    titles: list[list[str | None]]  # None where the catalogue has no title
    scores: list[list[float]]
    source: list[Source]  # popularity: no item of the history has a training event; live: of the events of a store
    unknown: list[int]  # events left out because their item is not in the catalogue
    by: Mapping[str, float] = field(default_factory=dict)  # found items were ranked: `scores` are Σ weight · score
    predicted: Mapping[str, list[list[float]]] = field(default_factory=dict)  # there: name -> the score of each item
    because: list[list[list[Because]]] = field(default_factory=list)  # of each item, where asked: largest change first
    item_type: pl.DataType = field(default_factory=pl.Int64, repr=False, compare=False)  # of ids in a frame

    @classmethod
    def ranked(cls, ranking: Ranking, source: Sequence[Source], histories: Sequence[EncodedHistory]) -> Answer:
        """[B] lists of items that were found, in the order of their predicted feedback."""
        return cls(
            ids=ranking.ids,
            titles=ranking.titles,
            scores=ranking.values,
            source=[*source],
            unknown=[one.unknown for one in histories],
            by=ranking.by,
            predicted=ranking.scores,
            item_type=ranking.item_type,
        )

    def frame(self) -> pl.DataFrame:
        """A line for each item: request (from 0), rank (from 1), item_id, score, title (null where there is none) and
        source, as in `recommend_users`; then each predicted score. A request without items has no line."""
        lines = frames.lines(self.ids, self.titles, self.scores, self.item_type)
        source = np.repeat(np.array(self.source, dtype=object), frames.lengths(self.ids))
        lines = lines.with_columns(pl.Series(frames.SOURCE, source.tolist(), dtype=pl.String))
        return frames.with_scores(lines, {name: joined(lists) for name, lists in self.predicted.items()})
