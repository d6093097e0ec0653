"""Pairwise rules: users with item i had item j soon after. Counted, not trained; hard to beat on small catalogues.

They are the sequential rules (SR) of Kamehkhosh, Jannach & Ludewig ("A Comparison of Frequent Pattern Techniques and a
Deep Learning Method for Session-Based Recommendation", RecTemp 2017) and of Ludewig & Jannach ("Evaluation of
session-based recommendation algorithms", UMUAI 28, 2018, section 3.1), where rule(i → j) = Σ 1 / d over the pairs of a
session with j d places after i, and only the last item is read. Four things are added, each as a setting: other powers
of d, weighted pairs in the opposite order, damping by popularity as in item-to-item collaborative filtering (Deshpande
& Karypis 2004), and more events of a history than the last.

Letters: V items, E training events, S targets of a batch, K rules kept of each item, C ways to count (below).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal, NamedTuple, Self

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from facta import arrays
from facta.arrays import Floats, Ints
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.statistics import Statistics, TrainingEvents
from facta.models.counted import CountedConfig, neighbour_scores, neighbour_similarities, tuned_in_turn
from facta.models.model import Judge, Model
from facta.types import SequenceBatch

PAIRS_AT_ONCE = 2_000_000  # temporaries of 16 MB each


class Counting(NamedTuple):
    """How a pair of events d places apart counts: d^-power for j after i, backward · d^-power for j before i."""

    distance: int  # the farthest pair
    power: float
    backward: float

    def weights(self, farthest: int) -> Floats:
        """[2 · farthest + 1] the weight by j's place minus i's, from -farthest to farthest."""
        step = np.arange(1.0, farthest + 1)
        after = np.where(step <= self.distance, step**-self.power, 0.0)
        return np.concatenate([self.backward * after[::-1], [0.0], after])


class RulesConfig(CountedConfig):
    kind: Literal["rules"] = "rules"
    window: int = Field(default=20, ge=1, description="newest events of a history that are read")
    neighbours: int = Field(default=200, ge=1, description="K, rules kept of each item")
    distance: int = Field(default=20, ge=1, description="largest distance in places of two events that count as a pair")
    power: float = Field(default=0.75, ge=0, description="a pair d places apart counts d^-power; 1: as published")
    backward: float = Field(default=0.25, ge=0, description="weight of pairs in the opposite order; 0: as published")
    damping: float = Field(default=0.2, ge=0, description="power of the popularity of j that divides a rule i -> j")
    source_damping: float = Field(default=0.5, ge=0, description="the same of i")
    prior_events: float = Field(default=5.0, ge=0, description="added to each popularity, against rare items")
    history_power: float = Field(default=1.0, ge=0, description="the p-th newest event counts p^-history_power")

    @property
    def counting(self) -> Counting:
        return Counting(self.distance, self.power, self.backward)

    def build(self, catalogue: Catalogue, seed: int = 0) -> Rules:
        return Rules(self, catalogue.items)

    def tuned(self, statistics: Statistics, judge: Judge) -> Model:
        """The best of SEARCH, one setting after the other."""
        count = partial(Rules.fit_all, statistics=statistics)
        return tuned_in_turn(count, RulesConfig(positive=self.positive), SEARCH, judge)


SEARCH: dict[str, tuple[float, ...] | tuple[int, ...]] = {
    "damping": (0.0, 0.1, 0.2, 0.3, 0.5),
    "source_damping": (0.0, 0.25, 0.5, 0.75, 1.0),
    "backward": (0.0, 0.1, 0.25, 0.5, 1.0),
    "window": (3, 5, 10, 20, 50),
    "history_power": (0.5, 0.75, 1.0, 1.5, 2.5),
    "power": (0.25, 0.5, 0.75, 1.0, 2.0),
}
"""Values tried on validation, setting by setting in this order, from the defaults of `RulesConfig`."""


class Rules(Model):
    """score(j) = Σ over the newest events i of a history of p(i)^-history_power · rule(i → j), p from 1 (the newest).

    rule(i → j) = Σ over users and pairs of training events (i at place p, j at place q, |q - p| ≤ distance) of |q -
    p|^-power (· backward where q < p), divided by (n_i + prior_events)^source_damping and by (n_j +
    prior_events)^damping; n counts training events. The K strongest rules of each item are kept; of equal rules the one
    to the lower row comes first. An item may have a rule to itself: the protocol's mask decides whether it may be
    recommended again.
    """

    config: RulesConfig
    neighbours: Tensor  # [V, K] int32 rows
    weight: Tensor  # [V, K] rule(i -> j), descending; 0 after the last rule

    def __init__(self, config: RulesConfig, num_items: int) -> None:
        super().__init__()
        self.config, self.window = config, config.window
        kept = min(config.neighbours, num_items)
        self.register_buffer("neighbours", torch.zeros(num_items, kept, dtype=torch.int32))
        self.register_buffer("weight", torch.zeros(num_items, kept))

    def fit_statistics(self, statistics: Statistics) -> Self:
        """Count the pairs and keep the strongest; work grows with E · distance."""
        fit_rules([self], statistics)
        return self

    @classmethod
    def fit_all(cls, configs: Sequence[RulesConfig], statistics: Statistics) -> list[Self]:
        """A fitted model for each setting. Pairs are counted once, and settings that differ only in reading a history
        share their rules.
        """
        models = [cls(config, statistics.items) for config in configs]
        bases: dict[RulesConfig, Self] = {}
        for model in models:
            bases.setdefault(model._read_as_default, model)
        fit_rules(list(bases.values()), statistics)
        for model in models:
            base = bases[model._read_as_default]
            model.neighbours, model.weight = base.neighbours, base.weight
        return models

    @property
    def _read_as_default(self) -> RulesConfig:
        """The settings that the counted rules depend on: those of reading a history are set to their defaults."""
        return self.config.change(window=1, history_power=0.0)

    @torch.no_grad()
    def catalogue_scores(self, batch: SequenceBatch) -> Tensor:
        """[S, V]; zeros, all tied, for an empty history. Targets see the first `num_visible` events of their row."""
        return neighbour_scores(batch, self.neighbours, self.weight, self.place_weights)

    @property
    def similar_by(self) -> str:
        return "rule from the item to the other one: how often people have it nearby"

    def item_similarities(self, rows: Tensor) -> Tensor:
        """[n] rows -> [n, V]; -inf where no rule is kept."""
        return neighbour_similarities(rows, self.neighbours, self.weight)

    def place_weights(self, place: Tensor) -> Tensor:
        """[E] places, 0 for the newest event -> [E] weights of each event's rules."""
        return torch.where(place < self.window, (place + 1.0) ** -self.config.history_power, 0.0)


