"""An event as tokens. A layout is a list of tokens per event and the facts that each shows; the rest follows from the
order of facts: time < context < item < feedback < time of the next event.

    item          i              SASRec, HSTU
    fused         c+i+f          GR retrieval, ARGUS
    interleaved   c+i, f         GR ranking: Φ0, a0, Φ1, a1, …
    paired        c+i, c+i+f     the same, where an action's token also shows what it was done to
    cloze         i              BERT4Rec: an event is predicted from those on both sides

A prediction of fact X of event t reads the last token up to which every token shows only facts before X: one of the
event's own, if its first tokens are such, and the last token before t otherwise. A token looks back from the time of
the next event if nothing but that event reads it, and from its own time otherwise.

In `cloze` every token sees its whole row, so a target is none of the row's inputs: it has a token that shows nothing,
behind them, with the position of its event. What no token shows cannot leak.

A target reads its own event's token if that token sees what the target does. A target that sees less (events of its own
time are hidden, or those younger than a delay) is read at a token of its own, aside, or at the last token that it sees.

Letters: B rows, E input events, S targets, A series entries, T tokens, m tokens of an event, P of the prefix.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated

import torch
from pydantic import AfterValidator
from torch import Tensor

from facta import draws, jagged
from facta.draws import Purpose
from facta.errors import ConfigError
from facta.kinds import outside
from facta.layouts.entries import Entries
from facta.layouts.suffix import prefix_tokens, suffix_tokens
from facta.types import HIDDEN, LIST, PREFIX, SERIES, Fact, Read, SequenceBatch, TokenBatch

ORDER: tuple[Fact, ...] = ("time", "context", "item", "feedback")


class Layout:
    """Integer arithmetic alone: no parameters, no embeddings. One function serves training, evaluation and requests.

    `both_ways`: every token sees its whole row, and a target has a token that shows nothing.
    """

    def __init__(self, *shows: tuple[Fact, ...], both_ways: bool = False) -> None:
        self.shows, self.both_ways = shows, both_ways

    @property
    def prefix_stable(self) -> bool:
        """Whether a prediction stays the same if the row is cut behind it: a row then predicts its own events, and what
        is computed of it may be kept."""
        return not self.both_ways

    def own(self, fact: Fact) -> int:
        """How many of an event's first tokens show only facts before this one; the last of them predicts it."""
        if self.both_ways:
            return 1
        before = ORDER[: ORDER.index(fact)]
        count = 0
        for shown in self.shows:
            if not set(shown) <= set(before):
                return count
            count += 1
        return count

    def late(self, fact: Fact) -> tuple[Fact, ...]:
        """Facts of the event before this one that the state read has not seen; time is told by looking back from it."""
        read = () if self.both_ways else self.shows[: self.own(fact)]
        seen = {shown for token in read for shown in token}
        return tuple(one for one in ORDER[1 : ORDER.index(fact)] if one not in seen)

    def tokens(self, batch: SequenceBatch, predicted: Collection[Fact], cached: Tensor | None = None) -> TokenBatch:
        """The tokens of a batch, and which of them predict the `predicted` facts of its targets.

        In every row: the prefix, which sees itself; events and series entries in the order of time; then a token for
        each target aside that is read at a token of its own, which sees what its target does and no other target.
        `cached` [B]: the first tokens of each row that are left out, for an encoder remembers them; they are counted by
        `sees`. Raises ConfigError where a prediction would be read from one of them, for a target that sees itself or
        what came later, and for one that needs several tokens of its own. Where tokens see both ways: for a target
        among the inputs, for one that sees less than all of them, and for several requests in one row.
        """
        if cached is None:
            return _TokenBuilder(self, batch, predicted).made()
        return suffix_tokens(batch, cached, len(self.shows), lambda part: _TokenBuilder(self, part, predicted).made())

    def closed(self, batch: SequenceBatch) -> Tensor:
        """[B] the first tokens of each row that no later event changes: those before the newest event's. That one looks
        back from the time of what comes next, and its feedback may still become known.
        """
        count = jagged.lengths(batch.offsets)
        if self.both_ways:
            return torch.zeros_like(count)
        return torch.where(count > 0, self.first_tokens(batch, (count - 1).clamp_min(0)), 0)

    def first_tokens(self, batch: SequenceBatch, events: Tensor) -> Tensor:
        """[B] how many tokens of each row stand before its event number `events` [B], counted from 0."""
        place = prefix_tokens(batch) + len(self.shows) * events
        if batch.series is None:
            return place
        return place + Entries(batch.series).until(torch.arange(len(events), device=events.device), events)

    def open(self, batch: SequenceBatch) -> Tensor:
        """[B] the tokens of each row that all targets aside meet: those of the prefix, of all events and of all
        entries."""
        count = prefix_tokens(batch) + len(self.shows) * jagged.lengths(batch.offsets)
        return count if batch.series is None else count + jagged.lengths(batch.series.offsets)


