"""The engine: an artifact answers requests, one person or many, with ids, titles and scores.

Letters: B histories, V catalogue items, k recommendations, M candidates.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, overload

import numpy as np
import polars as pl
import torch
from torch import Tensor

from facta.arguments import CALLABLE, FLAG, NONE, PATH, arguments, instance, unlike
from facta.arrays import Bools, Floats32, Ints
from facta.artifact import files
from facta.data.histories import Dataset, Fields
from facta.data.times import Time, moment
from facta.errors import ConfigError, DataError
from facta.eval.protocol import ProtocolConfig
from facta.infer import bulk, ranking
from facta.infer.history import History, ItemId, Known, as_histories, context_codes, from_text, known, plain_value
from facta.infer.parts import Progress
from facta.infer.ranking import By, Ranking
from facta.infer.request import Asked
from facta.infer.retrieval import Retrieval
from facta.infer.stored import StoredHistories
from facta.models.baselines import Baseline

_FOR_USERS = {
    "dataset": PATH | instance("a facta.Dataset", Dataset),
    "out": PATH | NONE,
    "overwrite": FLAG,
    "progress": CALLABLE | NONE,
}

Exclude = Literal["history", "nothing"] | Sequence[ItemId]
AT_ONCE = 256  # requests encoded together
CELLS = 1 << 25  # scores of requests that are written out: 128 MB


@dataclass(frozen=True)
class Answer:
    """One list per history, best first; shorter than k only where fewer items may be recommended."""

    ids: list[list[ItemId]]
    titles: list[list[str | None]]  # None where the catalogue has no title
    scores: list[list[float]]
    source: list[Literal["model", "popularity"]]  # popularity: no item of the history has a training event
    unknown: list[int]  # events left out because their item is not in the catalogue


class Artifact(files.Contents):
    """A loaded artifact that recommends and ranks."""

    @classmethod
    @arguments(path=PATH)
    def load(cls, path: Path | str) -> Self:
        """Read a directory written by `facta train`, every checksum verified. Raises ArtifactError."""
        return cls.of(files.load(path))

    @classmethod
    def of(cls, contents: files.Contents) -> Self:
        """The same contents, able to recommend."""
        return cls(**vars(contents))

    def __repr__(self) -> str:
        return f"Artifact({self.config['name']}, {self.catalogue.height:,} items, fingerprint {self.fingerprint})"

    @arguments(path=PATH, overwrite=FLAG)
    def save(self, path: Path | str, *, overwrite: bool = False) -> str:
        """Write the directory, whole or not at all; returns its fingerprint. Raises ArtifactError, ResourceError."""
        return files.save(self, path, overwrite=overwrite)

    def recommend(
        self,
        history: History | Iterable[Any],
        k: int = 10,
        *,
        at: Time | Iterable[Time] | None = None,
        exclude: Exclude | None = None,
    ) -> Answer:
        """The k best items for one history or for each of many.

        `history`: item ids, oldest first; a `History` with times; or a list of either. An empty list is one history
        without events, not no history at all.
        `at`: when the request is made (milliseconds, ISO text, date or datetime): one for all, or a list or an array
        with one each; required where the model reads time.
        `exclude`: what may not be recommended: what the person has already (`history`), `nothing`, or a list of ids;
        what the artifact's own protocol masked when not given, so that its numbers are of the lists that people see.

        Items without a training event are never recommended: their vectors are untrained. A history of no other items,
        or of none, is answered with the most popular items, and the answer says so; beside a trained item the model
        reads them as they are. Evaluation does the same. Raises DataError and ConfigError.
        """
        k, histories = _length(k), self._histories(history)
        times = self._times(histories, self._retrieval.of_model(histories), at)
        found = self._retrieval.best(histories, times, self._hidden(histories, exclude), k)
        kept = [line[line >= 0].tolist() for line in found.rows]
        return Answer(
            ids=[[self._ids[row] for row in line] for line in kept],
            titles=[[self._titles[row] for row in line] for line in kept],
            scores=[line[rows >= 0].tolist() for line, rows in zip(found.scores, found.rows, strict=True)],
            source=["model" if read else "popularity" for read in found.of_model],
            unknown=[one.unknown for one in histories],
        )

    def rank(
        self,
        history: History | Iterable[Any],
        candidates: Iterable[Any],
        *,
        at: Time | Iterable[Time] | None = None,
        context: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None = None,
        by: By | None = None,
    ) -> Ranking:
        """Candidates for one history or for each of many, by what the person would do with them.

        `history`, `at`: as in `recommend`; an empty history is no hindrance.
        `candidates`: a list of item ids for all histories, or a list of lists, one each.
        `context`: what is known before the item, such as {"tab": 1}, as in the log: for all, or one mapping each.
        `by`: the feedback field that orders them, or weights of several (default: the first that the model predicts).
        A field that is learned only where another one succeeded ("like", defined after a click) has the score "like if
        click"; as "like" it is multiplied by the score of its condition, P(like) = P(click) · P(like | click), and
        refused where the condition is no plain success of a predicted field.

        A candidate's scores depend on no other candidate. One that was never trained on is ranked by its features,
        where the model reads any. Raises DataError and ConfigError.
        """
        names, histories = self._score_names(), self._histories(history)
        weights = names.chosen(by)
        times = self._times(histories, np.ones(len(histories), dtype=bool), at)
        rows = [self.rows_of(ids) for ids in ranking.lists_of(candidates, len(histories))]
        asked = [
            Asked(one[one >= 0], context_codes(given, self._fields, self.model.wants))
            for one, given in zip(rows, ranking.contexts_of(context, len(histories)), strict=True)
        ]
        found, best = self._ranked(histories, times, asked, names, weights)
        every = np.concatenate([one.rows for one in asked])
        return Ranking(
            by=weights,
            ids=[[self._ids[row] for row in every[line]] for line in best],
            titles=[[self._titles[row] for row in every[line]] for line in best],
            scores={name: [column[line].tolist() for line in best] for name, column in found.items()},
            products=names.products,
            left_out=[int((one < 0).sum()) for one in rows],
            untrained=[int((~self._trained[one.rows]).sum()) for one in asked],
            unknown=[one.unknown for one in histories],
        )

    @overload
    def recommend_users(
        self, dataset: Dataset | Path | str, k: int = 10, *, users: Iterable[ItemId] | pl.Series | None = None,
        at: Time | None = None, exclude: Exclude | None = None, out: None = None, overwrite: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def recommend_users(
        self, dataset: Dataset | Path | str, k: int = 10, *, users: Iterable[ItemId] | pl.Series | None = None,
        at: Time | None = None, exclude: Exclude | None = None, out: Path | str, overwrite: bool = False,
        progress: Progress | None = None,
    ) -> None: ...  # fmt: skip

    @arguments(**_FOR_USERS)
    def recommend_users(
        self, dataset: Dataset | Path | str, k: int = 10, *, users: Iterable[ItemId] | pl.Series | None = None,
        at: Time | None = None, exclude: Exclude | None = None, out: Path | str | None = None, overwrite: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame | None:  # fmt: skip
        """The k best items for every user of a dataset, or for the ids `users`; the dataset may be a newer log.

        A line for each item: user_id, rank (from 1), item_id, score, title (where the catalogue has titles) and source
        ("model", or "popularity" for a history without a trained item). Users are in the order of `users`, or of the
        dataset; the lists are those of `recommend(history_of(dataset, user, until=at), k, at=at, exclude=exclude)`.

        `at`: the moment of all requests; later events are not read. `out`: a Parquet file is written instead, in parts:
        memory stays bounded, and after a stop the same call goes on. `overwrite` replaces that file. `progress` is
        told (parts done, parts in all). Raises DataError, ConfigError and ResourceError.
        """
        k, dataset = _length(k), Dataset.open(dataset) if isinstance(dataset, (str, Path)) else dataset
        if exclude is not None and not isinstance(exclude, str):
            exclude = self._same_type(list(exclude))
        self._hidden([], exclude)  # refuses a wrong one before anything is computed
        rows, stored = bulk.user_rows(dataset, users), self._stored(dataset)

        def make(users: Ints) -> pl.DataFrame:
            histories = stored.known(users, at)
            times = self._times(histories, self._retrieval.of_model(histories), at)
            found = self._retrieval.best(histories, times, self._hidden(histories, exclude), k)
            return bulk.recommended(dataset, self.catalogue, users, found)

        named = bulk.identity(self, dataset, rows, at, k=k, exclude=exclude)
        return bulk.finished(make, rows, named, out, overwrite=overwrite, progress=progress)

    @overload
    def rank_users(
        self, dataset: Dataset | Path | str, candidates: Iterable[ItemId] | pl.DataFrame, k: int | None = None, *,
        users: Iterable[ItemId] | pl.Series | None = None, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: By | None = None, out: None = None, overwrite: bool = False,
        progress: Progress | None = None,
    ) -> pl.DataFrame: ...  # fmt: skip

    @overload
    def rank_users(
        self, dataset: Dataset | Path | str, candidates: Iterable[ItemId] | pl.DataFrame, k: int | None = None, *,
        users: Iterable[ItemId] | pl.Series | None = None, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: By | None = None, out: Path | str, overwrite: bool = False,
        progress: Progress | None = None,
    ) -> None: ...  # fmt: skip

    @arguments(**_FOR_USERS)
    def rank_users(
        self, dataset: Dataset | Path | str, candidates: Iterable[ItemId] | pl.DataFrame, k: int | None = None, *,
        users: Iterable[ItemId] | pl.Series | None = None, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: By | None = None, out: Path | str | None = None,
        overwrite: bool = False, progress: Progress | None = None,
    ) -> pl.DataFrame | None:  # fmt: skip
        """Candidates for every user of a dataset, ranked as by `rank`; the first k of them, or all (None).

        `candidates`: a list of item ids for all users, or a frame of pairs (user_id, item_id), a line for each
        candidate; of pairs only the users that they name are asked. Items that the catalogue lacks are left out.
        A line for each candidate: user_id, rank, item_id, score (what orders them), title, then each predicted score.
        `users`, `at`, `out`, `overwrite`, `progress`: as in `recommend_users`; `context`, `by`: as in `rank`.
        """
        names, dataset = self._score_names(), Dataset.open(dataset) if isinstance(dataset, (str, Path)) else dataset
        weights = names.chosen(by)
        rows, length = bulk.user_rows(dataset, users), None if k is None else _length(k)
        codes = context_codes(context or {}, self._fields, self.model.wants)
        listed = bulk.candidates_of(candidates, dataset, rows, self.rows_of)
        rows, stored = rows[np.isin(rows, list(listed))], self._stored(dataset)

        def make(users: Ints) -> pl.DataFrame:
            histories = stored.known(users, at)
            times = self._times(histories, np.ones(len(histories), dtype=bool), at)
            asked = [Asked(listed[user], codes) for user in users.tolist()]
            found, best = self._ranked(histories, times, asked, names, weights)
            score = ranking.values(found, weights)
            return bulk.ranked(dataset, self.catalogue, users, asked, [line[:length] for line in best], score, found)

        digest = bulk.digest([listed[row].tolist() for row in rows.tolist()])
        named = bulk.identity(self, dataset, rows, at, k=k, by=weights, context=codes, candidates=digest)
        return bulk.finished(make, rows, named, out, overwrite=overwrite, progress=progress)

    def _stored(self, dataset: Dataset) -> StoredHistories:
        return StoredHistories(dataset, self.rows_of, self._fields, self.model.wants)

    def _score_names(self) -> ranking.ScoreNames:
        """What the scores are called. Raises ConfigError where the model scores no feedback."""
        if isinstance(self.model, Baseline) or not self.model.predicted:
            raise ConfigError(
                "This artifact scores no feedback; train one whose recipe sets model.feedback, of fields with success "
                "or numbers."
            )
        return ranking.ScoreNames.of(self.model.predicted, self._fields.fields)

    def _ranked(
        self,
        histories: Sequence[Known],
        at: list[int] | None,
        asked: Sequence[Asked],
        names: ranking.ScoreNames,
        weights: Mapping[str, float],
    ) -> tuple[dict[str, Floats32], list[Ints]]:
        """Name -> scores of all candidates; of each history the places of its candidates, best first."""
        assert not isinstance(self.model, Baseline)
        none = dict.fromkeys(self.model.predicted, np.zeros(0, dtype=np.float32))
        raw = ranking.scores(self.model, histories, at, asked) if histories else {}
        found = names.scores(none | ranking.calibrated(raw, self.calibration))
        return found, ranking.orders(ranking.values(found, weights), asked)

    def rows_of(self, ids: Iterable[ItemId]) -> Ints:
        """[n] item ids -> [n] catalogue rows, -1 for unknown ids. Raises DataError for ids of another type."""
        if isinstance(ids, (str, bytes)) or not isinstance(ids, Iterable):
            raise unlike("the ids", ids, "a list of item ids")
        return np.array([self._row.get(id_, -1) for id_ in self._same_type(list(ids))], dtype=np.int64)

    def id_from_text(self, text: str) -> ItemId:
        """The item id that a command line means by `text`. Raises DataError."""
        return from_text(self.catalogue["item_id"], text, "item")

    def titles(self, ids: Iterable[ItemId]) -> list[str | None]:
        """Titles of items; None for an unknown item and where the catalogue has no titles."""
        rows = self.rows_of(ids)
        return [self._titles[row] if row >= 0 else None for row in rows]

    @property
    def reads_time(self) -> bool:
        """Whether histories and requests need times: for time itself, or to tell what had changed by then."""
        return self.model.config.uses_time or self.model.wants.series

    @property
    def changing(self) -> list[str]:
        """Facts of users that change."""
        return [one.name for one in self._fields.series_fields]

    @cached_property
    def _fields(self) -> Fields:
        return files.described(self.schema)

    @cached_property
    def _ids(self) -> list[ItemId]:
        return self.catalogue["item_id"].to_list()

    @cached_property
    def _titles(self) -> list[str | None]:
        if "title" not in self.catalogue.columns:
            return [None] * self.catalogue.height
        return self.catalogue["title"].cast(pl.String).to_list()

    @cached_property
    def _row(self) -> dict[ItemId, int]:
        return {id_: row for row, id_ in enumerate(self._ids)}

    @cached_property
    def _training_events(self) -> Tensor:
        """[V] training events of each item."""
        return torch.from_numpy(self.catalogue["training_events"].to_numpy().astype(np.float32))

    @cached_property
    def _trained(self) -> Bools:
        """[V] whether an item has training events."""
        return self._training_events.numpy() > 0

    @cached_property
    def _retrieval(self) -> Retrieval:
        return Retrieval(self.model, self._training_events)

    def _histories(self, given: History | Iterable[Any]) -> list[Known]:
        return [known(one, self.rows_of, self._fields, self.model.wants) for one in as_histories(given)]

    def _same_type(self, ids: list[Any]) -> list[ItemId]:
        plain = [plain_value(id_) for id_ in ids]
        expected = type(self._ids[0])
        wrong = [id_ for id_ in plain if type(id_) is not expected]
        if wrong:
            raise DataError(
                f"Found the item id {wrong[0]!r} of type {type(wrong[0]).__name__}; ids of this catalogue are of type "
                f"{expected.__name__}, such as {self._ids[0]!r}."
            )
        return plain

    def _times(self, histories: Sequence[Known], asked_of: Bools, at: Time | Iterable[Time] | None) -> list[int] | None:
        """[B] times of the requests; None where they make no difference: to models that read no time, and histories
        of which all feedback is known.
        """
        asked = [one for one, read in zip(histories, asked_of, strict=True) if read]
        if not self.reads_time and at is not None and all(one.times is not None for one in asked):
            asked = asked if any(one.late for one in asked) else []
        elif not self.reads_time:
            asked = []
        if not asked:
            return None
        if any(one.times is None for one in asked):
            raise DataError(
                "This model reads time, and the history has none: give the time of each of its events "
                "(facta.History(items, times); --times, one per item of --history)."
            )
        if at is None:
            raise DataError(
                "This model reads time: give the request its own time (at=, or --at, as in --at now), the moment when "
                "the recommendations will be shown."
            )
        each = _each(at, len(histories))
        if len(each) != len(histories):
            raise DataError(
                f"Found {len(each)} request times for {len(histories)} histories; expected one for all or one each."
            )
        moments = [moment(one) for one in each]
        for one, asked_at in zip(histories, moments, strict=True):
            if one.times is not None and len(one.times) and asked_at < one.times[-1]:
                raise DataError(
                    f"Found a request at {asked_at} before the newest event of its history, {one.times[-1]} "
                    "(both in milliseconds since 1970); a request comes after the events that it may know."
                )
        return moments

    def _hidden(self, histories: Sequence[Known], exclude: Exclude | None) -> list[Ints]:
        """[B] rows that may not be recommended to each."""
        if exclude is None:
            newest = ProtocolConfig.parse(self.config["protocol"]).masked_events
            return [one.rows if newest is None else one.rows[max(len(one.rows) - newest, 0) :] for one in histories]
        if not isinstance(exclude, str):
            rows = self.rows_of(exclude)
            return [rows[rows >= 0]] * len(histories)
        if exclude not in ("history", "nothing"):
            raise ConfigError(f"Found exclude = {exclude!r}; expected 'history', 'nothing' or a list of item ids.")
        if exclude == "history":
            return [one.rows for one in histories]
        return [np.zeros(0, dtype=np.int64)] * len(histories)


def _length(k: Any) -> int:
    try:
        length = operator.index(k)  # integers of Python, NumPy and torch
    except TypeError:
        length = 0
    if length < 1:
        raise ConfigError(f"Found k = {k!r}; expected a whole number, at least 1.")
    return length


def _each(at: Any, count: int) -> list[Time]:
    """The times of `count` requests: a list or an array has one each; all else, like an array's scalar, is for all."""
    several = isinstance(at, Iterable) and not isinstance(at, (str, bytes)) and getattr(at, "ndim", 1) > 0
    return list(at) if several else [at] * count
