"""Small histories with all kinds of facts as batches, with inline or standalone targets. Tests change one fact at a
time to find the predictions that depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch

from facta import draws, jagged
from facta.arrays import Ints
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.features import Feature
from facta.data.dataset.schema import Field
from facta.data.split.visibility import Visibility
from facta.types import Events, Lists, SequenceBatch, Series, Targets

ITEMS = 20
DAY = 86_400_000
FIELDS = (
    Field(name="surface", role="context", kind="categorical", dtype="int8", categories=("a", "b", "c")),
    Field(name="click", kind="binary", dtype="int8"),
    Field(name="rating", kind="ordinal", dtype="int8", levels=(1.0, 2.0, 3.0, 4.0, 5.0), positive=(4, 5)),
    Field(name="watched", kind="numeric", dtype="float32", boundaries=(10.0, 60.0, 300.0)),
)
USERS = (
    Field(name="age", role="user", kind="numeric", dtype="int8", boundaries=(18.0, 40.0)),
    Field(name="city", role="user", kind="categorical", dtype="str", categories=("x", "y")),
    Field(name="earlier", role="user", kind="items", dtype="list"),
)
FACTS = USERS[:2]
SERIES = tuple(
    Field(name=name, role="series", kind="categorical", dtype="str", categories=("p", "q", "r"))
    for name in ("plan", "mood")
)


def features() -> dict[str, Feature]:
    """A feature of each kind: a category (some undefined), several categories (some empty), a vector."""
    rng = torch.Generator().manual_seed(1)
    lengths = torch.arange(ITEMS) % 3
    kind = Field(name="kind", role="item", kind="categorical", dtype="str", categories=("k", "l", "m"))
    tags = Field(name="tags", role="item", kind="multi", dtype="str", categories=("t", "u", "v", "w"))
    text = Field(name="text", role="item", kind="vector", dtype="list", width=3)
    return {
        "kind": Feature(kind, torch.randint(0, 4, (ITEMS,), generator=rng)),
        "tags": Feature(tags, torch.randint(0, 5, (int(lengths.sum()),), generator=rng), jagged.offsets_of(lengths)),
        "text": Feature(text, torch.randn(ITEMS, 3, generator=rng)),
    }


def catalogue(*, users: bool, series: bool, described: bool) -> Catalogue:
    return Catalogue(ITEMS, features() if described else {}, FIELDS, USERS if users else (), SERIES if series else ())


@dataclass(frozen=True)
class Row:
    """One person: events by column; `series`: (field, value, time, events before it); `earlier`: items before the first
    event.
    """

    name: int
    item: list[int]
    time: list[int]
    fields: dict[str, list[int]]  # codes
    user: dict[str, int] = field(default_factory=dict)
    series: tuple[tuple[int, int, int, int], ...] = ()
    earlier: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.item)

    def cut(self, events: int) -> Row:
        """The row's first events, with their series entries."""
        fields = {name: column[:events] for name, column in self.fields.items()}
        series = tuple(entry for entry in self.series if entry[3] < events)
        return replace(self, item=self.item[:events], time=self.time[:events], fields=fields, series=series)

    def changed(self, fact: str, event: int) -> Row:
        """The row with one change: time, context, item or feedback of an event; facts of the person; an earlier item;
        or a value of a series entry.
        """

        def other(column: Sequence[int], codes: int) -> list[int]:
            return [*column[:event], (column[event] + 1) % codes, *column[event + 1 :]]

        match fact:
            case "item":
                return replace(self, item=other(self.item, ITEMS))
            case "time":
                earlier = self.time[event] - 40 * DAY  # out of order, so that it differs for all other events
                return replace(self, time=[*self.time[:event], earlier, *self.time[event + 1 :]])
            case "context" | "feedback":
                asked = {one.name: one.codes for one in FIELDS if one.role == fact}
                return replace(
                    self, fields=self.fields | {name: other(self.fields[name], n) for name, n in asked.items()}
                )
            case "user":
                return replace(self, user={name: (code + 1) % 3 for name, code in self.user.items()})
            case "earlier":
                before = self.earlier
                return replace(
                    self, earlier=(*before[:event], (before[event] + 2) % (ITEMS + 1) - 1, *before[event + 1 :])
                )
            case _:
                one = self.series[event]
                mine = (one[0], (one[1] + 1) % 4, *one[2:])
                return replace(self, series=(*self.series[:event], mine, *self.series[event + 1 :]))


