"""An event as tokens. A layout lists the tokens of an event and the facts that each shows; the rest follows from the
order of facts: time < context < item < feedback < time of the next event.

    item          i              SASRec, HSTU
    fused         c+i+f          GR retrieval, ARGUS
    interleaved   c+i, f         GR ranking: Φ0, a0, Φ1, a1, …
    paired        c+i, c+i+f     as interleaved, but the action's token also shows context and item
    cloze         i              BERT4Rec: an event is predicted from both sides

A prediction of fact X of event t is read from the last of the event's first tokens that show only facts before X, or,
if there is none, from the last token before t. The query time of a token is the time of the next event if only that
event reads it, and its own time otherwise.

In `cloze` every token sees its whole row, so a target must not be an input of its row. It gets a token that shows
nothing, after the inputs, with the position of its event.

An *inline* target is read from its own event's tokens, if these see what the target sees. A *standalone* target (a
candidate, or a target that sees less: events of its own time or within a delay are hidden) is read from a token of its
own after the inputs, or from the last token that it sees.

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
    """Integer arithmetic without parameters or embeddings; training, evaluation and requests use the same function.

    `both_ways`: every token sees its whole row, and a target gets a token that shows nothing.
    """

    def __init__(self, *shows: tuple[Fact, ...], both_ways: bool = False) -> None:
        self.shows, self.both_ways = shows, both_ways

    @property
    def prefix_stable(self) -> bool:
        """Whether a prediction does not change if the row is cut after it. Then a row can predict its own events, and
        its keys and values may be cached.
        """
        return not self.both_ways

    def tokens_before(self, fact: Fact) -> int:
        """The number of an event's first tokens that show only facts before this one; the last of them predicts it."""
        if self.both_ways:
            return 1
        before = ORDER[: ORDER.index(fact)]
        count = 0
        for shown in self.shows:
            if not set(shown) <= set(before):
                return count
            count += 1
        return count

    def late_facts(self, fact: Fact) -> tuple[Fact, ...]:
        """Earlier facts of the event that the read-out state has not seen, but for time, which is its query time."""
        read = () if self.both_ways else self.shows[: self.tokens_before(fact)]
        seen = {shown for token in read for shown in token}
        return tuple(one for one in ORDER[1 : ORDER.index(fact)] if one not in seen)

    def tokens(self, batch: SequenceBatch, predicted: Collection[Fact], cached: Tensor | None = None) -> TokenBatch:
        """The tokens of a batch, and which of them predict the `predicted` facts of its targets.

        A row has the prefix, which sees itself; events and series entries in order of time; then the tokens of
        standalone targets, each of which sees what its target sees and no other target. `cached` [B]: number of first
        tokens of each row to leave out, since the encoder has them cached; `sees` still counts them.

        Raises ConfigError if a prediction would be read from a cached token, for a target that sees itself or later
        events, and for a standalone target that needs several tokens. With `both_ways` also for a target among the
        inputs, for one that sees only some of them, and for several requests in one row.
        """
        if cached is None:
            return _TokenBuilder(self, batch, predicted).build()
        return suffix_tokens(batch, cached, len(self.shows), lambda part: _TokenBuilder(self, part, predicted).build())

    def closed(self, batch: SequenceBatch) -> Tensor:
        """[B] number of first tokens of each row that no later event changes: those before the newest event. The newest
        event's query time and late feedback may still change.
        """
        count = jagged.lengths(batch.offsets)
        if self.both_ways:
            return torch.zeros_like(count)
        return torch.where(count > 0, self.first_tokens(batch, (count - 1).clamp_min(0)), 0)

    def first_tokens(self, batch: SequenceBatch, events: Tensor) -> Tensor:
        """[B] the number of tokens of each row before its event number `events` [B], counted from 0."""
        place = prefix_tokens(batch) + len(self.shows) * events
        if batch.series is None:
            return place
        return place + Entries(batch.series).until(torch.arange(len(events), device=events.device), events)

    def open(self, batch: SequenceBatch) -> Tensor:
        """[B] the number of tokens of each row before those of standalone targets: prefix, events and entries."""
        count = prefix_tokens(batch) + len(self.shows) * jagged.lengths(batch.offsets)
        return count if batch.series is None else count + jagged.lengths(batch.series.offsets)


