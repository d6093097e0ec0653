"""Successes of feedback among training events, counted by item, coded feature and context, in each period.

Counted once, before training. `layers.rates` turns these sums into features of a target.

Letters: n events, K fields with success, Q keys (item, each coded feature of it, each field of context),
C values of all keys, F periods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from facta.arrays import Ints
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.features import Feature
from facta.data.dataset.schema import Field
from facta.data.split.late import known_at, known_codes, period_moments, waiting_on
from facta.data.split.splits import Split, training_events
from facta.types import Events

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MOST_PERIODS = 16  # F at most: periods are days, or the fewest days that keep this limit


@dataclass(frozen=True)
class Periods:
    """The days of training, or where these are more than MOST_PERIODS, stretches of equally many days."""

    midnight: int = 0  # UTC hour at which a day begins
    first: int = 0  # date of the first period
    days: int = 1  # of each period

    def dates(self, events: Events) -> Tensor:
        """[n] days since 1970."""
        assert events.time is not None  # models with counts read time
        return (events.time - self.midnight * HOUR_MS) // DAY_MS

    def of(self, events: Events) -> Tensor:
        """[n] the period of each event; events outside of training get the first or the last one."""
        return ((self.dates(events) - self.first) // self.days).clamp(0, MOST_PERIODS - 1)

    def over(self, events: Events) -> Periods:
        """The periods of the given events."""
        dates = self.dates(events)
        if not len(dates):
            return self
        first = int(dates.min())
        return replace(self, first=first, days=-(-int(dates.max() - first + 1) // MOST_PERIODS))


@dataclass(frozen=True, eq=False)
class FeedbackKeys:
    """The keys that successes are counted by."""

    fields: tuple[Field, ...]  # K, with success
    context: tuple[Field, ...]
    features: tuple[Feature, ...]  # of items, coded
    items: int  # V

    @classmethod
    def of(cls, catalogue: Catalogue, fields: Sequence[Field]) -> FeedbackKeys:
        coded = [one for one in catalogue.features.values() if one.field.kind not in ("multi", "vector")]
        context = [field for field in catalogue.fields if field.role == "context"]
        return cls(tuple(fields), tuple(context), tuple(coded), catalogue.items)

    @property
    def starts(self) -> list[int]:
        """[Q+1] offsets of the values of each key; the last is C."""
        sizes = [self.items, *(one.field.codes for one in self.features), *(one.codes for one in self.context)]
        return list(accumulate(sizes, initial=0))

    def rows(self, events: Events, base: Tensor, codes: Sequence[Tensor]) -> Tensor:
        """[n, Q] rows of the counts. `base` [Q]: `starts` without the last; `codes`: the values [V] of each feature."""
        columns = [events.item, *(values[events.item] for values in codes)]
        columns += [events.fields[field.name] for field in self.context]
        return torch.stack(columns, dim=1) + base

    def labels(self, events: Events) -> Tensor:
        """[n, K, 2]: 1 where feedback was a success, and 1 where it was defined."""
        found = []
        for field in self.fields:
            code = events.fields[field.name]
            success = torch.isin(code, torch.tensor(field.positives, device=code.device))
            found.append(torch.stack([success, code > 0], dim=1))
        return torch.stack(found, dim=1).float()


@dataclass(frozen=True, eq=False)
class FeedbackCounts:
    """Sums over the training events; the last axis is (successes, events that define the field)."""

    total: Tensor  # [C, K, 2]
    overall: Tensor  # [K, 2] of all training events
    hidden_counts: Tensor  # [F, C, K, 2] the part of `total` that is hidden from events of each period
    periods: Periods


def feedback_counts(
    dataset: Dataset, split: Split, keys: FeedbackKeys, periods: Periods, *, ordered: bool
) -> FeedbackCounts:
    """Counts of the training events, with the feedback known when training ended.

    To avoid target leakage, an event does not see the counts of its own period. With `ordered` (ordered target
    statistics) it sees those of earlier periods only, and late feedback counts in the period in which it became known.
    `periods` gives the hour at which days begin.
    """
    places = training_events(dataset, split)
    names = [field.name for field in (*keys.context, *keys.fields)]
    until = period_moments(dataset, names, split.train_end, split.train_cut)
    moment = None if until is None else np.repeat(until, split.train_end)
    events = _events(dataset, places, names, moment)
    *starts, size = keys.starts
    rows = keys.rows(events, torch.tensor(starts), [one.values for one in keys.features])
    label, periods = keys.labels(events), periods.over(events)
    own = periods.of(events)[:, None].expand(-1, len(keys.fields))
    if ordered and moment is not None:
        at_once = keys.labels(_events(dataset, places, names, np.asarray(dataset.timestamp)[places] + 1))
        settled = [periods.of(_settled(dataset, field, places, events)) for field in keys.fields]
        counted = _tally(rows, own, at_once, size)
        counted = counted + _tally(rows, torch.stack(settled, dim=1), label - at_once, size)
    else:
        counted = _tally(rows, own, label, size)
    hidden_counts = counted.flip(0).cumsum(0).flip(0) if ordered else counted
    return FeedbackCounts(counted.sum(0), label.sum(0), hidden_counts, periods)


def _events(dataset: Dataset, places: Ints, names: Sequence[str], moment: Ints | None) -> Events:
    """Events at given places, with the feedback known at `moment` [n] ms."""
    columns = {name: torch.from_numpy(known_codes(dataset, name, places, moment)) for name in names}
    item = torch.from_numpy(dataset.item[places].astype(np.int64))
    time = None if dataset.timestamp is None else torch.from_numpy(np.asarray(dataset.timestamp[places]))
    return Events(item, time, item, columns)


def _settled(dataset: Dataset, field: Field, places: Ints, events: Events) -> Events:
    """The events, each at the time when its values of a field and of the fields that it depends on were known."""
    assert events.time is not None
    known = [known_at(dataset, name, places) for name in waiting_on(field)]
    return replace(events, time=torch.from_numpy(np.maximum.reduce([events.time.numpy(), *known])))


def _tally(rows: Tensor, period: Tensor, label: Tensor, size: int) -> Tensor:
    """[n, Q] rows, [n, K] periods, [n, K, 2] labels -> [F, C, K, 2]: sums."""
    found = torch.zeros(MOST_PERIODS * size, *label.shape[1:])
    for row in rows.unbind(1):
        for field, own in enumerate(period.unbind(1)):
            for part in range(2):
                weight = label[:, field, part].double()
                found[:, field, part] += torch.bincount(row + own * size, weight, minlength=len(found)).float()
    return found.view(MOST_PERIODS, size, *label.shape[1:])
