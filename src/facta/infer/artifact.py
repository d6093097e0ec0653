"""The public artifact: what is stored, and the verbs that it answers.

Letters: B histories, V catalogue items, k recommendations, M candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import polars as pl

from facta.arguments import CALLABLE, FLAG, NONE, PATH, arguments, instance
from facta.artifact.artifact import StoredArtifact
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.ids import ItemId
from facta.data.dataset.times import Time
from facta.infer.answer import Answer
from facta.infer.filters import Exclude, Filters
from facta.infer.history import History
from facta.infer.parts import Progress
from facta.infer.ranking import Ranking, ScoreWeights
from facta.infer.similar import SimilarItems
from facta.infer.verbs import Verbs

__all__ = ["Answer", "Artifact", "Exclude"]

_FOR_USERS = {
    "dataset": PATH | instance("a facta.Dataset", Dataset),
    "out": PATH | NONE,
    "overwrite": FLAG,
    "progress": CALLABLE | NONE,
}


class Artifact(StoredArtifact):
    """A loaded artifact that recommends and ranks."""

    def recommend(
        self,
        history: History | Iterable[Any],
        k: int = 10,
        *,
        at: Time | Iterable[Time] | None = None,
        context: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
        exclude: Exclude | None = None,
        allow: Sequence[ItemId] | None = None,
        where: Mapping[str, Any] | None = None,
        at_most: Mapping[str, int] | None = None,
        by: ScoreWeights | None = None,
        shortlist: int | None = None,
        stride: int = 1,
    ) -> Answer:
        """The k best items for one history or for each of many.

        `history`: item ids, oldest first; a `History` with times; or a list of either. An empty list is one history
        without events, not no history at all.
        `at`: when the request is made (milliseconds, ISO text, date or datetime): one for all, or a list or an array
        with one each; required where the model reads time.
        `context`: what is known before the item, such as {"surface": "search"}, as in the log: for all, or one mapping
        each. For a model that predicts the next item in its context (`model.next_item.late`); a field that is left out
        counts as not known.
        `exclude`: what may not be recommended: what the person has already (`history`), `nothing`, or a list of ids;
        what the artifact's own protocol masked when not given, so that its numbers are of the lists that people see.
        `allow`: the ids that may be recommended, and no other. `where`: conditions on columns of the item table, all of
        which an item has to meet: a value, as in {"genre": "Comedy"}, a list of values of which it has one, or of
        numbers {"min": 1990, "max": 1999}, both included. `at_most`: how many items of a list may have the same value
        of a column, as in {"genre": 2}; an item of several values counts for each of them. Filters come before the best
        k are chosen: a list is shorter only where nothing is left.
        `by`: the items found are ranked by predicted feedback, as in `rank`; `predicted` of the answer has the scores.
        Of a model that both recommends and ranks; a live engine may have another one for it.
        `shortlist`: of a mixture of logits, score only so many items exactly, those that a rough search puts first; all
        items when not given.
        `stride`: of a history longer than the model's window N the oldest events are left out `stride` at a time, so
        that the window holds N - stride + 1 to N events; 1 shows the newest N. A live engine keeps what it computed of
        a window for as long as that stands still: give its stride for its lists.

        Items without a training event are never recommended: their vectors are untrained. A history of no other items,
        or of none, is answered with the most popular items, and the answer says so; beside a trained item the model
        reads them as they are. Evaluation does the same. Raises DataError and ConfigError.
        """
        filters = Filters(exclude, allow, where, at_most)
        return self.verbs.recommend(history, k, at, context, filters, shortlist, stride, by=by)

    def rank(
        self,
        history: History | Iterable[Any],
        candidates: Iterable[Any],
        *,
        at: Time | Iterable[Time] | None = None,
        context: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
        by: ScoreWeights | None = None,
        stride: int = 1,
    ) -> Ranking:
        """Candidates for one history or for each of many, by what the person would do with them.

        `history`, `at`: as in `recommend`; an empty history is no hindrance.
        `candidates`: a list of item ids for all histories, or a list of lists, one each.
        `context`: what is known before the item, such as {"tab": 1}, as in the log: for all, or one mapping each.
        `by`: the feedback field that orders them, or weights of several (default: the first that the model predicts).
        A field that is learned only where another one succeeded ("like", defined after a click) has the score "like if
        click"; as "like" it is multiplied by the score of its condition, P(like) = P(click) · P(like | click), and
        refused where the condition is no plain success of a predicted field.
        `stride`: as in `recommend`.

        A candidate's scores depend on no other candidate. One that was never trained on is ranked by its features,
        where the model reads any. Raises DataError and ConfigError.
        """
        return self.verbs.rank(history, candidates, at, context, by, stride)

    def similar_items(self, item: ItemId | Iterable[ItemId], k: int = 10) -> SimilarItems:
        """The k items of the catalogue that are most like an item, or like each of several; `frame()` has their lines.

        Similar are, by the cosine of their vectors, items that the model recommends to the same people: also a sequel,
        or what is bought together. A counted model says what it counted: item-knn the people who met both, rules and
        EASE what leads from the item to the other one, so that a may be similar to b and not b to a.

        The item itself is left out, and items without a training event are. Asked for one of these, the list is empty
        (`untrained`), unless the model makes its vector of features. Raises DataError for an unknown id, ConfigError
        for a model that compares no items: popularity, a mixture of logits, one that has learned feedback alone.
        """
        return self.verbs.similar_items(item, k)

    @overload
    def recommend_users(
        self, dataset: Dataset | Path | str, k: int = 10, *, users: Iterable[ItemId] | pl.Series | None = None,
        at: Time | None = None, context: Mapping[str, Any] | None = None, exclude: Exclude | None = None,
        allow: Sequence[ItemId] | None = None, where: Mapping[str, Any] | None = None,
        at_most: Mapping[str, int] | None = None, shortlist: int | None = None, stride: int = 1,
        out: None = None, overwrite: bool = False, progress: Progress | None = None,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def recommend_users(
        self, dataset: Dataset | Path | str, k: int = 10, *, users: Iterable[ItemId] | pl.Series | None = None,
        at: Time | None = None, context: Mapping[str, Any] | None = None, exclude: Exclude | None = None,
        allow: Sequence[ItemId] | None = None, where: Mapping[str, Any] | None = None,
        at_most: Mapping[str, int] | None = None, shortlist: int | None = None, stride: int = 1,
        out: Path | str, overwrite: bool = False, progress: Progress | None = None,
    ) -> None: ...  # fmt: skip

    @arguments(**_FOR_USERS)
    def recommend_users(
        self, dataset: Dataset | Path | str, k: int = 10, *, users: Iterable[ItemId] | pl.Series | None = None,
        at: Time | None = None, context: Mapping[str, Any] | None = None, exclude: Exclude | None = None,
        allow: Sequence[ItemId] | None = None, where: Mapping[str, Any] | None = None,
        at_most: Mapping[str, int] | None = None, shortlist: int | None = None, stride: int = 1,
        out: Path | str | None = None, overwrite: bool = False, progress: Progress | None = None,
    ) -> pl.DataFrame | None:  # fmt: skip
        """The k best items for every user of a dataset, or for the ids `users`; the dataset may be a newer log.

        A line for each item: user_id, rank (from 1), item_id, score, title (where the catalogue has titles) and source
        ("model", or "popularity" for a history without a trained item). Users are in the order of `users`, or of the
        dataset; the lists are those of `recommend(history_of(dataset, user, until=at), k, at=at, exclude=exclude)`.

        `at`: the moment of all requests; later events are not read. `context`, the filters, `shortlist`
        and `stride` are those of `recommend`, for all.
        `out`: a Parquet file is written instead, in parts: memory stays bounded, and after a stop the same call goes
        on. `overwrite` replaces that file. `progress` is told (parts done, parts in all). Raises DataError, ConfigError
        and ResourceError.
        """
        return self.verbs.recommend_users(
            dataset, k, users=users, at=at, context=context, filters=Filters(exclude, allow, where, at_most),
            shortlist=shortlist, stride=stride, out=out, overwrite=overwrite, progress=progress,
        )  # fmt: skip

    @overload
    def rank_users(
        self, dataset: Dataset | Path | str, candidates: Iterable[ItemId] | pl.DataFrame, k: int | None = None, *,
        users: Iterable[ItemId] | pl.Series | None = None, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: ScoreWeights | None = None, stride: int = 1, out: None = None,
        overwrite: bool = False, progress: Progress | None = None,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def rank_users(
        self, dataset: Dataset | Path | str, candidates: Iterable[ItemId] | pl.DataFrame, k: int | None = None, *,
        users: Iterable[ItemId] | pl.Series | None = None, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: ScoreWeights | None = None, stride: int = 1, out: Path | str,
        overwrite: bool = False, progress: Progress | None = None,
    ) -> None: ...  # fmt: skip

    @arguments(**_FOR_USERS)
    def rank_users(
        self, dataset: Dataset | Path | str, candidates: Iterable[ItemId] | pl.DataFrame, k: int | None = None, *,
        users: Iterable[ItemId] | pl.Series | None = None, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: ScoreWeights | None = None, stride: int = 1,
        out: Path | str | None = None, overwrite: bool = False, progress: Progress | None = None,
    ) -> pl.DataFrame | None:  # fmt: skip
        """Candidates for every user of a dataset, ranked as by `rank`; the first k of them, or all (None).

        `candidates`: a list of item ids for all users, or a frame of pairs (user_id, item_id), a line for each
        candidate; of pairs only the users that they name are asked. Items that the catalogue lacks are left out.
        A line for each candidate: user_id, rank, item_id, score (what orders them), title, then each predicted score.
        `users`, `at`, `out`, `overwrite`, `progress`: as in `recommend_users`; `context`, `by`, `stride`: as in
        `rank`.
        """
        return self.verbs.rank_users(
            dataset, candidates, k, users=users, at=at, context=context, by=by, stride=stride, out=out,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip

    @cached_property
    def verbs(self) -> Verbs:
        """What answers for it."""
        return Verbs.of(self, self._items)
