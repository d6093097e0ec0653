"""A simulated service: an event log whose best possible prediction is known (`data/synthetic/floor`).

A user's taste is the state of a hidden Markov chain. Items reach a user over three surfaces: chosen by the user
(`organic`), and shown by two logging policies that do not depend on the taste (`popular`, and `similar` to the last
item clicked). Feedback is drawn from the probabilities in this file. An item has content features and one bias of its
own, appears on its birthday, and gets fewer clicks when its category was shown often (fatigue). Many events share their
second with another one.

Letters: Z tastes, C categories, V items, U users, E events, B users of a chunk. Times are milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from facta import arrays
from facta.arrays import Bools, Floats, Ints
from facta.config import Config

SURFACES = ("organic", "popular", "similar")
DAY, HOUR, SECOND = 86_400_000, 3_600_000, 1_000
CHUNK_USERS = 8192  # users simulated side by side
FATIGUE_EVENTS = 8  # events that fatigue looks back at
DRAWS_VERSION = 1  # part of every seed; version 2 moved the start to midnight without other draws


class SimulatorConfig(Config):
    """Every constant of the world. Published numbers name the version, which changes with any default."""

    version: int = 2
    seed: int = Field(default=0, ge=0, description="of the world (items, tastes, effects); users have their own seed")
    users: int = Field(default=20_000, ge=1)
    items: int = Field(default=10_000, ge=1)
    events_per_user: float = Field(default=50.0, ge=2, description="mean; lengths are log-normal")
    length_spread: float = Field(default=0.8, ge=0, description="σ of the logarithm of lengths")
    tastes: int = Field(default=6, ge=1)
    categories: int = Field(default=24, ge=1)
    durations: int = Field(default=5, ge=1, description="buckets of the second content feature")
    popularity: float = Field(default=0.9, ge=0, description="exponent of Zipf's law")
    born_before: float = Field(default=0.6, gt=0, le=1, description="share of items that are there from the start")
    days: int = Field(default=30, ge=1)
    start: int = Field(default=1_699_920_000_000, description="ms; midnight UTC")
    session: float = Field(default=10.0, ge=1, description="events of a visit, mean")
    tied: float = Field(default=0.15, ge=0, le=1, description="chance to share the second of the event before")
    surfaces: tuple[float, float, float] = Field(default=(0.4, 0.3, 0.3), description="shares of the three")
    similar: float = Field(default=0.7, ge=0, le=1, description="chance that `similar` stays in the category")
    taste_of_category: float = Field(default=1.3, ge=0, description="σ of taste x category, in logits")
    taste_of_duration: float = Field(default=0.5, ge=0)
    choice: float = Field(default=0.7, ge=0, description="how strongly taste decides what is chosen")
    bias: float = Field(default=0.4, ge=0, description="σ of the items' own biases, in logits")
    switch: float = Field(default=0.01, ge=0, le=1, description="chance that taste changes between two events")
    switch_visit: float = Field(default=0.15, ge=0, le=1, description="the same from one visit to the next")
    click: float = Field(default=-0.3, description="base logit")
    surface_effects: tuple[float, float, float] = (0.4, 0.0, -0.2)
    evening: float = Field(default=0.2, description="added to clicks from 18 to 23 o'clock")
    fatigue: float = Field(default=0.2, ge=0, description="for each of the last 8 events of the same category")
    long_view: float = Field(default=-0.2, description="base logit, of what was clicked")
    long_view_taste: float = Field(default=0.8, description="share of the click's taste and bias that counts here")
    rated: float = Field(default=0.2, ge=0, le=1, description="share of clicks that are rated")
    rating_steps: tuple[float, ...] = Field(default=(-2.0, -1.0, 0.0, 1.2), description="thresholds of 1 … 5")


@dataclass(frozen=True)
class Steps:
    """The parts of a chunk's events that do not depend on taste: [E] flat, user by user, with offsets [B+1]."""

    offsets: Ints
    time: Ints
    visit: Bools  # the first event of a visit
    surface: Ints
    alive: Ints  # items born until then; items are ordered by birth
    evening: Bools


