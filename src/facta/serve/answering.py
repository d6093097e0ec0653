"""Requests of the HTTP process -> answers of an engine, in the words of the pages: no sockets here.

Letters: n requests of a step.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
from pydantic_core import from_json, to_json

from facta.errors import BusyError, FactaError
from facta.infer.artifact import Artifact
from facta.infer.engine import Engine
from facta.infer.filters import Filters
from facta.infer.work import Work
from facta.serve.known_items import digest
from facta.serve.problems import status_of
from facta.serve.titles import Titles
from facta.serve.wire import READY, Frame, Verb
from facta.store.content import Clock
from facta.store.opening import open_store
from facta.store.protocol import Person, StoredEvent, UserId

REASONS = 5  # events that explain an item
Request = Mapping[str, Any]
_SAID = {"name", "role", "kind", "categories", "levels"}  # of a field: what a value of it may be


class Answering:
    """An engine and the requests that wait for it."""

    def __init__(self, engine: Engine, artifact: Artifact, name: str) -> None:
        self.engine, self.artifact = engine, artifact
        self.model = {"name": name, "fingerprint": artifact.fingerprint}
        self.titles = Titles(artifact.catalogue)
        self._waiting: dict[Work, tuple[int, Request]] = {}
        self._done = {
            Verb.SIMILAR: self._similar, Verb.ITEMS: self._items, Verb.STATUS: self._status, Verb.FORGET: self._forget,
            Verb.HIDDEN: self._hidden, Verb.SWEEP: self._sweep,
        }  # fmt: skip

    @classmethod
    def of(
        cls, name: str, artifact: str, ranker: str | None, store: str, *, cache: str, stride: int | None, waiting: int,
        popular_half_life: float | None = None,
    ) -> Answering:  # fmt: skip
        """Load what is served. Raises ArtifactError, StoreError and ConfigError."""
        loaded = Artifact.load(artifact)
        other = None if ranker is None else Artifact.load(ranker)
        opened = open_store(store, Clock(max_future=None))  # it only reads; the HTTP process has its own clock
        engine = Engine(
            loaded, ranker=other, store=opened, cache=cache, stride=stride, waiting=waiting,
            popular_half_life=popular_half_life,
        )  # fmt: skip
        return cls(engine, loaded, name)

    def __len__(self) -> int:
        return len(self._waiting)

    def ready(self) -> Frame:
        """What the HTTP process has to know of the model."""
        model, ids = self.artifact.model, self.artifact.catalogue["item_id"]
        said = {
            **self.model,
            "kind": self.artifact.config["model"]["kind"],
            "tasks": [*model.tasks],
            "predicts": [*model.predicted],
            "context": [*model.inputs.told],
            "reads_time": self.artifact.reads_time,
            "items": len(ids),
            "item_ids": "text" if ids.dtype == pl.String else "number",
            "user_ids": self.engine.words.ids["user"],
            "timed": self.engine.words.timed,
            "fields": [one.model_dump(include=_SAID, exclude_none=True) for one in self.engine.words.fields.values()],
            "window": model.window,
            "stride": self.engine.stride,
            "metrics": [*self.artifact.metrics],
        }
        known = np.sort(np.frombuffer(b"".join(map(digest, ids)), dtype=np.uint64))
        said["known"] = base64.b64encode(known.tobytes()).decode()
        return Frame(0, READY, to_json(said, inf_nan_mode="null"))

    def warm(self) -> None:
        """Answer about an invented person, twice, the second time from what was kept: what is imported and made at the
        first question takes seconds, and is there when somebody asks."""
        engine, timed = self.engine, self.engine.words.timed
        ids = self.artifact.catalogue.filter(pl.col("training_events") > 0)["item_id"].head(3).to_list()
        now = time.time_ns() // 1_000_000
        events = [StoredEvent(str(n), id_, now - 60_000 * (3 - n) if timed else None) for n, id_ in enumerate(ids)]
        for _ in range(2):
            works = [engine.recommendation("nobody", 1)] if "next_item" in self.artifact.model.tasks else []
            works += [engine.ranking("nobody", ids)] if engine.runner.ranker.model.predicted else []
            for work in works:
                work.given = Person(1, tuple(events))
                engine.submit(work)
            while not all(work.done for work in works):
                engine.step()
        if engine.runner.popular is not None:
            engine.runner.popular.scores()
        self._drop("nobody")
        engine.steps = engine.answered = engine.from_kept = 0

    def _drop(self, user: UserId) -> None:
        for which in range(2):
            self.engine.memories.drop((which, user))

    def take(self, frame: Frame) -> Frame | None:
        """Begin a request; what needs no turn of the models, and what is refused, is answered at once."""
        if frame.code == Verb.CANCEL:
            self._cancel(frame.number)
            return None
        request = from_json(frame.body)
        try:
            if frame.code in (Verb.RECOMMEND, Verb.RANK):
                work = self._work(Verb(frame.code), request)
                self._waiting[self.engine.submit(work)] = frame.number, request
                return None
            return _answer(frame.number, self._done[Verb(frame.code)](request))
        except FactaError as error:
            return refusal(frame.number, error)

    def step(self) -> list[Frame]:
        """One step of the engine: the answers of the requests that it ended."""
        if not self._waiting:
            return []
        self.engine.step()
        ended = [work for work in self._waiting if work.done]
        found = [refusal(self._waiting[work][0], work.error) for work in ended if work.error is not None]
        served = [work for work in ended if work.error is None]
        found += self._recommended([work for work in served if work.k is not None and work.by is None])
        found += [one for work in served if work.k is not None and work.by for one in self._recommended([work])]
        found += [_answer(self._waiting[work][0], self._ranked(work)) for work in served if work.k is None]
        for work in ended:
            del self._waiting[work]
            if work.given is not None:  # nobody will come back to it
                self._drop(work.user)
        return found

    def _work(self, verb: Verb, request: Request) -> Work:
        asked = {name: request[name] for name in ("at", "context", "by") if request.get(name) is not None}
        user = request["user_id"] if request.get("history") is None else f"history of {request['request_id']}"
        deadline = time.monotonic() + request["seconds"]
        if verb is Verb.RANK:
            items = [self.engine.words.id(one, "item") for one in request["candidates"]]
            work = self.engine.ranking(user, items, deadline=deadline, **asked)
        else:
            filters = self._filters(request)
            work = self.engine.recommendation(
                user, request["k"], filters=filters, explain=request.get("explain", False), deadline=deadline, **asked
            )
        if request.get("history") is not None:
            work.given = self._person(request)
        return work

    def _filters(self, request: Request) -> Filters:
        exclude, allow = (
            [self.engine.words.id(one, "item") for one in given] if isinstance(given, list) else given
            for given in (request.get("exclude"), request.get("allow"))
        )
        return Filters(exclude, allow, request.get("where"), request.get("at_most"))

    def _person(self, request: Request) -> Person:
        """The person of a history that was given with the request."""
        words = self.engine.words
        user = {words.columns.get("user_id", "user_id"): request.get("user_id") or 0}
        events = [words.read(user | event).event for event in request["history"]]
        events.sort(key=lambda event: event.time or 0)
        return Person(1, tuple(events), request.get("facts") or {})

    def _recommended(self, works: Sequence[Work]) -> list[Frame]:
        if not works:
            return []
        found, frames = self.engine.answer(works), []
        for place, work in enumerate(works):
            listed = zip(found.ids[place], found.titles[place], found.scores[place], strict=True)
            items: list[dict[str, Any]] = [{"id": id_, "title": title, "score": score} for id_, title, score in listed]
            answer = self._head(work) | {"source": found.source[place], "items": items, "unknown": found.unknown[place]}
            if work.explain and found.source[place] == "model":
                for item, why in zip(items, found.because[place], strict=True):
                    item["because"] = [one._asdict() for one in why[:REASONS]]
            if found.by:
                answer["by"] = dict(found.by)
                for n, item in enumerate(items):
                    item["scores"] = {name: found.predicted[name][place][n] for name in found.predicted}
            frames.append(_answer(self._waiting[work][0], answer))
        return frames

    def _ranked(self, work: Work) -> dict[str, Any]:
        head, given = self._head(work) | {"source": "model"}, self._waiting[work][1]["candidates"]
        found = self.engine.ranked([work], [given])
        items = [
            {"id": id_, "title": title, "scores": {name: found.scores[name][0][n] for name in found.scores}}
            for n, (id_, title) in enumerate(zip(found.ids[0], found.titles[0], strict=True))
        ]
        numbers = {"unknown": found.unknown[0], "left_out": found.left_out[0], "untrained": found.untrained[0]}
        return head | {"by": dict(found.by), "items": items} | numbers

    def _head(self, work: Work) -> dict[str, Any]:
        request = self._waiting[work][1]
        at = datetime.fromtimestamp((work.moment or 0) / 1000, UTC).isoformat(timespec="milliseconds")
        return {"request_id": request["request_id"], "model": self.model, "at": at, "cached": work.kept}

    def _similar(self, request: Request) -> dict[str, Any]:
        item = self.engine.words.id(request["item_id"], "item")
        found = self.engine.similar_items(item, request["k"])
        listed = zip(found.ids[0], found.titles[0], found.scores[0], strict=True)
        items = [{"id": id_, "title": title, "score": score} for id_, title, score in listed]
        return {
            "request_id": request["request_id"], "model": self.model, "item_id": item, "by": found.by, "items": items
        }  # fmt: skip

    def _items(self, request: Request) -> dict[str, Any]:
        if request["q"] is not None:
            items = self.titles.find(request["q"], request["k"])
        else:
            rows = self.engine.codings[0].rows_of([self.engine.words.id(one, "item") for one in request["ids"]])
            items = self.titles.of(rows[rows >= 0])
        return {"request_id": request["request_id"], "items": items}

    def _status(self, request: Request) -> dict[str, Any]:
        engine = self.engine
        return {
            "waiting": len(engine.scheduler),
            "steps": engine.steps,
            "answered": engine.answered,
            "answered_from_cache": engine.from_kept,
            "expired": engine.scheduler.expired,
            "cache_bytes": engine.memories.nbytes + engine.residents.nbytes,
            "cache_people": len(engine.memories),
            "cache_evicted": engine.memories.evicted,
        }

    def _hidden(self, request: Request) -> dict[str, Any]:
        self.engine.runner.hidden.refresh(at_once=True)
        return {}

    def _sweep(self, request: Request) -> dict[str, Any]:
        self.engine.sweep()
        return {}

    def _cancel(self, number: int) -> None:
        """Nobody waits for the answer of a request any more."""
        for work, (asked, _) in self._waiting.items():
            if asked == number:
                work.error, work.cancelled = BusyError("Nobody waits for this answer any more."), True

    def _forget(self, request: Request) -> dict[str, Any]:
        for work in self._waiting:
            if work.user == request["user_id"]:  # a ranking that has begun would keep what it knows of the person
                work.error = BusyError("The person of this request was forgotten or joined to another one; ask again.")
                work.cancelled = True
        self.engine.forget(request["user_id"])
        return {}


def _answer(number: int, found: Mapping[str, Any]) -> Frame:
    return Frame(number, 200, to_json(found, inf_nan_mode="null"))


def refusal(number: int, error: FactaError) -> Frame:
    """A sentence for whoever asked."""
    return Frame(number, status_of(error), to_json({"error": type(error).__name__, "detail": str(error)}))
