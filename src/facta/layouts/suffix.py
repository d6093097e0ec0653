"""The tokens after the cached ones. Only the newest events are laid out, so an event costs its own tokens and not those
of the whole history.

Letters: B rows, E input events, E' of them laid out, A series entries, T tokens, m tokens of an event.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from facta import jagged
from facta.errors import ConfigError
from facta.types import SERIES, Events, SequenceBatch, Series, TokenBatch

_COLUMNS = ("kind", "source", "time", "query_time", "position", "sees", "key")


def prefix_tokens(batch: SequenceBatch) -> Tensor:
    """[B] number of tokens before a row's first event: its constant facts and the items of its lists."""
    facts = torch.full_like(batch.offsets[1:], len(batch.user))
    return facts if batch.lists is None else facts + jagged.lengths(batch.lists.offsets)


def suffix_tokens(
    batch: SequenceBatch, cached: Tensor, per_event: int, build: Callable[[SequenceBatch], TokenBatch]
) -> TokenBatch:
    """The tokens of `build(batch)` without the first `cached` [B] of each row.

    Raises ConfigError if a prediction would be read from one of these.
    """
    first = _first_events(batch, cached, per_event)
    if first is None:
        return _without(build(batch), cached)
    part = _Part.of(batch, first)
    return part.restored(_without(build(part.batch), cached - part.tokens(per_event)), per_event)


def _first_events(batch: SequenceBatch, cached: Tensor, per_event: int) -> Tensor | None:
    """[B] number of a row's first events that the tokens after the cached ones do not need; None: unknown, lay out all.

    All tokens of these events are cached. The newest event that a target sees is laid out: it gives the target's place.
    """
    targets = batch.targets
    if targets.until is not None:  # hidden changes count from the start of the row
        return None
    free = cached - prefix_tokens(batch)
    if batch.series is not None:
        free = free - jagged.lengths(batch.series.offsets)
    first = (free // per_event).clamp_min(0).minimum(jagged.lengths(batch.offsets))
    rows = jagged.rows(targets.offsets)
    needed = (targets.num_visible - 1).clamp_min(0)
    first = first.scatter_reduce(0, rows, needed, "amin", include_self=True)
    return first if bool(first.any()) else None


@dataclass(frozen=True)
class _Part:
    """A batch without the first events of its rows, and the numbers that map its tokens to the whole batch."""

    batch: SequenceBatch
    first: Tensor  # [B] events left out
    entries_before: Tensor  # [B] series entries left out
    event: Tensor  # [E'] index of each event in the whole batch
    entry: Tensor | None  # index of each series entry in the whole batch
    whole: int  # E

    @classmethod
    def of(cls, batch: SequenceBatch, first: Tensor) -> _Part:
        event, offsets = _after_first(batch.offsets, first)
        targets = batch.targets
        row = first[jagged.rows(targets.offsets)]
        slot = torch.where(targets.input_index >= 0, targets.input_index - row, targets.input_index)
        entry, before, series = None, torch.zeros_like(first), None
        if batch.series is not None:
            series, entry, before = _entries(batch.series, first)
        found = replace(
            batch,
            offsets=offsets,
            events=Events(
                item=batch.events.item[event],
                time=None if batch.events.time is None else batch.events.time[event],
                key=batch.events.key[event],
            ),
            index=batch.index[event],
            next_time=None if batch.next_time is None else batch.next_time[event],
            targets=replace(targets, num_visible=targets.num_visible - row, input_index=slot),
            series=series,
        )
        return cls(found, first, before, event, entry, len(batch.index))

    def tokens(self, per_event: int) -> Tensor:
        """[B] number of tokens that are not laid out."""
        return self.first * per_event + self.entries_before

    def restored(self, tokens: TokenBatch, per_event: int) -> TokenBatch:
        """The tokens of the part with indices of the whole batch. No token is of the prefix if events are left out."""
        row = jagged.rows(tokens.offsets)
        asked = torch.arange(len(self.batch.targets.num_visible), device=row.device)
        of_events = torch.cat([self.event, self.whole + asked])
        at = torch.where(tokens.kind >= 0, tokens.source, 0)
        source = torch.where(tokens.kind >= 0, of_events[at], tokens.source) if len(of_events) else tokens.source
        if self.entry is not None and len(self.entry):
            changed = tokens.kind == SERIES
            source = torch.where(changed, self.entry[torch.where(changed, tokens.source, 0)], source)
        return replace(tokens, source=source, sees=tokens.sees + self.tokens(per_event)[row])


def _after_first(offsets: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
    """The places after the first ones of each row, and their offsets [B+1]."""
    left = jagged.offsets_of(jagged.lengths(offsets) - first)
    row = jagged.rows(left)
    return (offsets[:-1] + first)[row] + jagged.places(left), left


def _entries(series: Series, first: Tensor) -> tuple[Series, Tensor, Tensor]:
    """The entries after the first events of each row, their places, and the number [B] of entries left out."""
    row = jagged.rows(series.offsets)
    gone = (series.after <= first[row]) & (first[row] > 0)
    before = torch.zeros_like(first).scatter_add(0, row, gone.long())
    at, offsets = _after_first(series.offsets, before)
    kept = Series(
        offsets=offsets,
        field=series.field[at],
        value=series.value[at],
        time=None if series.time is None else series.time[at],
        after=series.after[at] - first[row[at]],
        key=series.key[at],
    )
    return kept, at, before


def _without(tokens: TokenBatch, cached: Tensor) -> TokenBatch:
    """The tokens without the first `cached` [B] of each row."""
    row, place = jagged.rows(tokens.offsets), jagged.places(tokens.offsets)
    left = place >= cached[row]
    at = torch.cumsum(left, 0) - 1
    columns = {name: value[left] for name in _COLUMNS if (value := getattr(tokens, name)) is not None}
    for read in tokens.reads.values():
        if not bool(left[read.state].all()):
            raise ConfigError("A prediction would be read from a cached token: cache closed tokens only.")
    reads = {fact: replace(read, state=at[read.state]) for fact, read in tokens.reads.items()}
    count = jagged.lengths(tokens.offsets) - cached
    return replace(tokens, offsets=jagged.offsets_of(count), reads=reads, **columns)