def random_row(rng: np.random.Generator, length: int, name: int = 0, *, series: bool = True) -> Row:
    """Gaps from minutes to days; entries of series before the third event, twice, and before the fifth."""
    time = 1_600_000_000_000 + np.cumsum((10 ** rng.uniform(6.5, 8.5, length)).astype(np.int64))
    after = [place for place in (2, 2, 4) if place < length]
    entries = [(int(rng.integers(2)), int(rng.integers(4)), int(time[at - 1]) + 60_000, at) for at in after]
    return Row(
        name,
        rng.integers(0, ITEMS, length).tolist(),
        time.tolist(),
        {one.name: rng.integers(0, one.codes, length).tolist() for one in FIELDS},
        {one.name: int(rng.integers(one.codes)) for one in FACTS},
        tuple(entries) if series else (),
        tuple(rng.integers(-1, ITEMS, name % 3).tolist()),
    )


def batch(rows: Sequence[Row], *, users: bool = True, series: bool = True) -> SequenceBatch:
    """All events are inputs and inline targets, as in training rows of feedback."""
    lengths = torch.tensor([len(row) for row in rows])
    offsets = jagged.offsets_of(lengths)
    place = jagged.places(offsets)
    events = _events([(row, range(len(row))) for row in rows])
    assert events.time is not None
    newest = place == torch.repeat_interleave(lengths, lengths) - 1
    return SequenceBatch(
        offsets=offsets,
        events=events,
        index=place,
        next_time=torch.where(newest, events.time, events.time.roll(-1)),
        targets=Targets(offsets, _as_targets(events), place, place, torch.ones(len(place))),
        key=11,
        series=_series(rows) if series else None,
        user={one.name: torch.tensor([row.user[one.name] for row in rows]) for one in FACTS} if users else {},
        lists=_lists(rows) if users else None,
    )


@dataclass(frozen=True)
class Times:
    """Times of the events of all rows."""

    offsets: Ints
    timestamp: Ints


def seeing(given: SequenceBatch, sees: Visibility) -> SequenceBatch:
    """A `batch` whose targets have the given visibility."""
    assert given.events.time is not None
    log = Times(given.offsets.numpy(), given.events.time.numpy())
    after = torch.from_numpy(sees.events(log, jagged.rows(given.offsets).numpy(), given.index.numpy()))
    until = sees.changes_before(log.timestamp)
    targets = replace(
        given.targets, num_visible=after, sees=after, until=None if until is None else torch.from_numpy(until)
    )
    return replace(given, targets=targets, next_time=given.events.time if sees.own_times else given.next_time)


def asked_alone(row: Row, event: int, sees: Visibility, **parts: bool) -> SequenceBatch:
    """A standalone target with only the events and changes of facts that it sees."""
    whole = seeing(batch([row], **parts), sees).targets
    asked, after = request(row, event, (), **parts), int(whole.num_visible[event])
    changes = [one for one in row.series if one[3] <= after]
    if whole.until is not None:
        changes = [one for one in changes if one[2] < int(whole.until[event])]
    past = batch([replace(row.cut(after), series=tuple(changes))], **parts)
    past = replace(past, targets=replace(asked.targets, num_visible=torch.tensor([after])))
    if sees.own_times:
        return replace(past, next_time=past.events.time)
    assert past.next_time is not None
    next_time = past.next_time.clone()
    next_time[-1:] = row.time[event]
    return replace(past, next_time=next_time)


def aside(rows: Sequence[tuple[Row, Sequence[int]]], **parts: bool) -> SequenceBatch:
    """All events are inputs; the events at the given places are standalone targets."""
    whole = batch([row for row, _ in rows], **parts)
    place = torch.tensor([at for _, places in rows for at in places], dtype=torch.int64)
    targets = Targets(
        jagged.offsets_of(torch.tensor([len(places) for _, places in rows])),
        _as_targets(_events(rows)),
        num_visible=place,
        input_index=torch.full_like(place, -1),
        weight=torch.ones(len(place)),
    )
    return replace(whole, targets=targets)


def hidden_places(events: int) -> list[int]:
    """Places of the masked events of a row: 1, 4, 7 …, and the last one."""
    return [place for place in range(events) if place % 3 == 1 or place == events - 1]