ITEM = Layout(("item",))
FUSED = Layout(("context", "item", "feedback"))
INTERLEAVED = Layout(("context", "item"), ("feedback",))
PAIRED = Layout(("context", "item"), ("context", "item", "feedback"))
CLOZE = Layout(("item",), both_ways=True)

LAYOUTS = {"item": ITEM, "fused": FUSED, "interleaved": INTERLEAVED, "paired": PAIRED, "cloze": CLOZE}
"""facta's own layouts; a new one is added here."""


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
    """Places of all tokens, row by row, and the columns of a `TokenBatch`."""

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
        if ((targets.input_index >= 0) & (targets.num_visible > targets.input_index)).any():
            raise ConfigError(
                "Found a target that sees itself or later events; layouts predict an event from earlier ones."
            )
        self.read_tokens = max((layout.tokens_before(fact) for fact in predicted), default=0)
        self.inline = self._inline()
        standalone = ~self.inline & (targets.weight != 0) & (self.read_tokens > 0)
        self.standalone: Tensor = torch.nonzero(standalone).squeeze(1)  # [S'] those with a token of their own
        if self.read_tokens > 1 and len(self.standalone):
            raise ConfigError(
                f"A target that is not read among the inputs gets one token, and this layout predicts from "
                f"{self.read_tokens} tokens of its event: give it targets among the inputs that see all before them."
            )
        self.offsets = self._offsets()

    def _inline(self) -> Tensor:
        """[S] whether a target can be read from its own event's tokens: both see all events and changes before it."""
        targets, row = self.batch.targets, self.target_row
        found = targets.input_index == targets.num_visible
        if self.entries is None or targets.until is None:
            return found
        return found & (self._sight() == self.place_of(row, targets.num_visible))

    def build(self) -> TokenBatch:
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
            if len(parts) == 1:  # events alone are in order
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
        return jagged.offsets_of(count + torch.bincount(self.target_row[self.standalone], minlength=len(count)))

    def place_of(self, row: Tensor, event: Tensor) -> Tensor:
        """Place in its row of the first token of an event, or of the token after the newest event."""
        place = self.prefix[row] + self.m * event
        return place if self.entries is None else place + self.entries.until(row, event)

    def _sight(self) -> Tensor:
        """[S] how many tokens of its row each target sees: those before its first hidden event but hidden changes."""
        targets, row = self.batch.targets, self.target_row
        place = self.place_of(row, targets.num_visible)
        if self.entries is None or targets.until is None:
            return place
        changes = self.entries.until(row, targets.num_visible)
        return place - changes + changes.minimum(self.entries.before(row, targets.until))

    def _events(self) -> dict[str, Tensor]:
        batch, m = self.batch, self.m
        kind = torch.arange(m, device=self.row.device).repeat(len(self.row))
        source = torch.arange(len(self.row), device=self.row.device).repeat_interleave(m)
        place = (self.place_of(self.row, self.event))[source] + kind
        own = batch.events.time
        after = batch.next_time if batch.next_time is not None else own
        last = (kind == m - 1) & (kind >= self.read_tokens)  # read only for the next event
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
        """Tokens of standalone targets (candidates, held-out events): one each, from which the fact is read."""
        batch, which = self.batch, self.standalone
        row, after = self.target_row[which], batch.targets.num_visible[which]
        first = self.offsets[row + 1] - torch.bincount(row, minlength=len(self.offsets) - 1)[row]
        newest = batch.offsets[row] + after - 1
        position = torch.where(after > 0, batch.index[newest.clamp_min(0)] + 1, 0) if len(batch.index) else after
        columns = {
            "at": first + torch.arange(len(which), device=row.device) - _group_starts(row),
            "kind": torch.full_like(row, HIDDEN if self.layout.both_ways else self.read_tokens - 1),
            "source": len(self.row) + which,
            "position": position if batch.targets.index is None else batch.targets.index[which],
            "sees": self._sight()[which],
            "key": batch.targets.events.key[which],
        }
        if batch.events.time is not None:
            time = batch.targets.events.time
            time = batch.events.time.new_zeros(len(batch.targets.input_index)) if time is None else time
            columns |= {"time": time[which], "query_time": time[which]}
        return columns

    def _prefix(self) -> dict[str, Tensor]:
        """One token per constant fact of a user; its time is that of the row's first event, or of its first target."""
        rows = len(self.offsets) - 1
        row = torch.arange(rows, device=self.row.device).repeat_interleave(self.facts)
        fact = torch.arange(self.facts, device=row.device).repeat(rows)
        return self._first_tokens(row, fact, PREFIX, row * self.facts + fact)

    def _lists(self) -> dict[str, Tensor]:
        """One token per item of an earlier history, after the facts."""
        if self.batch.lists is None:
            return dict.fromkeys(("at",), self.row[:0])
        offsets = self.batch.lists.offsets
        row = jagged.rows(offsets)
        source = torch.arange(len(row), device=row.device)
        return self._first_tokens(row, self.facts + jagged.places(offsets), LIST, source)

    def _first_tokens(self, row: Tensor, place: Tensor, kind: int, source: Tensor) -> dict[str, Tensor]:
        """Tokens of the prefix; each sees the whole prefix."""
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
        """One token per change of a slowly changing fact; its query time is that of the next event."""
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
        targets, own = self.batch.targets, self.layout.tokens_before(fact)
        if own == 0:
            last = self._sight() - 1
            read = torch.nonzero((last >= 0) & ~self._gap()).squeeze(1)
            return Read(self.offsets[self.target_row[read]] + last[read], read, self.layout.late_facts(fact))
        inline = torch.nonzero(self.inline & (targets.weight != 0)).squeeze(1)
        place = self.place_of(self.target_row[inline], targets.input_index[inline]) + own - 1
        state = self.offsets[self.target_row[inline]] + place
        target = torch.cat([inline, self.standalone])
        order = torch.argsort(target, stable=True)
        return Read(
            torch.cat([state, self._candidate_tokens()["at"]])[order], target[order], self.layout.late_facts(fact)
        )

    def _gap(self) -> Tensor:
        """[S] whether the newest event that a target may see was left out; requests never have such a gap."""
        targets, index, first = self.batch.targets, self.batch.index, self.batch.offsets[self.target_row]
        if targets.sees is None or not len(index):
            return torch.zeros_like(targets.input_index, dtype=torch.bool)
        newest = torch.where(targets.num_visible > 0, index[(first + targets.num_visible - 1).clamp_min(0)], -1)
        return newest + 1 < targets.sees