def fit_rules(models: Sequence[Rules], statistics: Statistics) -> None:
    """Fit several models, of equal or different settings, from one pass over the pairs."""
    (positive,) = {model.config.positive for model in models}
    popularity = statistics.counts_of(positive).numpy()
    countings = list(dict.fromkeys(model.config.counting for model in models))
    for source, target, sums in pair_sums(statistics.events(positive), statistics.items, countings):
        for model in models:
            config = model.config
            counted = sums[:, countings.index(config.counting)]
            divisor = (popularity[source] + config.prior_events) ** config.source_damping
            divisor *= (popularity[target] + config.prior_events) ** config.damping
            _keep(model, source, target, counted / divisor)


def _keep(model: Rules, source: Ints, target: Ints, rule: Floats) -> None:
    """Write the strongest rules of each source; sources, and the targets of each, are ascending."""
    value = rule.astype(np.float32)
    order = np.lexsort((-value, source))
    starts = np.flatnonzero(np.diff(source, prepend=-1))  # symmetric in the order
    place = np.arange(len(source)) - np.repeat(starts, np.diff(np.append(starts, len(source))))
    kept = (place < model.weight.shape[1]) & (value[order] > 0)
    row, column, order = source[order][kept], place[kept], order[kept]
    model.neighbours[row, column] = torch.from_numpy(target[order].astype(np.int32))
    model.weight[row, column] = torch.from_numpy(value[order])


def pair_sums(events: TrainingEvents, items: int, countings: Sequence[Counting]) -> Iterator[tuple[Ints, Ints, Floats]]:
    """All pairs of items among the events, in blocks (source i [P], target j [P], sums of weights [P, C]).

    Places are of the given events; `items` is V. Ascending by (i, j), each pair once, all pairs of an item in the same
    block. Memory: PAIRS_AT_ONCE pairs of events, and the distinct pairs of one item more.
    """
    farthest = max(counting.distance for counting in countings)
    tables = [counting.weights(farthest) for counting in countings]
    before, after = _spans(events, farthest)
    item = events.item
    by_item = np.argsort(item, kind="stable")
    work = arrays.offsets_of((before + after)[by_item])
    keys, sums = np.empty(0, dtype=np.int64), np.empty((0, len(tables)))
    first = 0
    while first < len(by_item):
        last = max(first + 1, int(np.searchsorted(work, work[first] + PAIRS_AT_ONCE, side="right")) - 1)
        event = by_item[first:last]
        count = before[event] + after[event] + 1  # the event itself is one of them, with weight 0
        other = arrays.spans(event - before[event], count)
        key = np.repeat(item[event] * items, count) + item[other]
        step = other - np.repeat(event, count) + farthest
        distinct, place = np.unique(np.concatenate([keys, key]), return_inverse=True)
        counted = [
            np.bincount(place, np.concatenate([carried, table[step]]), minlength=len(distinct))
            for carried, table in zip(sums.T, tables, strict=True)
        ]
        keys, sums, first = distinct, np.stack(counted, axis=1), last
        open_item = item[by_item[first]] if first < len(by_item) else items  # its pairs may be incomplete
        done = int(np.searchsorted(keys, open_item * items))
        seen = sums[:done].any(axis=1)
        yield keys[:done][seen] // items, keys[:done][seen] % items, sums[:done][seen]
        keys, sums = keys[done:], sums[done:]


def _spans(events: TrainingEvents, farthest: int) -> tuple[Ints, Ints]:
    """[E], [E] the number of events of the same user up to `farthest` places before and after each event."""
    length = np.diff(events.offsets)
    place = arrays.places(events.offsets)
    left = np.repeat(length, length) - 1 - place
    return np.minimum(place, farthest), np.minimum(left, farthest)
