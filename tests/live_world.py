"""Walks of a live engine: what happens to people, in any order, beside a plain record of it that knows no cache."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import torch

import facta.artifact.model as saved_model
from facta.artifact.contents import ArtifactData
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.split.statistics import Statistics
from facta.eval.protocol import ProtocolConfig
from facta.infer.artifact import Artifact
from facta.infer.engine import Engine
from facta.infer.history import History
from facta.store.content import Clock
from facta.store.memory import MemoryStore
from facta.store.protocol import StoredEvent

MINUTE = 60_000
ENCODERS: dict[str, dict[str, Any]] = {
    "hstu": {"kind": "hstu", "layers": 2, "heads": 2, "bias": "both"},
    "hstu-softmax": {"kind": "hstu", "layers": 2, "attention": "softmax", "bias": "none"},
    "production": {"kind": "hstu-production", "layers": 2, "heads": 2, "normaliser": 2.0},
    "sasrec": {"kind": "transformer", "layers": 2, "heads": 2},
    "modern": {"kind": "transformer", "preset": "modern", "layers": 2, "heads": 2},
    "ligr": {"kind": "ligr", "layers": 2, "heads": 2},
    "fuxi-linear": {"kind": "fuxi-linear", "layers": 2, "heads": 2, "chunk": 4},
}
HAPPENS = {
    "append": 0.4,
    "early": 0.12,
    "amend": 0.1,
    "remove": 0.1,
    "exchange": 0.15,
    "move": 0.08,
    "tell": 0.03,
    "merge": 0.01,
    "forget": 0.01,
}
"""What may happen to a person, and how often."""


def artifact_of(
    log: Dataset, layout: str, encoder: dict[str, Any], *, window: int = 16, joint: bool = False
) -> Artifact:
    """Of a recommender away from its start, where attention is so small that a stale token would not show."""
    config = {"kind": "recommender", "window": window, "width": 8, "layout": layout, "encoder": encoder}
    config |= {"feedback": {}, "next_item": {} if joint else None, "embedding": {"features": True, "item_std": 1.0}}
    model = saved_model.parse(config).build(Catalogue.of(log), seed=3).eval()
    model.fit_statistics(Statistics(log, ProtocolConfig(split="loo-paper").cut(log)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.linspace(-0.3, 0.3, parameter.numel()).view_as(parameter))
    catalogue = log.items.with_columns(training_events=pl.Series(np.bincount(log.item, minlength=log.num_items)))
    schema = log.manifest.model_dump(mode="json")
    return Artifact.of(ArtifactData({"name": "t", "model": config, "protocol": {}}, schema, catalogue, model))


@dataclass
class Record:
    """What happened to one person, in plain lists."""

    events: list[StoredEvent] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    series: list[tuple[int, str, Any]] = field(default_factory=list)
    removed: int | None = None  # when the event was that was taken back last

    @property
    def newest(self) -> int | None:
        return max((event.time or 0 for event in self.events), default=None)

    def history(self, names: tuple[str, ...]) -> History:
        order = sorted(self.events, key=lambda event: event.time or 0)  # stable: equal times in the order of arrival
        known = {name: [_when(event.known_at.get(name)) for event in order] for name in names if name == "seconds"}
        late = {name: column for name, column in known.items() if any(time is not None for time in column)}
        return History(
            items=[event.item for event in order],
            times=[np.datetime64(event.time or 0, "ms") for event in order],  # type: ignore[misc]
            fields={name: [event.values.get(name) for event in order] for name in names},
            user=self.facts,
            series=[(np.datetime64(time, "ms"), name, value) for time, name, value in self.series],  # type: ignore[misc]
            known_at=late,
        )


def _when(time: int | None) -> np.datetime64 | None:
    return None if time is None else np.datetime64(time, "ms")


@dataclass
class World:
    """People, their store, an engine over it, and what may happen. `values`: field -> values that it may have."""

    artifact: Artifact
    engine: Engine
    rng: np.random.Generator
    start: int
    values: dict[str, list[Any]]
    items: int
    facts: Callable[[np.random.Generator], dict[str, Any]] = lambda rng: {}
    changing: dict[str, list[Any]] = field(default_factory=dict)
    late: bool = False
    people: dict[int, Record] = field(default_factory=dict)
    made: int = 0

    @classmethod
    def of(cls, artifact: Artifact, seed: int, *, stride: int, microbatch: int, cache: int, **world: Any) -> World:
        store = MemoryStore(Clock(max_future=None))
        engine = Engine(artifact, store=store, stride=stride, microbatch=microbatch, cache=cache, now=lambda: 0)
        return cls(artifact, engine, np.random.default_rng(seed), **world)

    def happen(self) -> None:
        """One thing."""
        user = int(self.rng.integers(1, 5))
        record = self.people.setdefault(user, Record())
        getattr(self, f"_{self.rng.choice(list(HAPPENS), p=list(HAPPENS.values()))}")(user, record)

    def _event(self, time: int) -> StoredEvent:
        self.made += 1
        values = {name: self.rng.choice(np.array(known, dtype=object)) for name, known in self.values.items()}
        values = {name: value for name, value in values.items() if value is not None}
        later = time + int(self.rng.integers(0, 400)) * MINUTE
        known_at = {"seconds": later} if self.late and "seconds" in values and self.rng.random() < 0.5 else {}
        return StoredEvent(f"event {self.made}", int(self.rng.integers(0, self.items + 2)), time, values, known_at)

    def _append(self, user: int, record: Record) -> None:
        first = self.start if record.newest is None else record.newest
        times = first + MINUTE * np.cumsum(self.rng.integers(0, 200, self.rng.integers(1, 4)))
        self._post(user, record, [self._event(int(time)) for time in times])

    def _early(self, user: int, record: Record) -> None:
        if record.newest is not None:
            self._post(user, record, [self._event(int(self.rng.integers(self.start, record.newest + 1)))])

    def _post(self, user: int, record: Record, events: list[StoredEvent]) -> None:
        self.engine.append(user, events)
        record.events += events

    def _amend(self, user: int, record: Record) -> None:
        if not record.events:
            return
        place = int(self.rng.integers(0, len(record.events)))
        event = record.events[place]
        new = self._event(event.time or 0)
        self.engine.store.amend(user, event.id, new.values, new.known_at)
        record.events[place] = replace(
            event, values={**event.values, **new.values}, known_at={**event.known_at, **new.known_at}
        )

    def _remove(self, user: int, record: Record) -> None:
        if record.events:
            event = record.events.pop(int(self.rng.integers(0, len(record.events))))
            assert self.engine.store.remove(user, event.id)
            record.removed = event.time

    def _exchange(self, user: int, record: Record) -> None:
        """An event is taken back, and another one of its time and values is about another item."""
        if record.events:
            place = int(self.rng.integers(0, len(record.events)))
            old = record.events.pop(place)
            self.engine.store.remove(user, old.id)
            self.made += 1
            self._post(user, record, [replace(old, id=f"event {self.made}", item=(int(old.item) + 1) % self.items)])

    def _move(self, user: int, record: Record) -> None:
        """One changing fact is told again, with another value or for the first time; constant ones stay."""
        if not self.changing:
            return
        name = str(self.rng.choice(list(self.changing)))
        value = self.rng.choice(np.array(self.changing[name], dtype=object))
        last = record.newest or self.start
        time = int(self.rng.integers(self.start - 1, last + 1))
        record.series = sorted([*record.series, (time, name, value)], key=lambda entry: entry[0])
        self.engine.store.tell(user, record.facts, record.series)

    def _tell(self, user: int, record: Record) -> None:
        times = np.sort(self.rng.integers(0, 3000, 3)) * MINUTE + self.start
        name = list(self.changing)
        series = [
            (int(time), one, self.rng.choice(np.array(self.changing[one], dtype=object)))
            for time in times
            for one in name
        ]
        record.facts, record.series = self.facts(self.rng), series
        self.engine.store.tell(user, record.facts, series)

    def _merge(self, user: int, record: Record) -> None:
        other = user % 4 + 1
        old = self.people.pop(other, Record())
        self.engine.store.merge(other, user)
        record.events += old.events
        record.facts = {**old.facts, **record.facts}
        record.series = sorted([*old.series, *record.series], key=lambda entry: entry[0])

    def _forget(self, user: int, record: Record) -> None:
        self.engine.forget(user)
        del self.people[user]

    def ask(self) -> list[tuple[int, int]]:
        """Some people, somebody perhaps twice, each at a time of its own that is not before the newest event."""
        users = [int(user) for user in self.rng.integers(1, 6, self.rng.integers(1, 4))]
        return [(user, self._moment(user)) for user in users]

    def _moment(self, user: int) -> int:
        record = self.people.get(user, Record())
        newest = record.newest or self.start
        if record.removed is not None and record.removed >= newest and self.rng.random() < 0.5:
            return record.removed  # as if it were still the next event
        return newest + int(self.rng.integers(0, 300)) * MINUTE

    def history(self, user: int) -> History:
        return self.people.get(user, Record()).history(tuple(self.values))
