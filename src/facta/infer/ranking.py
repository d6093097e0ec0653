"""Candidates in the order of their predicted feedback: names of scores, weights of them, orders.

Letters: B histories, M candidates of one, S of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from facta.arguments import unlike
from facta.arrays import Floats, Floats32, Ints
from facta.artifact.calibration import Calibrator
from facta.data.batches.request import Asked
from facta.data.dataset.conditional import factors, score_names
from facta.data.dataset.ids import ItemId, plain_value
from facta.data.dataset.schema import Field
from facta.errors import ConfigError, DataError
from facta.infer import frames

ScoreWeights = str | Mapping[str, float]


@dataclass(frozen=True)
class Ranking:
    """The candidates of each history, best first."""

    by: Mapping[str, float]  # what the order is of: Σ weight · score
    ids: list[list[ItemId]]
    titles: list[list[str | None]]  # None where the catalogue has no title
    scores: Mapping[str, list[list[float]]]  # name -> how probable success is, or the value to be expected
    products: Mapping[str, tuple[str, ...]]  # of the scores: those that are products of others, as like of two
    left_out: list[int]  # candidates that are not in the catalogue
    untrained: list[int]  # candidates without training events: known by their features alone, if the model reads any
    unknown: list[int]  # events left out because their item is not in the catalogue
    item_type: pl.DataType = field(default_factory=pl.Int64, repr=False, compare=False)  # of ids in a frame

    def frame(self) -> pl.DataFrame:
        """A line for each candidate: request (from 0), rank (from 1), item_id, score (what orders them), title (null
        where there is none), then each predicted score, as in `rank_users`. A request without candidates has no line.
        """
        lines = frames.lines(self.ids, self.titles, self.values, self.item_type)
        return frames.with_scores(lines, {name: joined(lists) for name, lists in self.scores.items()})

    @property
    def values(self) -> list[list[float]]:
        """What orders the candidates of each history."""
        scores = {name: joined(lists) for name, lists in self.scores.items()}
        return _cut(values(scores, self.by), frames.lengths(self.ids))


def joined(lists: Sequence[Sequence[float]]) -> Floats32:
    """The scores of all lists."""
    return np.array([score for one in lists for score in one], dtype=np.float32)


def _cut(values: Floats, lengths: Ints) -> list[list[float]]:
    return [one.tolist() for one in np.split(values, np.cumsum(lengths)[:-1])]


def lists_of(candidates: Iterable[Any], histories: int) -> list[list[ItemId]]:
    """[B] lists of ids: one list of candidates for all histories, or a list for each. Raises DataError."""
    if isinstance(candidates, (str, bytes)):
        raise DataError(f"Found the candidates {candidates!r}; expected a list of item ids, as in [{candidates!r}].")
    if not isinstance(candidates, Iterable):
        raise unlike("the candidates", candidates, "a list of item ids")
    entries = [plain_value(entry) for entry in candidates]
    several = [isinstance(entry, Iterable) and not isinstance(entry, (str, bytes)) for entry in entries]
    if not any(several):
        return [entries] * histories
    if not all(several) or len(entries) != histories:
        raise DataError(
            f"Found {sum(several)} lists of candidates{'' if all(several) else ' beside item ids'} for {histories} "
            "histories; expected one list of item ids for all, or one list for each history."
        )
    return [list(entry) for entry in entries]


def contexts_of(
    context: Mapping[str, Any] | Iterable[Mapping[str, Any]] | None, histories: int
) -> list[Mapping[str, Any]]:
    """[B] the context of each request: one for all, or one each. Raises DataError."""
    if context is None or isinstance(context, Mapping):
        return [context or {}] * histories
    each: list[Any] = list(context) if isinstance(context, Iterable) else [context]
    if len(each) != histories or not all(isinstance(one, Mapping) for one in each):
        raise DataError(
            f"Found the context {each!r:.80} for {histories} histories; expected values by field, as in {{'tab': 1}}, "
            "for all of them, or such a mapping for each."
        )
    return each


def weights_of(by: ScoreWeights | None, fields: Sequence[str]) -> dict[str, float]:
    """What candidates are ordered by, as weights of scores; None: the first score. Raises ConfigError."""
    weights = {fields[0]: 1.0} if by is None else {by: 1.0} if isinstance(by, str) else by
    known = isinstance(weights, Mapping) and bool(weights) and set(weights) <= set(fields)
    if not known or not all(isinstance(weight, (int, float)) for weight in weights.values()):
        raise ConfigError(
            f"Found by = {by!r}; expected what this artifact predicts ({', '.join(dict.fromkeys(fields))}), or weights "
            f"of it, as in {{'{fields[0]}': 1.0}}."
        )
    return dict(weights)


@dataclass(frozen=True)
class ScoreNames:
    """The scores of an artifact by name: each field's own, and those of conditional fields for every event."""

    own: Mapping[str, str]  # predicted field -> "click", "like if click"
    products: Mapping[str, tuple[str, ...]]  # "like" -> ("click", "like if click"), of which it is the product
    refused: Mapping[str, str]  # conditional field without such a product -> why, as a sentence

    @classmethod
    def of(cls, predicted: Sequence[str], fields: Sequence[Field]) -> ScoreNames:
        """Of an artifact's predicted fields among all fields of its dataset."""
        every = score_names(fields)
        own = {name: every[name] for name in predicted}
        products, refused = {}, {}
        for name in predicted:
            if own[name] == name:
                continue
            try:
                products[name] = tuple(every[factor] for factor in reversed(factors(name, fields, predicted)))
            except ConfigError as error:
                refused[name] = str(error)
        return cls(own, products, refused)

    def chosen(self, by: ScoreWeights | None) -> dict[str, float]:
        """What candidates are ordered by, as weights of scores.

        None: what the first field is in every event, or its score as it stands where that is unknown. Raises
        ConfigError for names that the artifact does not predict, and for a conditional field that no product gives.
        """
        names = [*dict.fromkeys([*self.own.values(), *self.products])]
        asked = [by] if isinstance(by, str) else [*by] if isinstance(by, Mapping) else []
        if refused := [self.refused[name] for name in asked if name in self.refused]:
            raise ConfigError(f"Found by = {by!r}: {refused[0]}")
        first = next(iter(self.own))
        return weights_of(by, [first if first in names else self.own[first], *names])

    def scores(self, found: Mapping[str, Floats32]) -> dict[str, Floats32]:
        """Field -> [S] becomes name -> [S], the products among them."""
        named = {self.own[field]: column for field, column in found.items()}
        for name, parts in self.products.items():
            product = np.prod([named[part].astype(np.float64) for part in parts], axis=0)
            named[name] = product.astype(np.float32)
        return named


def values(found: Mapping[str, Floats32], weights: Mapping[str, float]) -> Floats:
    """[S] what candidates are ordered by: Σ weight · score."""
    count = len(next(iter(found.values())))
    return sum((weight * found[name].astype(np.float64) for name, weight in weights.items()), np.zeros(count))


def calibrated(found: Mapping[str, Floats32], by: Mapping[str, Calibrator]) -> dict[str, Floats32]:
    """Field -> [S] scores, of the fields that have a calibrator after it."""
    return {name: by[name](p.astype(np.float64)).astype(np.float32) if name in by else p for name, p in found.items()}


def orders(value: Floats, asked: Sequence[Asked]) -> list[Ints]:
    """[B] the candidates of each history, best first, as places among all S; equal ones stay in their order."""
    ends = np.cumsum([len(one.rows) for one in asked])
    spans = [np.arange(end - len(one.rows), end) for one, end in zip(asked, ends, strict=True)]
    return [span[np.argsort(-value[span], kind="stable")] for span in spans]
