"""What computes a step: the requests of many people in one call of each model; all tensors of the engine are here.

Letters: B requests of a step, k items of a list, M candidates.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from facta.arrays import Floats32, Ints
from facta.data.batches.encoded import EncodedHistory
from facta.data.batches.request import Asked
from facta.errors import DataError
from facta.infer.answer import sources
from facta.infer.asking import Asking, KeptUnder
from facta.infer.candidates import MICROBATCH, Candidates, Microbatch, advance
from facta.infer.explaining import Explaining
from facta.infer.hidden_items import HiddenItems
from facta.infer.live_popularity import LivePopularity
from facta.infer.memories import Memories
from facta.infer.people import People
from facta.infer.verbs import Verbs
from facta.infer.work import Found, Work
from facta.store.protocol import UserId


class Runner:
    """The models of an engine and what is kept of people for them."""

    def __init__(
        self, retriever: Verbs, ranker: Verbs, people: People, memories: Memories, *, stride: int, microbatch: int,
        now: Callable[[], int], popular: LivePopularity | None = None,
    ) -> None:  # fmt: skip
        """`people`: in the codings of the retriever and, where it is another artifact, of the ranker; `now`: ms."""
        self.retriever, self.ranker, self.people, self.memories = retriever, ranker, people, memories
        self.of_ranker = 0 if ranker is retriever else 1  # which of people's codings, and whose memory
        self.stride, self.microbatch, self._now = stride, min(microbatch, MICROBATCH), now
        self.popular = popular
        self.hidden = HiddenItems(people.store, people.codings[0].rows_of)

    def cost(self, work: Work) -> int:
        """Tokens of the next part of a request; those of events that are kept cost nothing."""
        if work.explaining is not None:
            return work.explaining.cost
        if work.ranking is not None:
            return 1 + min(work.ranking.left, self.microbatch)
        tokens = sum(
            verbs.model.window * verbs.model.tokens_per_event
            for verbs, which in self._asked(work)
            if (which, work.user) not in self.memories
        )
        return 1 + tokens + (0 if work.candidates is None else min(len(work.candidates.rows), self.microbatch))

    def _asked(self, work: Work) -> list[tuple[Verbs, int]]:
        """Which artifacts a request is for, with the numbers of their codings."""
        asked = [(self.retriever, 0)] if work.k is not None else []
        return [*asked, (self.ranker, self.of_ranker)] if work.by is not None else asked

    def run(self, step: Sequence[Work]) -> None:
        """One part of each request. Those that are through are `done`."""
        self._begin([work for work in step if work.moment is None])
        going = [work for work in step if not work.done]
        self._retrieve([work for work in going if work.k is not None and work.found is None])
        for work in going:
            if work.by is not None and work.ranking is None:
                work.ranking = self._candidates(work)
        self._rank([work for work in going if work.ranking is not None and work.ranking.left])
        for work in going:
            work.done = work.ranking is None or not work.ranking.left
            if work.done and work.explain and work.found is not None and work.found.source == "model":
                work.done = self._explained(work)

    def _begin(self, step: Sequence[Work]) -> None:
        """Look up all people of a step at once, and which items are hidden."""
        now = self._now()
        if any(work.k is not None for work in step):
            self.hidden.refresh()
        stored = [work.user for work in step if work.given is None and not work.explain]
        people = self.people.of(stored) if stored else {}
        for work in step:
            histories = self._coded(work) if work.given is not None or work.explain else people[work.user]
            newest = max((int(one.times[-1]) for one in histories if one.times is not None and len(one)), default=0)
            work.moment = max(now if work.at is None else work.at, newest)
            try:
                self._bind(work, histories)
            except DataError as error:
                work.fail(error)

    def _coded(self, work: Work) -> Sequence[EncodedHistory]:
        """Histories of a request's own. Where it is explained, its events are known by their ids."""
        person = self.people.store.person(work.user) if work.given is None else work.given
        work.events = person.events
        return self.people.coded(person)

    def _explained(self, work: Work) -> bool:
        """One part of an explanation; whether it was the last one."""
        assert work.found is not None
        if work.explaining is None:
            verbs, which = self._asked(work)[-1]
            history, ranked = work.histories[which], work.candidates
            work.explaining = Explaining(
                verbs, history, None if history.times is None else work.moment,
                work.found.rows if ranked is None else ranked.rows, self.stride, (which, work.user),
                work.context if ranked is None else ranked.context, work.by,
            )  # fmt: skip
        work.explaining.advance(self.memories)
        return not work.explaining.left

    def _bind(self, work: Work, histories: Sequence[EncodedHistory]) -> None:
        for verbs, which in self._asked(work):
            if verbs.reads_time and histories[which].times is None:
                raise DataError("This model reads time, and the history has none: post events with their times.")
        work.histories = histories
        work.kept = all((which, work.user) in self.memories for _, which in self._asked(work))

    def _candidates(self, work: Work) -> Candidates:
        """Those that were asked for, or else what was found in the catalogue."""
        if work.candidates is None:
            assert work.found is not None
            work.candidates = Asked(self._rows_of_ranker(work.found.rows), work.said or {})
        history = work.histories[self.of_ranker]
        if len(work.candidates.rows) > self.microbatch:
            history = history.copy()  # it may grow before the last of them has its scores
        at = None if history.times is None else work.moment
        return Candidates(history, at, work.candidates, (self.of_ranker, work.user))

    def _rows_of_ranker(self, rows: Ints) -> Ints:
        """Rows of the retriever -> rows of the ranker."""
        return self._row_of_ranker[rows] if self.of_ranker else rows

    @cached_property
    def _row_of_ranker(self) -> Ints:
        """[V] row of each item of the retriever with the ranker; -1 where that does not know it."""
        every = np.arange(len(self.retriever.items.catalogue))
        return self.people.codings[1].rows_of(self.retriever.items.ids(every))

    def _counts(self, histories: Sequence[EncodedHistory]) -> Floats32 | None:
        """[V] what live events say of the items; None where nobody asks, or they say nothing of what may be listed."""
        if self.popular is None or self.retriever.lists.of_model(histories).all():
            return None
        counts = self.popular.scores()
        return counts if counts[self.retriever.lists.trained].any() else None

    def _retired(self, work: Work) -> Ints:
        """The rows that no list of a request holds: hidden items, and those that could not be ranked after they were
        found."""
        if work.by is None or not self.of_ranker:
            return self.hidden.rows
        return np.concatenate([self.hidden.rows, np.flatnonzero(self._row_of_ranker < 0)])

    def _retrieve(self, step: Sequence[Work]) -> None:
        """The best items for requests with times, and for those without."""
        timed = [work.histories[0].times is not None for work in step]
        for wanted in (True, False):
            self._retrieve_alike([work for work, one in zip(step, timed, strict=True) if one == wanted], timed=wanted)

    def _retrieve_alike(self, step: Sequence[Work], *, timed: bool) -> None:
        if not step:
            return
        histories = [work.histories[0] for work in step]
        names: list[tuple[int, UserId]] = [(0, work.user) for work in step]
        asking = Asking(
            histories,
            [work.moment or 0 for work in step] if timed else None,
            self._any_item(step),
            self.stride,
            KeptUnder(self.memories, names),
        )
        chosen = [work.selection for work in step if work.selection is not None]
        given = zip(chosen, histories, map(self._retired, step), strict=True)
        limits = [one.limits(history, retired) for one, history, retired in given]
        lists, counts = self.retriever.lists, self._counts(histories)
        found = lists.best(asking, limits, max(work.k or 0 for work in step), popularity=counts)
        source_of = sources(found.of_model, live=counts is not None)
        for place, (work, source) in enumerate(zip(step, source_of, strict=True)):
            rows = found.rows[place, : work.k]
            listed = rows >= 0
            work.found = Found(rows[listed], found.scores[place, : work.k][listed], source)

    @staticmethod
    def _any_item(step: Sequence[Work]) -> list[Asked] | None:
        """[B] any item in the context of each request; None where none says one."""
        if all(work.context is None for work in step):
            return None
        known = next(work.context for work in step if work.context is not None)
        none = dict.fromkeys(known, 0)  # a context that is not said is undefined
        return [Asked(np.array([-1]), work.context or none) for work in step]

    def _rank(self, step: Sequence[Work]) -> None:
        parts = [Microbatch(work.ranking, min(work.ranking.left, self.microbatch)) for work in step if work.ranking]
        for timed in (True, False):
            alike = [part for part in parts if (part.of.at is not None) == timed]
            if alike:
                advance(self.ranker.model, alike, self.stride, self.memories)


def milliseconds() -> int:
    """Now."""
    return time.time_ns() // 1_000_000
