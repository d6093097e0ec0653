"""Random walks over event stores: each store is held equal to the one in memory, and readers that follow `changes` from
any revision always come to what is stored."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import is_dataclass
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from facta.errors import FactaError
from facta.store.memory import MemoryStore
from facta.store.protocol import EventStore, Person, StoredEvent, UserId
from tests.event_stores import CLOCK, memory, postgresql, sqlite

USERS: list[UserId] = [1, "1", 2]
EVENT_IDS = ("a", "b", "c", "d", "e")  # few, so that they meet
users, event_ids = st.sampled_from(USERS), st.sampled_from(EVENT_IDS)
values = st.dictionaries(st.sampled_from(("x", "y")), st.sampled_from((None, 0, 1, 1.0, True, "1")), max_size=2)
known_at = st.dictionaries(st.sampled_from(("x", "y")), st.integers(1, 3), max_size=1)
events = st.builds(
    StoredEvent,
    id=event_ids,
    item=st.sampled_from((7, "7")),
    time=st.sampled_from((1, 2, 3, 4, 5, 6, 7, 8, 9, None)),
    values=values,
    known_at=known_at,
)
entries = st.lists(st.tuples(st.integers(1, 3), st.just("plan"), st.sampled_from(("free", "pro"))), max_size=2)


def exactly(outcome: Any) -> Any:
    """With the types of values, which == forgets (1, 1.0 and True are equal), and without the order of names."""
    if is_dataclass(outcome):
        outcome = vars(outcome)
    if isinstance(outcome, dict):
        return sorted((repr(name), exactly(value)) for name, value in outcome.items())
    if isinstance(outcome, (list, tuple)):
        return [exactly(one) for one in outcome]
    return repr(outcome)


class Walk(RuleBasedStateMachine):
    """Changes of three users, by few ids, at few times, so that everything happens."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        self.twin: EventStore = MemoryStore(CLOCK)
        self.store = self.stack.enter_context(self.made())
        self.readers = [{user: Person() for user in USERS} for _ in range(3)]  # what each of them has read

    def made(self) -> AbstractContextManager[EventStore]:
        return memory()

    def teardown(self) -> None:
        self.stack.close()

    def both(self, method: str, *args: Any) -> Any:
        """The outcome of a call, or the error that it raises, which is the same for store and twin."""
        outcomes = []
        for store in (self.store, self.twin):
            try:
                outcomes.append(getattr(store, method)(*args))
            except FactaError as error:
                outcomes.append((type(error), str(error)))
        assert exactly(outcomes[0]) == exactly(outcomes[1])
        return outcomes[0]

    @initialize(one=events)
    def first(self, one: StoredEvent) -> None:
        self.both("append", [(user, one) for user in USERS[:2]])

    @rule(posts=st.lists(st.tuples(users, events), max_size=4))
    def append(self, posts: list[tuple[UserId, StoredEvent]]) -> None:
        self.both("append", posts)

    @rule(user=users, one=events)
    def post_again(self, user: UserId, one: StoredEvent) -> None:
        there = self.twin.person(user).events
        self.both("append", [(user, there[0] if there else one)])

    @rule(user=users, event_id=event_ids, new=values, when=known_at)
    def amend(self, user: UserId, event_id: str, new: dict[str, Any], when: dict[str, int]) -> None:
        self.both("amend", user, event_id, new, when)

    @rule(user=users, event_id=event_ids)
    def remove(self, user: UserId, event_id: str) -> None:
        self.both("remove", user, event_id)

    @rule(user=users, facts=values, series=entries)
    def tell(self, user: UserId, facts: dict[str, Any], series: list[tuple[int, str, str]]) -> None:
        self.both("tell", user, facts, series)

    @rule(source=users, account=users)
    def merge(self, source: UserId, account: UserId) -> None:
        self.both("merge", source, account)

    @rule(newest=st.sampled_from((None, 0, 1, 2)), since=st.sampled_from((None, 0, 4, 7)))
    def retain(self, newest: int | None, since: int | None) -> None:
        outcomes = [store.retain(newest=newest, since=since) for store in (self.store, self.twin)]
        assert exactly(outcomes[0]) == exactly(outcomes[1])

    @rule(user=users)
    def forget(self, user: UserId) -> None:
        self.both("forget", user)

    @rule(
        item=st.sampled_from((7, "7")), new=values, hidden=st.sampled_from((None, True, False)), since=st.integers(0, 5)
    )
    def describe(self, item: int | str, new: dict[str, Any], hidden: bool | None, since: int) -> None:
        outcomes = [store.describe(item, new, hidden=hidden) for store in (self.store, self.twin)]
        assert exactly(outcomes[0]) == exactly(outcomes[1])
        self.both("items", since)

    @rule(which=st.integers(0, 2), who=st.sets(users))
    def read(self, which: int, who: set[UserId]) -> None:
        """A reader takes over what is new of some users: it then knows all that is stored of them."""
        reader = self.readers[which]
        for user, change in self.both("changes", {user: reader[user].revision for user in who}).items():
            old = reader[user]
            grown = Person(change.revision, (*old.events, *change.appended), old.facts, old.series)
            reader[user] = grown if change.whole is None else change.whole
            assert change.revision == reader[user].revision
        for user in who:
            assert reader[user] == self.twin.person(user)

    @invariant()
    def equal(self) -> None:
        found = [*self.store.people()]
        assert exactly(found) == exactly([*self.twin.people()])
        for _, person in found:
            times = [one.time for one in person.events if one.time is not None]
            assert times == sorted(times) and len(times) in (0, len(person.events))


class SQLiteWalk(Walk):
    def made(self) -> AbstractContextManager[EventStore]:
        return sqlite()


class PostgreSQLWalk(Walk):
    def made(self) -> AbstractContextManager[EventStore]:
        return postgresql()


SHORT = settings(max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
TestMemory = Walk.TestCase
TestMemory.settings = settings(SHORT, max_examples=60)
TestSQLite = SQLiteWalk.TestCase
TestSQLite.settings = SHORT
TestPostgreSQL = PostgreSQLWalk.TestCase
TestPostgreSQL.settings = settings(SHORT, max_examples=5)