def _check_hidden(batch: SequenceBatch, row: Tensor) -> None:
    """Raises ConfigError for targets that tokens cannot predict when they see both ways."""
    targets = batch.targets
    if ((targets.input_index >= 0) | (targets.num_visible < jagged.lengths(batch.offsets)[row])).any():
        raise ConfigError(
            "Found a target that is an input of its row, or that sees only some of the inputs; in this layout every "
            "token sees its whole row: mask the target, or use a layout that looks back."
        )
    if targets.index is None and (jagged.lengths(targets.offsets) > 1).any():
        raise ConfigError(
            "Found several requests in one row; in this layout every token sees its whole row, so requests would see "
            "each other: give each a row of its own."
        )


def _gather_last_event(values: Tensor, newest: Tensor, after: Tensor, otherwise: Tensor) -> Tensor:
    """[A] the value of the newest event before each entry; `otherwise` without such an event."""
    return torch.where(after > 0, values[newest.clamp_min(0)], otherwise) if len(values) else otherwise


def _first_time(batch: SequenceBatch) -> Tensor:
    """[B] time of each row's first event, or of its first target in a row without events."""
    return _first(batch, batch.targets.events.time, batch.events.time)


def _first_key(batch: SequenceBatch) -> Tensor:
    """[B] key of each row's first event or target: it does not depend on other rows."""
    return _first(batch, batch.targets.events.key, batch.events.key)


def _first(batch: SequenceBatch, of_targets: Tensor | None, of_events: Tensor | None) -> Tensor:
    found = torch.zeros_like(batch.offsets[1:])
    for offsets, values in ((batch.targets.offsets, of_targets), (batch.offsets, of_events)):
        filled = jagged.lengths(offsets) > 0
        if values is not None:
            found[filled] = values[offsets[:-1][filled]]
    return found


def _group_starts(row: Tensor) -> Tensor:
    """[n] ascending rows -> [n] the index of the first entry of the same row."""
    return torch.searchsorted(row.contiguous(), row.contiguous())
