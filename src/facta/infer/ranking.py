"""Candidates in the order of their predicted feedback: many share one reading of a history, and none sees another
(M-FALCON, Zhai et al. 2024, section 3.4).

Letters: B histories, M candidates of one, S of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from facta import arrays
from facta.arguments import unlike
from facta.arrays import Floats, Floats32, Ints
from facta.errors import ConfigError, DataError
from facta.eval.predictions import Predictor
from facta.infer.history import ItemId, Known, plain_value
from facta.infer.request import Asked, request

MICROBATCH = 1024  # candidates of a history that are scored together; both bound memory and change no answer
EVENTS = 16_384  # inputs and candidates of a batch

By = str | Mapping[str, float]


@dataclass(frozen=True)
class Ranking:
    """The candidates of each history, best first."""

    by: Mapping[str, float]  # what the order is of: Σ weight · score
    ids: list[list[ItemId]]
    titles: list[list[str | None]]  # None where the catalogue has no title
    scores: Mapping[str, list[list[float]]]  # field -> how probable success is, or the value to be expected
    left_out: list[int]  # candidates that are not in the catalogue
    untrained: list[int]  # candidates without training events: known by their features alone, if the model reads any
    unknown: list[int]  # events left out because their item is not in the catalogue


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


def weights_of(by: By | None, fields: Sequence[str]) -> dict[str, float]:
    """What candidates are ordered by, as weights of fields; None: the first field. Raises ConfigError."""
    weights = {fields[0]: 1.0} if by is None else {by: 1.0} if isinstance(by, str) else by
    known = isinstance(weights, Mapping) and bool(weights) and set(weights) <= set(fields)
    if not known or not all(isinstance(weight, (int, float)) for weight in weights.values()):
        raise ConfigError(
            f"Found by = {by!r}; expected a field that this artifact predicts ({', '.join(fields)}), or weights of "
            f"them, as in {{'{fields[0]}': 1.0}}."
        )
    return dict(weights)


def scores(
    model: Predictor, histories: Sequence[Known], at: Sequence[int] | None, asked: Sequence[Asked]
) -> dict[str, Floats32]:
    """Field -> [S] scores of all candidates, history by history; `at`: the times of the requests, as in `request`.

    A candidate is one of the N events that the model sees: where histories are longer, the last place is its own, as
    that of the newest event is in training.
    """
    window = model.window - 1
    found: dict[str, list[Floats32]] = {}
    for places, part in _parts(histories, asked, window):
        moments = None if at is None else [at[place] for place in places]
        batch = request([histories[place] for place in places], moments, window, part)
        with torch.inference_mode():
            for name, column in model.scores(batch).items():
                found.setdefault(name, []).append(column.float().numpy())
    return {name: np.concatenate(columns) for name, columns in found.items()}


def _parts(histories: Sequence[Known], asked: Sequence[Asked], window: int) -> Iterator[tuple[list[int], list[Asked]]]:
    """What is scored together: places of histories, and some of the candidates of each; in order, all of them once."""
    pieces = [
        (place, Asked(one.rows[start : start + MICROBATCH], one.context))
        for place, one in enumerate(asked)
        for start in range(0, len(one.rows), MICROBATCH)
    ]
    events = [min(len(one.rows), window) + sum(map(len, one.lists.values())) for one in histories]
    sizes = [events[place] + len(part.rows) for place, part in pieces]
    batch = arrays.offsets_of(np.array(sizes, dtype=np.int64))[:-1] // EVENTS
    for together in np.split(np.arange(len(pieces)), np.flatnonzero(np.diff(batch)) + 1) if pieces else []:
        yield [pieces[one][0] for one in together], [pieces[one][1] for one in together]


def values(found: Mapping[str, Floats32], weights: Mapping[str, float]) -> Floats:
    """[S] what candidates are ordered by: Σ weight · score."""
    count = len(next(iter(found.values())))
    return sum((weight * found[name].astype(np.float64) for name, weight in weights.items()), np.zeros(count))


def orders(value: Floats, asked: Sequence[Asked]) -> list[Ints]:
    """[B] the candidates of each history, best first, as places among all S; equal ones stay in their order."""
    ends = np.cumsum([len(one.rows) for one in asked])
    spans = [np.arange(end - len(one.rows), end) for one, end in zip(asked, ends, strict=True)]
    return [span[np.argsort(-value[span], kind="stable")] for span in spans]
