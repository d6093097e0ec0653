"""The Bayes optimum of a simulated log: the forward algorithm over the hidden tastes.

Letters: Z tastes, V items, E events, B users of a chunk. The belief [B, Z] over the taste before each event is its
posterior given all earlier events. Feedback is predicted given surface, time and item; the next item given surface and
time. No hidden variable is read, so no model of the log can do better on average. The latent-taste oracle beside it
reads the taste.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from facta.arrays import Bools, Floats, Ints
from facta.data.synthetic.simulator import SURFACES, Events, Memory, Steps, World, longest_first, sigmoid, walk


@dataclass(frozen=True)
class Floor:
    """[E] flat, user by user, as the log."""

    click: Floats  # probability, given all earlier facts
    long_view: Floats
    click_oracle: Floats  # probability, given the taste too
    long_view_oracle: Floats
    click_alone: Floats  # probability, given surface, time and item only
    long_view_alone: Floats
    item: Floats  # probability of the event's item, given surface and time
    item_oracle: Floats
    belief: Floats  # [B, Z] over each user's taste after the last event


def floor(world: World, events: Events) -> Floor:
    """Predict every event of a chunk from those before it."""
    total = len(events.item)
    belief = np.tile(world.taste, (len(events.steps.offsets) - 1, 1))  # in the order of `walk`
    per_event = {field.name: np.full(total, np.nan) for field in fields(Floor) if field.name != "belief"}
    found = Floor(**per_event, belief=np.empty_like(belief))
    memory = Memory(len(belief))
    for place, at in walk(events.steps):
        b, item = len(at), events.item[at]
        if place:
            anew = world.switch(events.steps.visit[at])[:, None]
            belief[:b] = (1 - anew) * belief[:b] + anew * world.taste
        likely = item_probability(world, events.steps, at, item)  # [b, Z]
        own, shown = (np.arange(b), events.taste[at]), shown_probability(world, events.steps, at, item, memory)
        found.item[at], found.item_oracle[at] = (belief[:b] * likely).sum(axis=1) * shown, likely[own] * shown
        knowing = _normalised(belief[:b] * likely)
        click, long_view = feedback_probability(world, events.steps, at, item, memory)
        found.click[at] = (knowing * click).sum(axis=1)
        found.long_view[at] = (knowing * click * long_view).sum(axis=1)
        alone = _normalised(world.taste * likely)
        found.click_alone[at] = (alone * click).sum(axis=1)
        found.long_view_alone[at] = (alone * click * long_view).sum(axis=1)
        found.click_oracle[at], found.long_view_oracle[at] = click[own], (click * long_view)[own]
        belief[:b] = _normalised(knowing * _of_feedback(world, events, at, click, long_view))
        memory.note(place, world.category[item], events.click[at])
    found.belief[longest_first(events.steps)] = belief
    return found


def item_probability(world: World, steps: Steps, at: Ints, item: Ints) -> Floats:
    """[b, Z] probability of the event's item; 1 on surfaces that do not depend on taste, where it is no evidence."""
    organic, alive = steps.surface[at] == SURFACES.index("organic"), steps.alive[at]
    likely = np.ones((len(at), world.config.tastes))
    for taste in range(world.config.tastes):
        weight = world.weight[item] * np.exp(world.config.choice * world.liking[taste, item])
        likely[organic, taste] = (weight / world.chosen.total(taste, alive))[organic]
    return likely


def shown_probability(world: World, steps: Steps, at: Ints, item: Ints, memory: Memory) -> Floats:
    """[b] probability of the event's item on surfaces that do not depend on taste; 1 where users choose."""
    surface, alive, clicked = steps.surface[at], steps.alive[at], memory.clicked[: len(at)]
    shown = world.weight[item] / world.popular.total(0, alive)
    total = world.within.total(np.maximum(clicked, 0), alive)
    stays = (surface == SURFACES.index("similar")) & (clicked >= 0) & (total > 0)
    inside = np.where(world.category[item] == clicked, world.weight[item], 0.0) / np.where(total > 0, total, 1.0)
    shown = np.where(stays, world.config.similar * inside + (1 - world.config.similar) * shown, shown)
    return np.where(surface == SURFACES.index("organic"), 1.0, shown)


def feedback_probability(world: World, steps: Steps, at: Ints, item: Ints, memory: Memory) -> tuple[Floats, Floats]:
    """[b, Z] probability of a click, and of a long view given a click."""
    liking = world.liking[:, item].T
    tired = memory.tired(world.category[item])
    logit = world.click_logit(steps.surface[at], steps.evening[at], tired, item)[:, None] + liking
    later = world.long_view_logit(item)[:, None] + world.config.long_view_taste * liking
    return sigmoid(logit), sigmoid(later)


def _of_feedback(world: World, events: Events, at: Ints, click: Floats, long_view: Floats) -> Floats:
    """[b, Z] probability of the event's feedback."""
    clicked: Bools = events.click[at][:, None]
    seen = np.where(events.long_view[at][:, None], long_view, 1 - long_view)
    likely: Floats = np.where(clicked, click * seen, 1 - click)
    rated = events.rating[at]
    for r in np.unique(rated[rated > 0]):
        rows = rated == r
        likely[rows] *= rating_probability(world, world.liking[:, events.item[at][rows]].T, int(r))
    return likely


def rating_probability(world: World, liking: Floats, rating: int) -> Floats:
    """Probability of a rating of 1 … 5, given that there is one."""
    steps = [-np.inf, *world.config.rating_steps, np.inf]
    above = sigmoid(liking - steps[rating - 1]) if rating > 1 else np.ones_like(liking)
    beyond = sigmoid(liking - steps[rating]) if rating <= len(world.config.rating_steps) else np.zeros_like(liking)
    return above - beyond


def _normalised(weights: Floats) -> Floats:
    total: Floats = weights.sum(axis=1, keepdims=True)
    return weights / total
