"""The verbs of an artifact: answers about given histories, for one person or many, with ids, titles and scores.

Letters: B histories, V catalogue items, k recommendations, M candidates.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import polars as pl

from facta.arrays import Floats, Floats32, Ints
from facta.artifact.artifact import StoredArtifact
from facta.artifact.calibration import Calibrator
from facta.artifact.files import described
from facta.artifact.items import ItemLookup
from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.request import Asked
from facta.data.batches.stored import StoredHistories
from facta.data.dataset.dataset import Dataset, Fields
from facta.data.dataset.ids import ItemId
from facta.data.dataset.times import Time
from facta.data.split.mask import ALL, masked_events
from facta.errors import ConfigError
from facta.infer import bulk, ranking
from facta.infer import candidates as candidates_of
from facta.infer.answer import Answer, Source, sources
from facta.infer.asking import Asking
from facta.infer.catalogue_lists import CatalogueLists
from facta.infer.filters import Filters, Selection, selection
from facta.infer.history import History, as_histories, context_codes, encoded
from facta.infer.item_columns import ItemColumns
from facta.infer.parts import Progress
from facta.infer.ranking import Ranking, ScoreWeights
from facta.infer.request_times import request_times
from facta.infer.similar import ItemNeighbours, SimilarItems
from facta.models.model import Model
from facta.retrieval.capped import Limits

Value = TypeVar("Value")
_NONE: Ints = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Verbs:
    """What answers requests for an artifact; `Artifact` says what its four verbs do and are given."""

    model: Model
    items: ItemLookup
    columns: ItemColumns
    lists: CatalogueLists
    fields: Fields  # of the data that the model was trained on
    calibration: Mapping[str, Calibrator]
    masked_events: int | None  # never recommended again by the artifact's own protocol; None: the whole history
    reads_time: bool
    fingerprint: str

    @classmethod
    def of(cls, artifact: StoredArtifact, items: ItemLookup) -> Verbs:
        """All that depends on the artifact alone is made once. The artifact itself is not kept: it keeps the engine."""
        fields = described(artifact.schema)
        return cls(
            model=artifact.model,
            items=items,
            columns=ItemColumns(items.catalogue, fields.item_fields),
            lists=CatalogueLists(artifact.model, items.training_events),
            fields=fields,
            calibration=artifact.calibration,
            masked_events=masked_events(artifact.config["protocol"].get("mask", ALL)),
            reads_time=artifact.reads_time,
            fingerprint=artifact.fingerprint,
        )

    def recommend(
        self,
        history: History | Iterable[Any],
        k: int,
        at: Time | Iterable[Time] | None,
        context: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None,
        filters: Filters,
        shortlist: int | None,
        stride: int,
        *,
        by: ScoreWeights | None = None,
    ) -> Answer:
        k, stride, histories = length_of(k), length_of(stride, "stride"), self._histories(history)
        shortlist, chosen = self._checked(shortlist, filters), self.selection(filters)
        weights = None if by is None else self.score_names().chosen(by)
        contexts = ranking.contexts_of(context, len(histories))
        asked = self.any_item(contexts if weights is None or self.model.inputs.told else [])
        times = request_times(histories, self.lists.of_model(histories), at, reads_time=self.reads_time)
        asking = Asking(histories, times, asked, stride)
        found = self.lists.best(asking, self.limits(histories, chosen), k, shortlist)
        listed = [row >= 0 for row in found.rows]
        rows = [row[there] for row, there in zip(found.rows, listed, strict=True)]
        scores = [row[there] for row, there in zip(found.scores, listed, strict=True)]
        source = sources(found.of_model)
        if weights is None:
            return self.answer_of(rows, scores, source, histories)
        candidates = [self._asked(row, said) for row, said in zip(rows, contexts, strict=True)]
        asking = Asking(histories, self._times_of_all(histories, at), candidates, stride)
        raw = candidates_of.scores(self.model, asking) if histories else {}
        return Answer.ranked(self.ranking_of(raw, candidates, weights, [0] * len(rows), histories), source, histories)

    def answer_of(
        self, rows: Sequence[Ints], scores: Sequence[Floats32], source: Sequence[Source],
        histories: Sequence[EncodedHistory],
    ) -> Answer:  # fmt: skip
        """[B] lists of catalogue rows with their scores, in the words of people."""
        every, counts = _joined(rows), [len(one) for one in rows]
        return Answer(
            ids=_each(self.items.ids(every), counts),
            titles=_each(self.items.titles(every), counts),
            scores=[one.tolist() for one in scores],
            source=[*source],
            unknown=[one.unknown for one in histories],
            item_type=self.items.catalogue["item_id"].dtype,
        )

    def rank(
        self,
        history: History | Iterable[Any],
        candidates: Iterable[Any],
        at: Time | Iterable[Time] | None,
        context: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None,
        by: ScoreWeights | None,
        stride: int,
    ) -> Ranking:
        names, histories = self.score_names(), self._histories(history)
        weights, stride = names.chosen(by), length_of(stride, "stride")
        times = self._times_of_all(histories, at)
        rows = [self.items.rows_of(ids) for ids in ranking.lists_of(candidates, len(histories))]
        contexts = ranking.contexts_of(context, len(histories))
        asked = [self._asked(one[one >= 0], said) for one, said in zip(rows, contexts, strict=True)]
        raw = candidates_of.scores(self.model, Asking(histories, times, asked, stride)) if histories else {}
        left_out = [int((one < 0).sum()) for one in rows]
        return self.ranking_of(raw, asked, weights, left_out, histories)

    def ranking_of(
        self, raw: Mapping[str, Floats32], asked: Sequence[Asked], weights: Mapping[str, float],
        left_out: Sequence[int], histories: Sequence[EncodedHistory],
    ) -> Ranking:  # fmt: skip
        """The candidates asked about of [B] histories by their scores `raw`, in the words of people."""
        names = self.score_names()
        found, best = self._ordered(raw, asked, names, weights)
        order, counts = _joined(best), [len(line) for line in best]
        every = _joined([one.rows for one in asked])[order]
        return Ranking(
            by=weights,
            ids=_each(self.items.ids(every), counts),
            titles=_each(self.items.titles(every), counts),
            scores={name: _each(column[order].tolist(), counts) for name, column in found.items()},
            products=names.products,
            left_out=[*left_out],
            untrained=[int((~self.items.trained[one.rows]).sum()) for one in asked],
            unknown=[one.unknown for one in histories],
            item_type=self.items.catalogue["item_id"].dtype,
        )

    def similar_items(self, item: ItemId | Iterable[ItemId], k: int, retired: Ints = _NONE) -> SimilarItems:
        ids = item if isinstance(item, Iterable) and not isinstance(item, (str, bytes)) else [item]
        rows, k = self.items.known_rows(ids), length_of(k)
        found, scores = self._neighbours.best(rows, k, retired)
        listed = found >= 0
        counts = listed.sum(axis=1)
        return SimilarItems(
            items=self.items.ids(rows),
            ids=_each(self.items.ids(found[listed]), counts),
            titles=_each(self.items.titles(found[listed]), counts),
            scores=_each(scores[listed].tolist(), counts),
            by=self.model.similar_by,
            untrained=(~self.items.trained[rows]).tolist(),
            item_type=self.items.catalogue["item_id"].dtype,
        )

    def recommend_users(
        self, dataset: Dataset | Path | str, k: int, *, users: Iterable[ItemId] | pl.Series | None, at: Time | None,
        context: Mapping[str, Any] | None, filters: Filters, shortlist: int | None, stride: int,
        out: Path | str | None, overwrite: bool, progress: Progress | None,
    ) -> pl.DataFrame | None:  # fmt: skip
        k, dataset = length_of(k), Dataset.open(dataset) if isinstance(dataset, (str, Path)) else dataset
        stride = length_of(stride, "stride")
        exclude = filters.exclude
        if exclude is not None and not isinstance(exclude, str):
            exclude = self.items.same_type(list(exclude))
        chosen = self.selection(filters)  # refuses a wrong one before anything is computed
        shortlist = self._checked(shortlist, filters)
        asked = self.any_item([context or {}])
        rows, stored = bulk.user_rows(dataset, users), self.stored(dataset)

        def make(users: Ints) -> pl.DataFrame:
            histories = stored.encoded(users, at)
            times = request_times(histories, self.lists.of_model(histories), at, reads_time=self.reads_time)
            asking = Asking(histories, times, None if asked is None else asked * len(histories), stride)
            found = self.lists.best(asking, self.limits(histories, chosen), k, shortlist)
            return bulk.recommended(dataset, self.items.catalogue, users, found)

        said: dict[str, Any] = {} if asked is None else {"context": asked[0].context}
        said |= ({} if shortlist is None else {"shortlist": shortlist}) | ({} if stride == 1 else {"stride": stride})
        said |= filters.said
        named = bulk.identity(self.fingerprint, dataset, rows, at, k=k, exclude=exclude, **said)
        return bulk.finished(make, rows, named, out, overwrite=overwrite, progress=progress)

    def rank_users(
        self, dataset: Dataset | Path | str, candidates: Iterable[ItemId] | pl.DataFrame, k: int | None, *,
        users: Iterable[ItemId] | pl.Series | None, at: Time | None, context: Mapping[str, Any] | None,
        by: ScoreWeights | None, stride: int, out: Path | str | None, overwrite: bool, progress: Progress | None,
    ) -> pl.DataFrame | None:  # fmt: skip
        names, dataset = self.score_names(), Dataset.open(dataset) if isinstance(dataset, (str, Path)) else dataset
        weights, stride = names.chosen(by), length_of(stride, "stride")
        rows, length = bulk.user_rows(dataset, users), None if k is None else length_of(k)
        codes = context_codes(context or {}, self.fields, self.model.inputs)
        listed = bulk.candidates_of(candidates, dataset, rows, self.items.rows_of)
        rows, stored = rows[np.isin(rows, list(listed))], self.stored(dataset)

        def make(users: Ints) -> pl.DataFrame:
            histories = stored.encoded(users, at)
            asked = [Asked(listed[user], codes) for user in users.tolist()]
            asking = Asking(histories, self._times_of_all(histories, at), asked, stride)
            raw = candidates_of.scores(self.model, asking) if histories else {}
            found, best = self._ordered(raw, asked, names, weights)
            score, best = ranking.values(found, weights), [line[:length] for line in best]
            return bulk.ranked(dataset, self.items.catalogue, users, asked, best, score, found)

        digest = bulk.digest([listed[row].tolist() for row in rows.tolist()])
        said: dict[str, Any] = {} if stride == 1 else {"stride": stride}
        said |= {"by": weights, "context": codes, "candidates": digest}
        named = bulk.identity(self.fingerprint, dataset, rows, at, k=k, **said)
        return bulk.finished(make, rows, named, out, overwrite=overwrite, progress=progress)

    @cached_property
    def _neighbours(self) -> ItemNeighbours:
        return ItemNeighbours(self.model, self.lists.index, self.lists.trained)

    def stored(self, dataset: Dataset) -> StoredHistories:
        """The histories of a dataset in the rows and codes of the artifact."""
        return StoredHistories(dataset, self.items.rows_of, self.fields, self.model.inputs)

    def _checked(self, shortlist: int | None, filters: Filters) -> int | None:
        """Raises ConfigError for what is no length, and where the model has no rough search."""
        if shortlist is None:
            return None
        if filters.at_most:
            raise ConfigError(
                "Found at_most beside a shortlist, which may lack the items that it asks for: leave one out."
            )
        length = length_of(shortlist, "shortlist")
        assert self.lists.shortlist is not None  # made here: it says where there is none
        return length

    def _histories(self, given: History | Iterable[Any]) -> list[EncodedHistory]:
        return [encoded(one, self.items.rows_of, self.fields, self.model.inputs) for one in as_histories(given)]

    def any_item(self, contexts: Sequence[Mapping[str, Any]]) -> list[Asked] | None:
        """[B] any item in the context of each request; None where none says one. Raises ConfigError where the model
        recommends the same items in every context."""
        if not any(contexts):
            return None
        if not self.model.inputs.told:
            raise ConfigError(
                f"Found the context {next(filter(None, contexts))!r:.80}; this artifact recommends the same items in "
                'every context: leave it out, or train one whose recipe sets model.next_item.late to ["context"].'
            )
        return [Asked(np.array([-1]), context_codes(one, self.fields, self.model.inputs)) for one in contexts]

    def _asked(self, rows: Ints, context: Mapping[str, Any]) -> Asked:
        """Candidates in a context."""
        return Asked(rows, context_codes(context, self.fields, self.model.inputs))

    def _times_of_all(self, histories: Sequence[EncodedHistory], at: Time | Iterable[Time] | None) -> list[int] | None:
        """Ranking asks the model of every history."""
        return request_times(histories, np.ones(len(histories), dtype=bool), at, reads_time=self.reads_time)

    def score_names(self) -> ranking.ScoreNames:
        """What the scores are called. Raises ConfigError where the model scores no feedback."""
        if not self.model.predicted:
            raise ConfigError(
                "This artifact scores no feedback; train one whose recipe sets model.feedback, of fields with success "
                "or numbers."
            )
        return ranking.ScoreNames.of(self.model.predicted, self.fields.fields)

    def values(self, raw: Mapping[str, Floats32], weights: Mapping[str, float]) -> Floats:
        """[S] what orders candidates, of their scores."""
        return ranking.values(self.score_names().scores(ranking.calibrated(raw, self.calibration)), weights)

    def _ordered(
        self, raw: Mapping[str, Floats32], asked: Sequence[Asked], names: ranking.ScoreNames,
        weights: Mapping[str, float],
    ) -> tuple[dict[str, Floats32], list[Ints]]:  # fmt: skip
        """Name -> scores of all candidates; of each history the places of its candidates, best first."""
        none = dict.fromkeys(self.model.predicted, np.zeros(0, dtype=np.float32))
        found = names.scores(none | ranking.calibrated(raw, self.calibration))
        return found, ranking.orders(ranking.values(found, weights), asked)

    def selection(self, filters: Filters) -> Selection:
        """The items that may be recommended, in rows. Raises ConfigError and DataError for what is no filter."""
        return selection(filters, self.items, self.columns, self.masked_events)

    @staticmethod
    def limits(histories: Sequence[EncodedHistory], chosen: Selection, retired: Ints = _NONE) -> list[Limits]:
        """[B] what the list of each history may hold. `retired`: rows that no list holds."""
        return [chosen.limits(one, retired) for one in histories]


def length_of(given: Any, name: str = "k") -> int:
    """A whole number of at least 1. Raises ConfigError for all else."""
    try:
        length = operator.index(given)  # integers of Python, NumPy and torch
    except TypeError:
        length = 0
    if length < 1:
        raise ConfigError(f"Found {name} = {given!r}; expected a whole number, at least 1.")
    return length


def _joined(rows: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, dtype=np.int64), *rows])


def _each(values: list[Value], counts: Iterable[int]) -> list[list[Value]]:
    """The values of all lists, cut into one list for each."""
    rest = iter(values)
    return [list(islice(rest, count)) for count in counts]
