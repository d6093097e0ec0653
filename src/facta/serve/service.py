"""What each path does, without HTTP: store, words and engines.

Every call of the store goes to a thread: those that come together share a commit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from pydantic_core import from_json

from facta.data.dataset.moments import posted_moment
from facta.data.dataset.one_value import check
from facta.data.dataset.schema import Field
from facta.errors import BusyError, DataError, StoreError
from facta.serve.config import DEFAULT, ServeConfig
from facta.serve.link import Answer, EngineLink
from facta.serve.models import Models
from facta.serve.problems import RequestError
from facta.serve.requests import Facts, Rank, Recommend
from facta.serve.wire import Verb
from facta.store.posted import Words
from facta.store.protocol import EventStore, StoredEvent, UserId

Value = TypeVar("Value")
_THREADS = 32  # that wait for the store
_HOLD = 5.0  # seconds that a service is not ready after its store failed; then it is tried again


class Service:
    """`store`: where posted events go; `models`: who answers."""

    def __init__(self, config: ServeConfig, store: EventStore, models: Models) -> None:
        self.config, self.store, self.models = config, store, models
        self._failed = (-_HOLD, "")  # when the store failed last, and why
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="facta-store")

    @property
    def words(self) -> Words:
        return self.models.words

    async def stored(self, call: Callable[..., Value], *arguments: Any) -> Value:
        """What the store returns or raises."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)
        except StoreError as error:
            if type(error) is StoreError:  # the store itself, not what was asked of it
                self._failed = time.monotonic(), str(error)
            raise

    async def close(self) -> None:
        await self.models.close()
        await asyncio.to_thread(self.store.close)
        self._threads.shutdown(wait=False)

    # ids

    async def user(self, given: Any) -> UserId:
        """A user id as the log writes it. Where its artifact does not say what ids are, as the store has them."""
        await self._learn_ids()
        return self.words.id(given, "user")

    async def _learn_ids(self) -> None:
        words = self.words
        if words.ids["user"] is not None:
            return
        first = await self.stored(lambda: next(iter(self.store.people()), None))
        if first is not None:
            words.ids["user"] = "text" if isinstance(first[0], str) else "number"

    # events

    async def append(self, posted: Any, key: str | None = None) -> dict[str, Any]:
        """Keep events, all or none. `key`: from it come the ids of events that have none."""
        lines = posted if isinstance(posted, list) else [posted]
        if len(lines) > self.config.limits.events:
            raise RequestError(
                413, f"Found {len(lines):,} events; expected at most {self.config.limits.events:,}: post them in parts."
            )
        await self._learn_ids()
        found = [self.words.read(line) for line in lines]
        posts = [(one.user, _named(one.event, key, place)) for place, one in enumerate(found)]
        appended = await self.stored(self.store.append, posts)
        answer: dict[str, Any] = {"accepted": appended.accepted, "duplicates": appended.duplicates}
        answer["event_ids"] = appended.ids
        known = self.models.links[DEFAULT].known
        if known is not None:  # before the first start of an engine nobody knows
            answer["unknown_items"] = [*dict.fromkeys(e.item for _, e in posts if e.item not in known)]
        answer["unknown_fields"] = sorted({name for one in found for name in one.unknown})
        return answer

    async def amend(self, user: UserId, event_id: str, posted: Any) -> dict[str, Any]:
        """Feedback that came late."""
        said = self.words.feedback(posted)
        event = await self.stored(self.store.amend, user, event_id, said.values, said.known_at)
        return {"event": self.line(user, event), "unknown_fields": sorted(said.unknown)}

    async def remove(self, user: UserId, event_id: str) -> dict[str, Any]:
        """An event taken back."""
        return {"removed": await self.stored(self.store.remove, user, event_id)}

    # people

    async def person(self, user: UserId, newest: int) -> dict[str, Any]:
        """All that is known of a user, of the events the newest ones."""
        found = await self.stored(self.store.person, user)
        if not found.revision:
            raise RequestError(404, f"Nothing is known of user {user!r}; post events first.")
        events = [self.line(user, event) for event in found.events[max(len(found.events) - newest, 0) :]]
        series = [{"timestamp": iso(time), "field": name, "value": value} for time, name, value in found.series]
        return {
            "user_id": user, "revision": found.revision, "num_events": len(found.events), "events": events,
            "facts": dict(found.facts), "series": series,
        }  # fmt: skip

    async def some_people(self, k: int) -> dict[str, Any]:
        """The k who came first."""
        return {"users": await self.stored(self.store.first_users, min(k, self.config.limits.k))}

    async def tell(self, user: UserId, told: Facts) -> dict[str, Any]:
        """Facts, in place of those told before."""
        known = self.words.user_fields
        for name, value in told.facts.items():
            _check(known.get(name), value)
        series = [_entry(one, self.words) for one in told.series]
        return {"revision": await self.stored(self.store.tell, user, dict(told.facts), series)}

    async def merge(self, source: UserId, target: UserId) -> dict[str, Any]:
        """A session joined to an account."""
        revision = await self.stored(self.store.merge, source, target)
        await self._drop(source)
        return {"revision": revision}

    async def forget(self, user: UserId) -> dict[str, Any]:
        """Nothing is known of the user afterwards."""
        forgotten = await self.stored(self.store.forget, user)
        await self._drop(user)
        return {"forgotten": forgotten}

    async def change(self, given: str, *, hidden: bool) -> dict[str, Any]:
        """An item that lists leave out, or hold again."""
        item = self.words.id(given, "item")
        await self.stored(lambda: self.store.describe(item, {}, hidden=hidden))
        await self.tell_engines(Verb.HIDDEN, {})
        known = self.models.links[DEFAULT].known
        return {"item_id": item, "hidden": hidden} | ({} if known is None else {"unknown": item not in known})

    async def _drop(self, user: UserId) -> None:
        """Let the engines forget what they keep."""
        await self.tell_engines(Verb.FORGET, {"user_id": user})

    async def tell_engines(self, verb: Verb, body: Mapping[str, Any]) -> None:
        """Say something to all engines; one that is not there reads it from the store when it begins."""
        for link in self.models.links.values():
            try:
                await link.ask(verb, body, self.config.limits.seconds)
            except BusyError:
                if link.about is not None:
                    raise

    def line(self, user: UserId, event: StoredEvent) -> dict[str, Any]:
        """An event as it is posted."""
        late = {self.words.fields[name].given_when or name: at for name, at in event.known_at.items()
                if name in self.words.fields}  # fmt: skip
        time = {} if event.time is None else {"timestamp": iso(event.time)}
        times = {name: iso(at) for name, at in late.items()}
        return {**event.values, **times, "user_id": user, "item_id": event.item, **time, "event_id": event.id}

    # answers

    async def recommend(self, asked: Recommend, request_id: str) -> Answer:
        if asked.k > self.config.limits.k:
            raise RequestError(422, f"Found k = {asked.k:,}; expected at most {self.config.limits.k:,}.")
        more = {name: getattr(asked, name) for name in ("k", "exclude", "allow", "where", "at_most", "explain")}
        return await self._answer(Verb.RECOMMEND, asked, request_id, more)

    async def rank(self, asked: Rank, request_id: str) -> Answer:
        most = self.config.limits.candidates
        if len(asked.candidates) > most:
            raise RequestError(422, f"Found {len(asked.candidates):,} candidates; expected at most {most:,}.")
        return await self._answer(Verb.RANK, asked, request_id, {"candidates": asked.candidates})

    async def _answer(self, verb: Verb, asked: Recommend | Rank, request_id: str, more: Mapping[str, Any]) -> Answer:
        if asked.history is not None and len(asked.history) > self.config.limits.history:
            raise RequestError(
                422, f"Found {len(asked.history):,} events; expected at most {self.config.limits.history:,}."
            )
        user = None if asked.user_id is None else await self.user(asked.user_id)
        at = None if asked.at is None else posted_moment(asked.at, self.words.unit)
        seconds = self.config.limits.seconds
        request = {
            "request_id": request_id, "user_id": user, "history": asked.history, "facts": asked.facts, "at": at,
            "context": asked.context, "by": asked.by, "seconds": seconds, **more,
        }  # fmt: skip
        return await self.models.of(asked.model, user).ask(verb, request, seconds)

    async def similar(self, item: str, k: int, request_id: str) -> Answer:
        request = {"request_id": request_id, "item_id": item, "k": min(k, self.config.limits.k)}
        return await self.models.of(None, None).ask(Verb.SIMILAR, request, self.config.limits.seconds)

    async def items(self, typed: str | None, ids: Sequence[str], k: int, request_id: str) -> Answer:
        """By what was typed, or by ids."""
        most = self.config.limits.k
        if len(ids) > most:
            raise RequestError(422, f"Found {len(ids):,} ids; expected at most {most:,}.")
        request = {"request_id": request_id, "q": typed, "ids": ids, "k": min(k, most)}
        return await self.models.of(None, None).ask(Verb.ITEMS, request, self.config.limits.seconds)

    # how it goes

    async def why_not_ready(self) -> list[str]:
        """Sentences; none where all answer."""
        why = self.models.why_not_ready()
        try:
            async with asyncio.timeout(2):
                await self.stored(self.store.changes, {0: 0})
        except TimeoutError:
            why.append("The event store does not answer within two seconds.")
        except StoreError:
            pass  # said below
        when, sentence = self._failed
        return [*why, sentence] if time.monotonic() - when < _HOLD else why

    async def status(self, link: EngineLink) -> dict[str, Any]:
        """Counters of an engine; none where it does not answer."""
        try:
            _, body = await link.ask(Verb.STATUS, {}, 1.0)
        except BusyError:
            return {}
        found: dict[str, Any] = from_json(body)
        return found


def iso(time: int) -> str:
    """ms since 1970 as text."""
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds")


def _named(event: StoredEvent, key: str | None, place: int) -> StoredEvent:
    return event if event.id or key is None else replace(event, id=f"{key}-{place}")


def _check(field: Field | None, value: Any) -> None:
    """Refuse a fact of another kind than the log's; what the log does not have is kept."""
    if field is not None and field.kind in ("binary", "categorical", "ordinal", "numeric"):
        check(field, value)


def _entry(posted: Mapping[str, Any], words: Words) -> tuple[int, str, Any]:
    if set(posted) != {"timestamp", "field", "value"} or not isinstance(posted["field"], str):
        raise DataError(f"Found {dict(posted)!r:.80} among series; expected timestamp, field and value.")
    _check(words.series_fields.get(posted["field"]), posted["value"])
    return posted_moment(posted["timestamp"], words.unit), posted["field"], posted["value"]