def hiding(rows: Sequence[Row], places: Sequence[int] | None, **parts: bool) -> SequenceBatch:
    """Rows without some of their events, which are the targets: the given places of each row; None: `hidden_places`."""
    whole = batch(rows, **parts)
    row, hidden = jagged.rows(whole.offsets), torch.zeros(len(whole.index), dtype=torch.bool)
    for start, one in zip(whole.offsets.tolist(), rows, strict=False):
        hidden[[start + place for place in (hidden_places(len(one)) if places is None else places)]] = True
    kept = ~hidden

    def offsets(mask: torch.Tensor) -> torch.Tensor:
        return jagged.offsets_of(torch.bincount(row[mask], minlength=len(rows)))

    targets = Targets(
        offsets(hidden),
        _only(whole.targets.events, hidden),
        num_visible=jagged.lengths(offsets(kept))[row[hidden]],
        input_index=torch.full_like(whole.index[hidden], -1),
        weight=whole.targets.weight[hidden],
        index=whole.index[hidden],
    )
    series = whole.series
    if series is not None:
        before = torch.cat([row.new_zeros(1), kept.cumsum(0)])
        first = whole.offsets[jagged.rows(series.offsets)]
        series = replace(series, after=before[first + series.after] - before[first])
    assert whole.next_time is not None
    return replace(
        whole, offsets=offsets(kept), events=_only(whole.events, kept), index=whole.index[kept],
        next_time=whole.next_time[kept], targets=targets, series=series,
    )  # fmt: skip


def request(row: Row, event: int, candidates: Sequence[Row] = (), **parts: bool) -> SequenceBatch:
    """The history before an event, and this event of the row (and of the candidates) as targets, at its time."""
    past = batch([row.cut(event)], **parts)
    if parts.get("series", True):
        past = replace(past, series=_series([replace(row, series=tuple(e for e in row.series if e[3] <= event))]))
    asked = [_as_targets(_events([(one, [event])])) for one in (row, *candidates)]
    assert past.next_time is not None
    next_time = past.next_time.clone()
    next_time[-1:] = row.time[event]
    targets = Targets(
        offsets=torch.tensor([0, len(asked)]),
        events=_joined(asked),
        num_visible=torch.full((len(asked),), event),
        input_index=torch.full((len(asked),), -1),
        weight=torch.ones(len(asked)),
    )
    return replace(past, next_time=next_time, targets=targets)


def joined(parts: Sequence[SequenceBatch]) -> SequenceBatch:
    """Batches of one row each as one batch."""
    first = parts[0]

    def offsets(each: Sequence[torch.Tensor]) -> torch.Tensor:
        return jagged.offsets_of(torch.cat([jagged.lengths(one) for one in each]))

    def flat(one: Any, of: Sequence[Any]) -> Any:
        """Concatenated columns."""
        if one is None or isinstance(one, int):
            return one
        if isinstance(one, torch.Tensor):
            return torch.cat(list(of))
        if isinstance(one, Mapping):
            return {name: torch.cat([other[name] for other in of]) for name in one}
        columns = {f.name: [getattr(other, f.name) for other in of] for f in fields(one)}
        return replace(
            one,
            **{n: offsets(c) if n == "offsets" else flat(c[0], c) for n, c in columns.items()},
        )

    found: SequenceBatch = flat(first, parts)
    return found


def _events(rows: Sequence[tuple[Row, Sequence[int]]]) -> Events:
    """The events of the rows at the given places; keys are functions of (person, place)."""
    chosen = [(row, at) for row, places in rows for at in places]

    def column(values: Sequence[int]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.int64)

    return Events(
        item=column([row.item[at] for row, at in chosen]),
        time=column([row.time[at] for row, at in chosen]),
        key=draws.mix(draws.mix(column([row.name for row, _ in chosen]), 3), column([at for _, at in chosen])),
        fields={one.name: column([row.fields[one.name][at] for row, at in chosen]) for one in FIELDS},
    )


def _only(events: Events, mask: torch.Tensor) -> Events:
    assert events.time is not None
    fields = {name: column[mask] for name, column in events.fields.items()}
    return Events(events.item[mask], events.time[mask], events.key[mask], fields)


def _as_targets(events: Events) -> Events:
    return replace(events, key=draws.mix(events.key, 1))


def _joined(parts: Sequence[Events]) -> Events:
    times = [part.time for part in parts if part.time is not None]
    fields: Mapping[str, torch.Tensor] = {
        one.name: torch.cat([part.fields[one.name] for part in parts]) for one in FIELDS
    }
    return Events(torch.cat([p.item for p in parts]), torch.cat(times), torch.cat([p.key for p in parts]), fields)


def _lists(rows: Sequence[Row]) -> Lists:
    items = torch.tensor([item for row in rows for item in row.earlier], dtype=torch.int64)
    return Lists(jagged.offsets_of(torch.tensor([len(row.earlier) for row in rows])), items * 0, items)


def _series(rows: Sequence[Row]) -> Series:
    entries = [entry for row in rows for entry in row.series]
    which, value, time, after = (torch.tensor([entry[i] for entry in entries], dtype=torch.int64) for i in range(4))
    offsets = jagged.offsets_of(torch.tensor([len(row.series) for row in rows]))
    person = torch.tensor([row.name for row in rows])[jagged.rows(offsets)]
    return Series(offsets, which, value, time, after, draws.mix(draws.mix(person, 5), jagged.places(offsets)))