ITEM = Layout(("item",))
FUSED = Layout(("context", "item", "feedback"))
INTERLEAVED = Layout(("context", "item"), ("feedback",))
PAIRED = Layout(("context", "item"), ("context", "item", "feedback"))
CLOZE = Layout(("item",), both_ways=True)

LAYOUTS = {"item": ITEM, "fused": FUSED, "interleaved": INTERLEAVED, "paired": PAIRED, "cloze": CLOZE}
"""The layouts that facta brings along: a new one adds a word here."""


def named(name: str) -> Layout:
    """The layout of a name, or of `module:NAME` from outside. Raises ConfigError."""
    if ":" in name:
        found: Layout = outside(name, Layout)
        return found
    if name not in LAYOUTS:
        raise ConfigError(f"There is no layout '{name}'; expected {', '.join(LAYOUTS)} or module:NAME of your own.")
    return LAYOUTS[name]


def _known(name: str) -> str:
    named(name)
    return name


LayoutName = Annotated[str, AfterValidator(_known)]


class _TokenBuilder:
    """The places of everything, row by row, and the columns that follow."""

    def __init__(self, layout: Layout, batch: SequenceBatch, predicted: Collection[Fact]) -> None:
        self.layout, self.batch, self.predicted = layout, batch, predicted
        self.m, self.facts = len(layout.shows), len(batch.user)
        self.prefix = prefix_tokens(batch)  # [B]
        self.row, self.event = jagged.rows(batch.offsets), jagged.places(batch.offsets)  # [E]
        self.entries = None if batch.series is None else Entries(batch.series)
        targets = batch.targets
        self.target_row = jagged.rows(targets.offsets)
        if layout.both_ways:
            _check_hidden(batch, self.target_row)
        if ((targets.slot >= 0) & (targets.after > targets.slot)).any():
            raise ConfigError("A target sees itself or what came later; layouts predict an event from those before it.")
        self.own_read = max((layout.own(fact) for fact in predicted), default=0)
        self.inline = self._inline()
        aside = ~self.inline & (targets.weight != 0) & (self.own_read > 0)
        self.aside: Tensor = torch.nonzero(aside).squeeze(1)  # [S'] targets with a token of their own
        if self.own_read > 1 and len(self.aside):
            raise ConfigError(
                f"A target that is not read among the inputs gets one token, and this layout predicts from "
                f"{self.own_read} tokens of its event: give it targets among the inputs that see all before them."
            )
        self.offsets = self._offsets()

    def _inline(self) -> Tensor:
        """[S] whether the tokens of its own event see what a target does: all events and changes before it."""
        targets, row = self.batch.targets, self.target_row
        found = targets.slot == targets.after
        if self.entries is None or targets.until is None:
            return found
        return found & (self._sight() == self.place_of(row, targets.after))

    def made(self) -> TokenBatch:
        parts = [
            part
            for part in (self._prefix(), self._lists(), self._series(), self._candidate_tokens())
            if len(part["at"])
        ]
        parts.append(self._events())
        at = torch.cat([part["at"] for part in parts])
        order = torch.empty_like(at)
        order[at] = torch.arange(len(at), device=at.device)

        def column(name: str) -> Tensor:
            if len(parts) == 1:  # events alone lie in order
                return parts[0][name]
            return torch.cat([part[name] for part in parts])[order]

        timed = self.batch.events.time is not None
        sees = jagged.lengths(self.offsets)[jagged.rows(self.offsets)] if self.layout.both_ways else column("sees")
        return TokenBatch(
            offsets=self.offsets,
            kind=column("kind"),
            source=column("source"),
            time=column("time") if timed else None,
            query_time=column("query_time") if timed and self.batch.next_time is not None else None,
            position=column("position"),
            sees=sees,
            key=column("key"),
            reads={fact: self._read(fact) for fact in self.predicted},
        )

    def _offsets(self) -> Tensor:
        count = self.prefix + self.m * jagged.lengths(self.batch.offsets)
        if self.entries is not None:
            count = count + jagged.lengths(self.entries.offsets)
        return jagged.offsets_of(count + torch.bincount(self.target_row[self.aside], minlength=len(count)))

    def place_of(self, row: Tensor, event: Tensor) -> Tensor:
        """Place in its row of the first token of an event, or of what follows the newest one."""
        place = self.prefix[row] + self.m * event
        return place if self.entries is None else place + self.entries.until(row, event)

    def _sight(self) -> Tensor:
        """[S] how many tokens of its row each target sees: those before its first hidden event, without the changes
        that are hidden."""
        targets, row = self.batch.targets, self.target_row
        place = self.place_of(row, targets.after)
        if self.entries is None or targets.until is None:
            return place
        changes = self.entries.until(row, targets.after)
        return place - changes + changes.minimum(self.entries.before(row, targets.until))

    def _events(self) -> dict[str, Tensor]:
        batch, m = self.batch, self.m
        kind = torch.arange(m, device=self.row.device).repeat(len(self.row))
        source = torch.arange(len(self.row), device=self.row.device).repeat_interleave(m)
        place = (self.place_of(self.row, self.event))[source] + kind
        own = batch.events.time
        after = batch.next_time if batch.next_time is not None else own
        last = (kind == m - 1) & (kind >= self.own_read)  # read for nothing but the next event
        columns = {
            "at": self.offsets[self.row[source]] + place,
            "kind": kind,
            "source": source,
            "position": batch.index[source],
            "sees": place,
            "key": torch.where(kind == 0, batch.events.key[source], draws.mix(batch.events.key[source], kind)),
        }
        if own is not None and after is not None:
            columns |= {"time": own[source], "query_time": torch.where(last, after[source], own[source])}
        return columns

    def _candidate_tokens(self) -> dict[str, Tensor]:
        """Tokens of targets aside: candidates, held-out events. Of the tokens before the fact only one is made."""
        batch, which = self.batch, self.aside
        row, after = self.target_row[which], batch.targets.after[which]
        first = self.offsets[row + 1] - torch.bincount(row, minlength=len(self.offsets) - 1)[row]
        newest = batch.offsets[row] + after - 1
        position = torch.where(after > 0, batch.index[newest.clamp_min(0)] + 1, 0) if len(batch.index) else after
        columns = {
            "at": first + torch.arange(len(which), device=row.device) - _group_starts(row),
            "kind": torch.full_like(row, HIDDEN if self.layout.both_ways else self.own_read - 1),
            "source": len(self.row) + which,
            "position": position if batch.targets.index is None else batch.targets.index[which],
            "sees": self._sight()[which],
            "key": batch.targets.events.key[which],
        }
        if batch.events.time is not None:
            time = batch.targets.events.time
            time = batch.events.time.new_zeros(len(batch.targets.slot)) if time is None else time
            columns |= {"time": time[which], "query_time": time[which]}
        return columns

    def _prefix(self) -> dict[str, Tensor]:
        """One token per constant fact of a user; its time is that of the row's first event, or of its first target."""
        rows = len(self.offsets) - 1
        row = torch.arange(rows, device=self.row.device).repeat_interleave(self.facts)
        fact = torch.arange(self.facts, device=row.device).repeat(rows)
        return self._first_tokens(row, fact, PREFIX, row * self.facts + fact)

    def _lists(self) -> dict[str, Tensor]:
        """One token per item of an earlier history, behind the facts."""
        if self.batch.lists is None:
            return dict.fromkeys(("at",), self.row[:0])
        offsets = self.batch.lists.offsets
        row = jagged.rows(offsets)
        source = torch.arange(len(row), device=row.device)
        return self._first_tokens(row, self.facts + jagged.places(offsets), LIST, source)

    def _first_tokens(self, row: Tensor, place: Tensor, kind: int, source: Tensor) -> dict[str, Tensor]:
        """Tokens of the prefix, which see all of it."""
        columns = {
            "at": self.offsets[row] + place,
            "kind": torch.full_like(row, kind),
            "source": source,
            "position": torch.zeros_like(row),
            "sees": self.prefix[row],
            "key": draws.mix(draws.mix(_first_key(self.batch)[row], Purpose.PREFIX), place),
        }
        if self.batch.events.time is not None:
            time = _first_time(self.batch)[row]
            columns |= {"time": time, "query_time": time}
        return columns

    def _series(self) -> dict[str, Tensor]:
        """One token per change of a slowly changing fact; it looks back from the next event, as the token before it."""
        if self.entries is None:
            none = self.row[:0]
            return dict.fromkeys(("at", "kind", "source", "position", "sees", "key", "time", "query_time"), none)
        series, row = self.entries.series, self.entries.row
        place = self.prefix[row] + self.m * series.after + jagged.places(series.offsets)
        newest = self.batch.offsets[row] + series.after - 1
        columns = {
            "at": self.offsets[row] + place,
            "kind": torch.full_like(row, SERIES),
            "source": torch.arange(len(row), device=row.device),
            "position": _gather_last_event(self.batch.index, newest, series.after, torch.zeros_like(row)),
            "sees": place,
            "key": series.key,
        }
        if series.time is not None and self.batch.next_time is not None:
            asked = _gather_last_event(self.batch.next_time, newest, series.after, series.time)
            columns |= {"time": series.time, "query_time": torch.maximum(asked, series.time)}
        return columns

    def _read(self, fact: Fact) -> Read:
        targets, own = self.batch.targets, self.layout.own(fact)
        if own == 0:
            last = self._sight() - 1
            read = torch.nonzero((last >= 0) & ~self._gap()).squeeze(1)
            return Read(self.offsets[self.target_row[read]] + last[read], read, self.layout.late(fact))
        inline = torch.nonzero(self.inline & (targets.weight != 0)).squeeze(1)
        place = self.place_of(self.target_row[inline], targets.slot[inline]) + own - 1
        state = self.offsets[self.target_row[inline]] + place
        target = torch.cat([inline, self.aside])
        order = torch.argsort(target, stable=True)
        return Read(torch.cat([state, self._candidate_tokens()["at"]])[order], target[order], self.layout.late(fact))

    def _gap(self) -> Tensor:
        """[S] whether the newest event that a target may see was left out: no request is ever asked across a gap."""
        targets, index, first = self.batch.targets, self.batch.index, self.batch.offsets[self.target_row]
        if targets.sees is None or not len(index):
            return torch.zeros_like(targets.slot, dtype=torch.bool)
        newest = torch.where(targets.after > 0, index[(first + targets.after - 1).clamp_min(0)], -1)
        return newest + 1 < targets.sees


