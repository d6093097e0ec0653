"""The tokens behind a memory are laid out alone, and are those of the whole batch."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from facta import jagged
from facta.errors import ConfigError
from facta.layouts import suffix
from facta.layouts.layout import LAYOUTS, Layout, _TokenBuilder
from facta.testing import batches
from facta.types import Fact, SequenceBatch, TokenBatch

KEEPING = [name for name, layout in LAYOUTS.items() if layout.prefix_stable]  # of others nothing is kept
PARTS = [{"users": users, "series": series} for users in (False, True) for series in (False, True)]


def rows(seed: int, lengths: tuple[int, ...] = (0, 1, 2, 3, 5, 9, 14)) -> list[batches.Row]:
    random = np.random.default_rng(seed)
    return [batches.random_row(random, length + 1, name) for name, length in enumerate(lengths)]


def asked(seed: int, **parts: bool) -> SequenceBatch:
    """Each row is asked for its last event, and its history is all before it."""
    return batches.joined([batches.request(row, len(row) - 1, **parts) for row in rows(seed)])


def whole(layout: Layout, batch: SequenceBatch, predicted: tuple[Fact, ...], cached: torch.Tensor) -> TokenBatch:
    """The definition: all tokens, then a cut."""
    return suffix._without(_TokenBuilder(layout, batch, predicted).build(), cached)


def same(one: TokenBatch, other: TokenBatch) -> None:
    for column in fields(TokenBatch):
        ours, theirs = getattr(one, column.name), getattr(other, column.name)
        if column.name == "reads":
            assert ours.keys() == theirs.keys()
            for fact in ours:
                assert torch.equal(ours[fact].state, theirs[fact].state)
                assert torch.equal(ours[fact].target, theirs[fact].target) and ours[fact].late == theirs[fact].late
        elif ours is None or theirs is None:
            assert ours is theirs
        else:
            assert torch.equal(ours, theirs), column.name


@pytest.mark.parametrize("name", KEEPING)
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_tokens_behind_a_memory_are_those_of_the_whole_batch(name: str, parts: dict[str, bool]) -> None:
    layout, random = LAYOUTS[name], np.random.default_rng(0)
    left_out = 0
    for seed in range(12):
        batch = asked(seed, **parts)
        closed = layout.closed(batch)
        share = torch.from_numpy(random.choice([0.0, 0.5, 1.0], len(closed)))
        cached = (closed * share).long()
        for predicted in (("item",), ("feedback",)):
            same(layout.tokens(batch, predicted, cached), whole(layout, batch, predicted, cached))
        first = suffix._first_events(batch, cached, len(layout.shows))
        left_out += 0 if first is None else int(first.sum())
    assert left_out > 50  # whole events of the history were not laid out at all


@pytest.mark.parametrize("name", KEEPING)
def test_closed_tokens_are_those_before_the_newest_event(name: str) -> None:
    layout = LAYOUTS[name]
    for parts in PARTS:
        batch = asked(3, **parts)
        built, count = _TokenBuilder(layout, batch, ()), jagged.lengths(batch.offsets)
        row = torch.arange(len(count))
        expected = torch.where(count > 0, built.place_of(row, (count - 1).clamp_min(0)), 0)
        assert torch.equal(layout.closed(batch), expected)


def test_a_prediction_from_a_kept_token_is_refused() -> None:
    """A target that sees only the older half is read from a token that the memory holds."""
    layout, batch = LAYOUTS["item"], asked(1, users=False, series=False)
    early = replace(batch, targets=replace(batch.targets, num_visible=batch.targets.num_visible // 2))
    with pytest.raises(ConfigError, match="read from a cached token"):
        layout.tokens(early, ("item",), layout.closed(batch))
    with pytest.raises(ConfigError, match="read from a cached token"):
        layout.tokens(batch, ("item",), jagged.lengths(batch.offsets))  # of the newest event, too
