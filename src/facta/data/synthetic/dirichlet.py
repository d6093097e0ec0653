"""The synthetic streaming task of the HSTU paper (Zhai et al. 2024, appendix C): records from a Dirichlet process over
item categories, a catalogue that grows while they stream by, and the Bayes oracle of the next item.

A record has a few categories, a prior H over them and a concentration α. Its n-th event takes its category from H with
probability α / (α + n - 1) and repeats that of a random earlier event otherwise (the Chinese restaurant process); the
item is any released item of that category. So only the counts of categories predict the next item.

Letters: V items, C categories, B records, N events of a record, K categories of a record at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from facta import arrays
from facta.arrays import Floats, Ints
from facta.config import Config
from facta.errors import ConfigError

CHUNK_RECORDS = 1024  # records drawn side by side


class DirichletConfig(Config):
    """Every constant of the task. The paper gives the first seven and leaves `fewest`, `prior` and `repeats` open; here
    they have the most literal reading.

    Published numbers name the version, which changes with any default.
    """

    items: int = Field(default=20_000, ge=1, description="V")
    categories: int = Field(default=100, ge=1, description="C; the category of an item is drawn uniformly")
    records: int = Field(default=1_000_000, ge=1)
    length: int = Field(default=128, ge=2, description="N")
    most: int = Field(default=5, ge=1, description="K: categories of a record at most")
    concentration: tuple[float, float] = Field(default=(1.0, 500.0), description="α is uniform between these")
    released: float = Field(default=0.4, gt=0, le=1, description="share of items released at first; the rest evenly")
    fewest: int = Field(default=1, ge=1, description="the number of categories is uniform from this to `most`")
    prior: Literal["dirichlet", "uniform"] = Field(
        default="dirichlet", description="H: Dirichlet(1), or uniform numbers divided by their sum"
    )
    repeats: bool = Field(
        default=True,
        description="items are drawn with replacement; false: none returns before its category is used up",
    )
    version: int = 1
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> DirichletConfig:
        if not self.fewest <= self.most <= self.categories:
            raise ConfigError(
                f"Found fewest {self.fewest}, most {self.most} and categories {self.categories}; they must ascend."
            )
        if not 0 < self.concentration[0] <= self.concentration[1]:
            raise ConfigError(f"Found concentration {self.concentration}; expected two ascending positive numbers.")
        return self


@dataclass(frozen=True)
class Records:
    """B records with their hidden variables."""

    number: Ints  # [B] place in the stream
    released: Ints  # [B] items released by then: the rows below this number
    concentration: Floats  # [B] α
    chosen: Ints  # [B, K] categories
    prior: Floats  # [B, K] H; 0 where the record has fewer than K
    slot: Ints  # [B, N] which of the K categories each event takes
    item: Ints  # [B, N]

    def __getitem__(self, rows: slice) -> Records:
        return Records(*(getattr(self, one.name)[rows] for one in fields(self)))

    def counts(self) -> Ints:
        """[B, N, K] earlier events of each category."""
        own = self.slot[:, :, None] == np.arange(self.prior.shape[1])
        counted: Ints = np.cumsum(own, axis=1) - own
        return counted


class DirichletWorld:
    """The categories, and any part of the stream as a function of (config, place)."""

    def __init__(self, config: DirichletConfig) -> None:
        self.config = config
        rng = np.random.default_rng([config.seed, config.version])
        self.category: Ints = rng.integers(0, config.categories, config.items)
        own = self.category[:, None] == np.arange(config.categories)
        self._sizes = np.concatenate([np.zeros((1, config.categories), np.int32), np.cumsum(own, 0, np.int32)])
        self._members = np.argsort(self.category, kind="stable")  # category by category, in the order of release
        self._first = arrays.offsets_of(self._sizes[-1])
        if not self._sizes[self.released(np.zeros(1, np.int64))[0]].all():
            raise ConfigError("Some category has no item at the start; raise items or released, or lower categories.")
        self._chunk = lru_cache(maxsize=2)(self._draw)

    def released(self, number: Ints) -> Ints:
        """[B] items released before each record."""
        first, records = round(self.config.released * self.config.items), self.config.records
        return first + -(-(self.config.items - first) * np.minimum(number, records) // records)

    def sizes(self, records: Records) -> Ints:
        """[B, K] released items of each category."""
        return self._sizes[records.released[:, None], records.chosen].astype(np.int64)

    def records(self, start: int, stop: int) -> Records:
        """Records [start, stop) of the stream."""
        spans = [
            (number, number * CHUNK_RECORDS) for number in range(start // CHUNK_RECORDS, -(-stop // CHUNK_RECORDS))
        ]
        parts = [self._chunk(number)[max(start - first, 0) : stop - first] for number, first in spans]
        return Records(*(np.concatenate([getattr(part, one.name) for part in parts]) for one in fields(Records)))

    def _draw(self, number: int) -> Records:
        """A whole chunk, a function of (config, number)."""
        config = self.config
        rng = np.random.default_rng([config.seed, config.version, 1 + number])  # 0 is the world's own key
        place = number * CHUNK_RECORDS + np.arange(CHUNK_RECORDS)
        chosen = np.argsort(rng.random((CHUNK_RECORDS, config.categories)), axis=1)[:, : config.most]
        weight = rng.exponential(size=chosen.shape) if config.prior == "dirichlet" else rng.random(chosen.shape)
        weight *= np.arange(config.most) < rng.integers(config.fewest, config.most + 1, (CHUNK_RECORDS, 1))
        prior = weight / weight.sum(axis=1, keepdims=True)
        alpha = rng.uniform(*config.concentration, CHUNK_RECORDS)
        slot = _restaurant(prior, alpha, config.length, rng)
        hidden = Records(place, self.released(place), alpha, chosen, prior, slot, item=slot)
        return replace(hidden, item=self._items(hidden, rng))

    def _items(self, records: Records, rng: np.random.Generator) -> Ints:
        """[B, N] an item of each event's category."""
        row, slot, sizes = np.arange(len(records.slot))[:, None], records.slot, self.sizes(records)
        if self.config.repeats:
            place = (rng.random(slot.shape) * sizes[row, slot]).astype(np.int64)
        else:  # the items of each category, shuffled once for a record, one after the other
            keys = rng.random((*sizes.shape, int(sizes.max())))
            keys[np.arange(keys.shape[2]) >= sizes[:, :, None]] = np.inf
            earlier = np.take_along_axis(records.counts(), slot[:, :, None], axis=2)[:, :, 0]
            place = np.argsort(keys, axis=2)[row, slot, earlier % sizes[row, slot]]
        found: Ints = self._members[self._first[records.chosen[row, slot]] + place]
        return found