class World:
    """The constants drawn from a seed, and the probabilities that follow."""

    def __init__(self, config: SimulatorConfig) -> None:
        self.config = config
        rng = np.random.default_rng([config.seed, DRAWS_VERSION])
        shape = (config.tastes, config.categories)
        share = rng.dirichlet(np.full(config.categories, 2.0))
        self.category: Ints = rng.choice(config.categories, config.items, p=share)
        self.duration: Ints = rng.integers(0, config.durations, config.items)
        self.bias: Floats = rng.normal(0, config.bias, config.items)
        late = np.sort(rng.random(config.items - round(config.items * config.born_before))) * config.days * DAY
        self.birth: Ints = np.concatenate([np.zeros(config.items - len(late)), late]).astype(np.int64)  # ascending
        self.weight: Floats = np.power(1.0 + rng.permutation(config.items), -config.popularity)
        of_category = rng.normal(0, config.taste_of_category, shape)
        of_duration = rng.normal(0, config.taste_of_duration, (config.tastes, config.durations))
        self.liking: Floats = of_category[:, self.category] + of_duration[:, self.duration]  # [Z, V]
        self.taste: Floats = rng.dirichlet(np.full(config.tastes, 4.0))  # [Z] at the start and after a change
        self.chosen = _Prefixes(self.weight * np.exp(config.choice * self.liking))
        self.popular = _Prefixes(self.weight[None])
        self.within = _Prefixes(np.where(self.category == np.arange(config.categories)[:, None], self.weight, 0.0))

    def items(self) -> pl.DataFrame:
        """item_id, title and content features."""
        names = np.arange(self.config.items)
        titles = [f"Item {name}, category {kind}" for name, kind in zip(names, self.category, strict=True)]
        return pl.DataFrame(
            {
                "item_id": names,
                "title": titles,
                "category": self.category,
                "duration": self.duration,
                "birth": self.config.start + self.birth,
            }
        )

    def switch(self, visit: Bools) -> Floats:
        """[B] chance that the taste changes before an event."""
        return np.where(visit, self.config.switch_visit, self.config.switch)

    def click_logit(self, surface: Ints, evening: Bools, tired: Ints, item: Ints) -> Floats:
        """[B] the part of a click's logit that does not depend on taste."""
        config = self.config
        effect = np.asarray(config.surface_effects)[surface] + config.evening * evening - config.fatigue * tired
        total: Floats = config.click + effect + self.bias[item]
        return total

    def long_view_logit(self, item: Ints) -> Floats:
        """[B] the part of a long view's logit that does not depend on taste, given a click."""
        return self.config.long_view + self.config.long_view_taste * self.bias[item]


class _Prefixes:
    """Draws from weights [R, V] of the items born so far: the first `alive` of them."""

    def __init__(self, weights: Floats) -> None:
        self.rows, self.items = weights.shape
        self.sums = np.concatenate([[0.0], np.cumsum(weights)])  # one ascending row after the other

    def total(self, row: Ints | int, alive: Ints) -> Floats:
        """Weight of all items born so far."""
        first = np.asarray(row) * self.items
        total: Floats = self.sums[first + alive] - self.sums[first]
        return total

    def draw(self, row: Ints | int, alive: Ints, u: Floats) -> Ints:
        """An item for each (row, alive) and uniform number in [0, 1)."""
        first = np.asarray(row) * self.items
        low, high = self.sums[first], self.sums[first + alive]
        place = np.searchsorted(self.sums, low + u * (high - low), side="right") - 1 - first
        found: Ints = np.clip(place, 0, alive - 1)
        return found


def steps_of(world: World, users: int, rng: np.random.Generator) -> Steps:
    """Lengths, times and surfaces of a chunk."""
    config = world.config
    center = np.log(config.events_per_user) - config.length_spread**2 / 2
    length = np.maximum(np.rint(np.exp(rng.normal(center, config.length_spread, users))), 2).astype(np.int64)
    offsets = arrays.offsets_of(length)
    place, total = arrays.places(offsets), int(offsets[-1])
    visit = (rng.random(total) < 1 / config.session) | (place == 0)
    visits = np.bincount(arrays.rows(offsets)[visit], minlength=users)
    opened = rng.random(int(visits.sum())) * config.days * DAY
    user_of_visit = np.repeat(np.arange(users), visits)
    opened = opened[np.lexsort((opened, user_of_visit))]
    gap = np.where(rng.random(total) < config.tied, 0.0, SECOND * (1 + rng.exponential(40.0, total)))
    gap[visit] = 0.0
    since = np.cumsum(gap)
    which = np.cumsum(visit) - 1
    time = opened[which] + since - since[visit][which]
    time = np.maximum.accumulate(time + arrays.rows(offsets) * 2.0 * config.days * DAY)  # a visit may outlast the next
    time = (time - arrays.rows(offsets) * 2.0 * config.days * DAY).astype(np.int64) // SECOND * SECOND
    return Steps(
        offsets=offsets,
        time=time,
        visit=visit,
        surface=rng.choice(3, total, p=config.surfaces),
        alive=np.searchsorted(world.birth, time, side="right"),
        evening=time // HOUR % 24 >= 18,
    )


@dataclass(frozen=True)
class Events:
    """A chunk's log: [E] flat, user by user. Rating 0: not rated."""

    steps: Steps
    taste: Ints  # hidden
    item: Ints
    click: Bools
    long_view: Bools
    rating: NDArray[np.int8]


class Memory:
    """State of B users for later events: the last 8 categories and the last clicked category."""

    def __init__(self, users: int) -> None:
        self.seen = np.full((users, FATIGUE_EVENTS), -1)
        self.clicked = np.full(users, -1)

    def tired(self, category: Ints) -> Ints:
        """[b] fatigue of the first b users: how many of their last 8 events had this category."""
        count: Ints = (self.seen[: len(category)] == category[:, None]).sum(axis=1)
        return count

    def note(self, place: int, category: Ints, click: Bools) -> None:
        count = len(category)
        self.seen[:count, place % FATIGUE_EVENTS] = category
        self.clicked[:count] = np.where(click, category, self.clicked[:count])


def sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))


def simulate_chunk(world: World, steps: Steps, rng: np.random.Generator) -> Events:
    """Draw taste, item and feedback, event after event, for all users of a chunk at once."""
    total = int(steps.offsets[-1])
    taste, item = np.empty(total, dtype=np.int64), np.empty(total, dtype=np.int64)
    click, long_view = np.empty(total, dtype=bool), np.empty(total, dtype=bool)
    rating = np.zeros(total, dtype=np.int8)
    now, memory = np.zeros(len(steps.offsets) - 1, dtype=np.int64), Memory(len(steps.offsets) - 1)
    for place, at in walk(steps):
        b = len(at)
        drawn = _draw_taste(world, steps.visit[at], place == 0, now[:b], rng)
        now[:b] = taste[at] = drawn
        item[at] = chosen = _draw_item(world, steps, at, drawn, memory, rng)
        category = world.category[chosen]
        liking = world.liking[drawn, chosen]
        logit = world.click_logit(steps.surface[at], steps.evening[at], memory.tired(category), chosen) + liking
        click[at] = clicked = rng.random(b) < sigmoid(logit)
        later = world.long_view_logit(chosen) + world.config.long_view_taste * liking
        long_view[at] = clicked & (rng.random(b) < sigmoid(later))
        rating[at] = np.where(clicked & (rng.random(b) < world.config.rated), _draw_rating(world, liking, rng), 0)
        memory.note(place, category, clicked)
    return Events(steps, taste, item, click, long_view, rating)


def longest_first(steps: Steps) -> Ints:
    """[B] the users of a chunk in the order of `walk`."""
    return np.argsort(-np.diff(steps.offsets), kind="stable")


def walk(steps: Steps) -> Iterator[tuple[int, Ints]]:
    """Places 0, 1, 2, …: (place, [b] the events at this place of all histories that long), longest histories first."""
    user = longest_first(steps)
    first, length = steps.offsets[:-1][user], np.diff(steps.offsets)[user]
    for place in range(int(length[0]) if len(length) else 0):
        b = int(np.searchsorted(-length, -place, side="left"))
        yield place, first[:b] + place


def _draw_taste(world: World, visit: Bools, first: bool, now: Ints, rng: np.random.Generator) -> Ints:
    anew = rng.random(len(now)) < world.switch(visit)
    fresh = np.searchsorted(np.cumsum(world.taste)[:-1], rng.random(len(now)), side="right")
    drawn: Ints = np.where(anew | first, fresh, now)
    return drawn


def _draw_item(world: World, steps: Steps, at: Ints, taste: Ints, memory: Memory, rng: np.random.Generator) -> Ints:
    """An item by the surface of each event."""
    surface, alive, u = steps.surface[at], steps.alive[at], rng.random(len(at))
    item = np.empty(len(at), dtype=np.int64)
    organic = surface == SURFACES.index("organic")
    item[organic] = world.chosen.draw(taste[organic], alive[organic], u[organic])
    category = memory.clicked[: len(at)]
    similar = (surface == SURFACES.index("similar")) & (category >= 0) & (rng.random(len(at)) < world.config.similar)
    similar &= world.within.total(np.maximum(category, 0), alive) > 0
    item[similar] = world.within.draw(category[similar], alive[similar], u[similar])
    rest = ~organic & ~similar
    item[rest] = world.popular.draw(0, alive[rest], u[rest])
    return item


def _draw_rating(world: World, liking: Floats, rng: np.random.Generator) -> Ints:
    """1 … 5: the number of thresholds below the liking, with logistic noise."""
    u = rng.random(len(liking))
    passed: Ints = (liking + np.log(u / (1 - u)) > np.asarray(world.config.rating_steps)[:, None]).sum(axis=0)
    return 1 + passed


def chunks(world: World, seed: int, users: int | None = None) -> Iterator[tuple[int, Events]]:
    """(first user, log) of every chunk; each is a function of (world, seed, its number)."""
    users = world.config.users if users is None else users
    for number, first in enumerate(range(0, users, CHUNK_USERS)):
        rng = np.random.default_rng([seed, DRAWS_VERSION, 1 + number])  # the world has place 0
        steps = steps_of(world, min(CHUNK_USERS, users - first), rng)
        yield first, simulate_chunk(world, steps, rng)


def frame(world: World, first: int, events: Events) -> pl.DataFrame:
    """A chunk as an event log, in the input format of `facta prepare`."""
    steps = events.steps
    return pl.DataFrame(
        {
            "user_id": first + arrays.rows(steps.offsets),
            "item_id": events.item,
            "timestamp": world.config.start + steps.time,
            "surface": pl.Series(np.asarray(SURFACES)[steps.surface], dtype=pl.Categorical),
            "click": events.click,
            "long_view": events.long_view,
            "rating": pl.Series(events.rating).replace(0, None),
        }
    )
