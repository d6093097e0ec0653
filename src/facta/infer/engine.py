"""The live engine: people whose events come in, and answers that know them.

    engine = facta.Engine(artifact, cache="1GiB")
    engine.append(17, {"item_id": 318, "timestamp": "2030-01-01T12:00"})
    engine.recommend(17, k=10)

Four nouns, as in nano-vllm: a request on its way (`work.py`), what is kept of people and what goes (`cache.py`,
`people.py`, `memories.py`), whose turn it is (`scheduler.py`), and what computes (`runner.py`).

Letters: B users of a call, k items of a list, M candidates.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from facta.data.batches.request import Asked
from facta.data.dataset.ids import ItemId
from facta.data.dataset.times import Time, moment
from facta.errors import FactaError
from facta.infer.answer import Answer
from facta.infer.artifact import Artifact
from facta.infer.cache import Cache, bytes_of
from facta.infer.coding import Coding
from facta.infer.filters import Exclude, Filters
from facta.infer.freed import give_back
from facta.infer.history import context_codes
from facta.infer.live_popularity import LivePopularity
from facta.infer.memories import Memories
from facta.infer.people import People, Resident
from facta.infer.ranking import Ranking, ScoreWeights
from facta.infer.runner import Runner
from facta.infer.scheduler import Scheduler
from facta.infer.similar import SimilarItems
from facta.infer.verbs import length_of
from facta.infer.work import Work
from facta.store.memory import MemoryStore
from facta.store.posted import Ids, Words
from facta.store.protocol import Appended, EventStore, StoredEvent, UserId

Posts = Mapping[str, Any] | StoredEvent | Iterable[Mapping[str, Any] | StoredEvent]
RESIDENTS = 0.1  # of the cache's budget: for coded histories, which are a small part of keys and values
GIVEN_BACK = 1 / 16  # of the budget: evicted bytes after which freed memory goes back to the system


class Engine:
    """Answers about the people of an event store, from what it keeps of them.

    `artifact` recommends and, where it predicts feedback, ranks; `ranker`: another artifact that ranks. `store`: where
    events live; None: in memory, gone with the engine. `cache`: bytes of keys, values and histories that are kept, as a
    number or as in "1GiB". `stride`: how many events a full window moves at a time, as in `Artifact.recommend`; while
    it stands still, what was computed of it is kept; None: an eighth of the window. `microbatch`: candidates that are
    scored together. Its answers are those of the artifact about the same histories and with the same stride. It serves
    one thread at a time.
    """

    def __init__(
        self, artifact: Artifact, *, ranker: Artifact | None = None, store: EventStore | None = None,
        cache: int | str = "1GiB", stride: int | None = None, microbatch: int = 1024, waiting: int = 1024,
        popular_half_life: float | None = None, now: Callable[[], int] | None = None,
    ) -> None:  # fmt: skip
        """`waiting`: requests that may wait at most; `now`: a clock of milliseconds since 1970. `popular_half_life`:
        days after which an event counts half, where popularity answers; it is then that of the store's events, and
        `source` says "live popularity". None: that of the training events."""
        self.store: EventStore = MemoryStore() if store is None else store
        budget, held = bytes_of(cache), [artifact.verbs, *([] if ranker is None else [ranker.verbs])]
        self._retriever, self._ranker = held[0], held[-1]
        self.codings = [Coding(one.items, one.fields, one.model.inputs) for one in held]
        self.residents: Cache[UserId, Resident] = Cache(int(RESIDENTS * budget))
        self.memories: Memories = Cache(int((1 - RESIDENTS) * budget))
        items: Ids = "text" if artifact.verbs.items.text_ids else "number"
        self.words = Words(artifact.schema, items=items)
        self.steps = self.answered = self.from_kept = 0  # counters since the start
        self.people = People(self.store, self.codings, self.residents)
        self.stride = max(artifact.model.window // 8, 1) if stride is None else stride
        popular = None
        if popular_half_life is not None:
            rows_of, count = self.codings[0].rows_of, len(artifact.verbs.items.catalogue)
            popular = LivePopularity(self.store, rows_of, count, popular_half_life)
        self.runner = Runner(
            self._retriever, self._ranker, self.people, self.memories, stride=self.stride, microbatch=microbatch,
            now=now or (lambda: time.time_ns() // 1_000_000), popular=popular,
        )  # fmt: skip
        self.scheduler = Scheduler(waiting)
        self._given_back = 0  # bytes that were evicted before memory was given back last

    # what happened

    def append(self, user: UserId, events: Posts) -> Appended:
        """Keep events of a user, all or none; the next answer knows them.

        `events`: one or a list, each in the words of the log, as in {"item_id": 318, "timestamp": "2030-01-01T12:00",
        "rating": 4}; an "event_id" makes it safe to say the same twice. Raises DataError for what is no such event, and
        ConflictError for an event_id whose content was another one.
        """
        posted = [events] if isinstance(events, (Mapping, StoredEvent)) else list(events)
        (user,) = self._users(user)
        return self.store.append([(user, self._event(user, one)) for one in posted])

    def amend(self, user: UserId, event_id: str, values: Mapping[str, Any]) -> StoredEvent:
        """Feedback that came late, or was corrected, in the words of the log. Raises UnknownEventError."""
        said = self.words.feedback(values)
        (user,) = self._users(user)
        return self.store.amend(user, event_id, said.values, said.known_at)

    def _event(self, user: UserId, posted: Mapping[str, Any] | StoredEvent) -> StoredEvent:
        return posted if isinstance(posted, StoredEvent) else self.words.read({"user_id": user, **posted}).event

    def forget(self, user: UserId) -> bool:
        """Delete all that is known of a user, in the store and in what is kept; False where nothing was."""
        (user,) = self._users(user)
        known = self.store.forget(user)
        self.people.forget(user)
        for which in range(len(self.codings)):
            self.memories.drop((which, user))
        return known

    def sweep(self) -> None:
        """Let go of everybody whom another process has forgotten in the store. Whoever is asked about is looked up
        anyway; this is for those about whom nobody asks any more."""
        self.people.sweep()
        for name in list(self.memories):
            if name[1] not in self.residents:  # type: ignore[index]
                self.memories.drop(name)

    def hide(self, items: ItemId | Iterable[ItemId], *, hidden: bool = True) -> None:
        """Keep items out of all lists, or let them in again. Who asks about them by name, as in `rank`, is answered.
        Other engines of the store know it within a second."""
        for item in [items] if isinstance(items, (int, str)) else items:
            self.store.describe(self.words.id(item, "item"), {}, hidden=hidden)
        self.runner.hidden.refresh(at_once=True)

    # what is asked

    def recommend(
        self, user: UserId | Sequence[UserId], k: int = 10, *, at: Time | None = None,
        context: Mapping[str, Any] | None = None, exclude: Exclude | None = None,
        allow: Sequence[ItemId] | None = None, where: Mapping[str, Any] | None = None,
        at_most: Mapping[str, int] | None = None, by: ScoreWeights | None = None, explain: bool = False,
    ) -> Answer:  # fmt: skip
        """The k best items for a user, or a list for each of several.

        `at`: the moment of the requests, and never one before the newest event of a user; None: now. `context`,
        `exclude`, `allow`, `where`, `at_most` and `by` are those of `Artifact.recommend`; where there is a `ranker`, it
        is the one that orders the items by feedback. Hidden items are in no list. `explain`: `because` of the answer
        says of each item how its score changes when one of the newest 50 events is left out, and nothing of the items
        of a user who is answered by popularity. Raises DataError and ConfigError.
        """
        asked: dict[str, Any] = {"at": at, "context": context, "by": by, "explain": explain}
        asked["filters"] = Filters(exclude, allow, where, at_most)
        return self.answer(self._through([self.recommendation(one, k, **asked) for one in self._users(user)]))

    def explain(
        self, user: UserId | Sequence[UserId], items: Iterable[ItemId], *, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: ScoreWeights | None = None,
    ) -> Answer:  # fmt: skip
        """Why items have their scores, for a user or for each of several: `recommend(explain=True)` of these items,
        best first, those in the history among them."""
        ids = list(dict.fromkeys(items))
        return self.recommend(
            user, max(len(ids), 1), at=at, context=context, exclude="nothing", allow=ids, by=by, explain=True
        )

    def rank(
        self, user: UserId | Sequence[UserId], candidates: Iterable[ItemId], *, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: ScoreWeights | None = None,
    ) -> Ranking:  # fmt: skip
        """Candidates for a user, or for each of several, by what they would do with them.

        `at`: as in `recommend`; `candidates` (the same for all), `context` and `by` are those of `Artifact.rank`.
        """
        ids = list(candidates)
        works = [self.ranking(one, ids, at=at, context=context, by=by) for one in self._users(user)]
        return self.ranked(self._through(works), [ids] * len(works))

    def similar_items(self, item: ItemId | Iterable[ItemId], k: int = 10) -> SimilarItems:
        """The items that are most like an item, as `Artifact.similar_items` finds them, without the hidden ones."""
        self.runner.hidden.refresh()
        return self._retriever.similar_items(item, k, self.runner.hidden.rows)

    # requests, for whoever serves many

    def recommendation(
        self, user: UserId, k: int, *, at: Time | None = None, context: Mapping[str, Any] | None = None,
        filters: Filters = Filters(), by: ScoreWeights | None = None, explain: bool = False,
        deadline: float | None = None,
    ) -> Work:  # fmt: skip
        """A request for the k best items. With `by` they are ranked by feedback after they were found."""
        weights = None if by is None else self._ranker.score_names().chosen(by)
        heard = weights is None or self._retriever.model.inputs.told  # else the context is said to the ranker alone
        asked = self._retriever.any_item([context or {}] if heard else [])
        return Work(
            user, None if at is None else moment(at), k=length_of(k), selection=self._retriever.selection(filters),
            context=None if asked is None else asked[0].context, by=weights, deadline=deadline,
            said=None if by is None else self._said(context), explain=explain,
        )  # fmt: skip

    def ranking(
        self, user: UserId, candidates: Sequence[ItemId], *, at: Time | None = None,
        context: Mapping[str, Any] | None = None, by: ScoreWeights | None = None, deadline: float | None = None,
    ) -> Work:  # fmt: skip
        """A request for the order of candidates."""
        rows = self._ranker.items.rows_of(candidates)
        return Work(
            user, None if at is None else moment(at), candidates=Asked(rows[rows >= 0], self._said(context)),
            by=self._ranker.score_names().chosen(by), deadline=deadline,
        )  # fmt: skip

    def submit(self, work: Work) -> Work:
        """Let a request wait for its turn. Raises BusyError where too many do."""
        self.scheduler.add(work)
        return work

    def step(self) -> list[Work]:
        """Serve those whose turn it is; returns who was. Nobody waits: an empty list. Where the store does not answer,
        that is the error of each."""
        step = self.scheduler.next(self.runner.cost)
        if not step:
            return []
        tokens, began = sum(self.runner.cost(work) for work in step), time.perf_counter()
        try:
            self.runner.run(step)
        except FactaError as error:  # the store does not answer
            for work in step:
                work.fail(error)
        self.scheduler.took(tokens, time.perf_counter() - began)
        self.steps += 1
        self.answered += sum(work.done for work in step)
        self.from_kept += sum(work.done and work.kept for work in step)
        for work in step:
            if not work.done:
                self.scheduler.again(work)
        self._give_back()
        return step

    def _give_back(self) -> None:
        """What was freed, each time that a share of the budget has been."""
        evicted = self.memories.evicted_bytes
        if evicted - self._given_back > GIVEN_BACK * self.memories.budget:
            self._given_back = evicted
            give_back()

    def answer(self, works: Sequence[Work]) -> Answer:
        """What was found for requests that are done, in one answer; all of them without `by`, or with the same one."""
        found = [work.found for work in works if work.found is not None]
        source, histories = [one.source for one in found], [work.histories[0] for work in works]
        if works and works[0].by is not None:
            answer = Answer.ranked(self.ranked(works), source, histories)
        else:
            lists = [one.rows for one in found], [one.scores for one in found]
            answer = self._retriever.answer_of(*lists, source, histories)
        if not any(work.explain for work in works):
            return answer
        why = [{} if work.explaining is None else work.explaining.because(work.events) for work in works]
        return replace(
            answer, because=[[one.get(id_, []) for id_ in ids] for one, ids in zip(why, answer.ids, strict=True)]
        )

    def ranked(self, works: Sequence[Work], given: Sequence[Sequence[ItemId]] | None = None) -> Ranking:
        """The orders of candidates of requests that are done, which were for the same scores, in one answer. `given`:
        the candidates that each was asked about; some may be unknown."""
        asked = [work.candidates for work in works if work.candidates is not None]
        raw = {name: np.concatenate([one.scores(name) for one in works]) for name in self._ranker.model.predicted}
        counts = [len(one.rows) for one in asked] if given is None else [len(ids) for ids in given]
        left_out = [count - len(one.rows) for count, one in zip(counts, asked, strict=True)]
        histories = [work.histories[self.runner.of_ranker] for work in works]
        return self._ranker.ranking_of(raw, asked, dict(works[0].by or {}), left_out, histories)

    def _through(self, works: Sequence[Work]) -> Sequence[Work]:
        """Requests, answered. Raises what one of them failed with."""
        waiting = deque(works)
        while waiting or len(self.scheduler):
            while waiting and len(self.scheduler) < self.scheduler.limit:
                self.submit(waiting.popleft())
            self.step()
        for work in works:
            if work.error is not None:
                raise work.error
        return works

    def _users(self, user: UserId | Sequence[UserId]) -> list[UserId]:
        """Ids as the log writes them: where its ids are numbers, 17 and "17" are one person. Raises DataError."""
        return [self.words.id(one, "user") for one in ([user] if isinstance(user, (int, str)) else user)]

    def _said(self, context: Mapping[str, Any] | None) -> dict[str, int]:
        return context_codes(context or {}, self._ranker.fields, self._ranker.model.inputs)