def _restaurant(prior: Floats, alpha: Floats, length: int, rng: np.random.Generator) -> Ints:
    """[B, N] places among the K categories of each record."""
    earlier = np.arange(length)
    sums = np.cumsum(prior, axis=1)
    sums /= sums[:, -1:]  # exactly 1 from the last category on, so that no category of probability 0 is drawn
    shape = (len(prior), length)
    slot: Ints = (rng.random((*shape, 1)) >= sums[:, None, :-1]).sum(axis=2)
    again = rng.random(shape) * (alpha[:, None] + earlier) >= alpha[:, None]
    host = (rng.random(shape) * earlier).astype(np.int64)
    row = np.arange(len(prior))
    for n in range(1, length):
        slot[:, n] = np.where(again[:, n], slot[row, host[:, n]], slot[:, n])
    return slot


def next_item_probabilities(world: DirichletWorld, records: Records) -> tuple[Floats, Ints]:
    """[B, N, K] the probability of any one item of each category at event n, and the number of these items, given H and
    α.

    The category has probability (α H_c + n_c) / (α + n - 1), shared equally by its released items (without repeats, by
        those that are left).
    """
    alpha, earlier = records.concentration[:, None, None], np.arange(records.slot.shape[1])[:, None]
    counts, sizes = records.counts(), world.sizes(records)[:, None]
    left: Ints = sizes - counts % sizes * (not world.config.repeats)
    each: Floats = (alpha * records.prior[:, None] + counts) / (alpha + earlier) / left
    return each, left


def oracle(world: DirichletWorld, records: Records, ks: Sequence[int]) -> dict[int, Floats]:
    """k -> [B, N] the chance of the next item among the best k, given H, α and the earlier events (Bayes optimum)."""
    each, left = next_item_probabilities(world, records)
    return _hit_rates(each, left, each, ks)


def counting(world: DirichletWorld, records: Records, ks: Sequence[int]) -> dict[int, Floats]:
    """k -> [B, N] the hit rates of a rule that knows the categories but neither H nor α, and ranks by past counts."""
    (each, left), counts = next_item_probabilities(world, records), records.counts()
    return _hit_rates(each * (counts > 0), left, counts / left, ks)


def _hit_rates(each: Floats, left: Ints, score: Floats, ks: Sequence[int]) -> dict[int, Floats]:
    """k -> [B, N] hit rates of a list that takes the categories [B, N, K] by score, highest first."""
    order = np.argsort(-score, axis=2)
    each, left = np.take_along_axis(each, order, axis=2), np.take_along_axis(left, order, axis=2)
    before = np.cumsum(left, axis=2) - left
    return {k: (each * np.clip(k - before, 0, left)).sum(axis=2) for k in ks}


def probability(world: DirichletWorld, records: Records, items: Ints) -> Floats:
    """items [B, M, k] for the last M events -> [B, M, k] the probability of each item; 0 before its release.

    Summed over a list it is the expected hit rate of the list. Without repeats only items that are left count.
    """
    each = next_item_probabilities(world, records)[0][:, -items.shape[1] :]
    own = world.category[items][..., None] == records.chosen[:, None, None]
    found: Floats = (own * each[:, :, None]).sum(axis=3) * (items < records.released[:, None, None])
    return found