def _check_hidden(batch: SequenceBatch, row: Tensor) -> None:
    """Raises ConfigError where targets are not what tokens that see both ways can predict."""
    targets = batch.targets
    if ((targets.slot >= 0) | (targets.after < jagged.lengths(batch.offsets)[row])).any():
        raise ConfigError(
            "Found a target among the inputs of its row, or one that sees less than all of them; where every token "
            "sees its whole row, a target is none of the inputs: hide it, or use a layout that looks back."
        )
    if targets.index is None and (jagged.lengths(targets.offsets) > 1).any():
        raise ConfigError(
            "Found several requests in one row; where every token sees its whole row, they would see each other: give "
            "each a row of its own."
        )


def _gather_last_event(values: Tensor, newest: Tensor, after: Tensor, otherwise: Tensor) -> Tensor:
    """[A] of the newest event before each entry; `otherwise` where no event is."""
    return torch.where(after > 0, values[newest.clamp_min(0)], otherwise) if len(values) else otherwise


def _first_time(batch: SequenceBatch) -> Tensor:
    """[B] time of each row's first event; of its first target where it has none."""
    return _first(batch, batch.targets.events.time, batch.events.time)


def _first_key(batch: SequenceBatch) -> Tensor:
    """[B] the same of their keys: a row's own, whatever stands beside it."""
    return _first(batch, batch.targets.events.key, batch.events.key)


def _first(batch: SequenceBatch, of_targets: Tensor | None, of_events: Tensor | None) -> Tensor:
    found = torch.zeros_like(batch.offsets[1:])
    for offsets, values in ((batch.targets.offsets, of_targets), (batch.offsets, of_events)):
        filled = jagged.lengths(offsets) > 0
        if values is not None:
            found[filled] = values[offsets[:-1][filled]]
    return found


def _group_starts(row: Tensor) -> Tensor:
    """[n] ascending rows -> the index of the first of its like."""
    return torch.searchsorted(row.contiguous(), row.contiguous())
