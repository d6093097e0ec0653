"""What every event store promises, one suite for all of them; `tests/event_stores.py` makes them."""

from __future__ import annotations

from typing import Any

import pytest

from facta.errors import ConflictError, DataError, StoreError, UnknownEventError
from facta.store import sql
from facta.store.content import MAX_FUTURE
from facta.store.protocol import (
    Appended,
    Change,
    EventStore,
    ItemChanges,
    Person,
    Retained,
    StoredEvent,
    StoredItem,
    UserId,
)
from tests.event_stores import NOW, STORES


@pytest.fixture(params=STORES, ids=lambda kind: kind.__name__)
def store(request: pytest.FixtureRequest) -> Any:
    with request.param() as made:
        yield made


def event(id_: str, time: int | None, item: int | str = 7, **values: Any) -> StoredEvent:
    return StoredEvent(id_, item, time, values)


def post(store: EventStore, user: UserId, *events: StoredEvent) -> Appended:
    return store.append([(user, one) for one in events])


def ids(person: Person | None) -> list[str]:
    assert person is not None
    return [one.id for one in person.events]


def test_what_was_posted_is_what_is_read(store: EventStore) -> None:
    values = {"surface": "home", "watch_ms": 12.5, "liked": True, "tags": ["a", None], "big": 2**60, "é\u0000": "\n"}
    odd = StoredEvent("click/1 é", "a\u0000b", 1_000, values, {"liked": 5_000})
    assert store.append([("Zoë", odd)]) == Appended(("click/1 é",), 1, 0)
    person = store.person("Zoë")
    assert person == Person(1, (odd,))
    assert [type(value) for value in person.events[0].values.values()] == [int, bool, str, list, float, str]
    assert store.person("nobody") == Person()


def test_the_first_users_are_those_who_came_first_and_were_not_forgotten(store: EventStore) -> None:
    assert store.first_users(5) == []
    for user in (2**63, "b", 1):
        post(store, user, event("a", 10), event("b", 20))
    post(store, "b", event("c", 30))
    assert store.first_users(2) == [2**63, "b"] and store.first_users(9) == [2**63, "b", 1]
    store.forget(2**63)
    assert store.first_users(2) == ["b", 1]


def test_order_is_time_then_arrival_and_revisions_count_events(store: EventStore) -> None:
    post(store, 1, event("late", 30), event("early", 10))
    post(store, 1, event("middle", 20), event("same", 30))
    post(store, 1, event("first of ten", 10))
    person = store.person(1)
    assert ids(person) == ["early", "first of ten", "middle", "late", "same"]
    assert person.revision == 5


def test_events_are_worth_half_after_every_half_life(store: EventStore) -> None:
    assert store.popularity(10.0) == {}
    post(store, 1, event("a", 1_000, 7), event("b", 990, 7), event("c", 980, "7"))
    post(store, 2, event("d", 1_000, 8), event("e", 1_000, 8), event("f", 10**12, 9), event("g", 10**12 - 20, 9))
    assert store.popularity(10.0) == pytest.approx({7: 0.0, "7": 0.0, 8: 0.0, 9: 1.25})
    store.remove(2, "f")
    assert store.popularity(10.0) == pytest.approx({7: 0.0, "7": 0.0, 8: 0.0, 9: 1.0})
    store.forget(2)
    post(store, 3, event("timeless", None, 8))
    assert store.popularity(10.0) == pytest.approx({7: 1.5, "7": 0.25, 8: 1.0})
    assert store.popularity(20.0) == pytest.approx({7: 1 + 2**-0.5, "7": 0.5, 8: 1.0})


def test_events_without_times_are_in_the_order_of_arrival(store: EventStore) -> None:
    post(store, 1, event("b", None), event("a", None))
    post(store, 1, event("c", None))
    assert ids(store.person(1)) == ["b", "a", "c"]
    with pytest.raises(DataError, match="Event 'd' of user 1 has a time and the user's other events have none"):
        post(store, 1, event("d", 5))
    post(store, 2, event("x", 5))
    with pytest.raises(DataError, match="Event 'd' of user 2 has no time and the user's other events have times"):
        post(store, 2, event("d", None))
    with pytest.raises(DataError, match="give all a time, or none"):
        store.merge(1, 2)
    assert ids(store.person(1)) == ["b", "a", "c"] and ids(store.person(2)) == ["x"]


def test_a_number_and_its_text_are_two_users_and_two_items(store: EventStore) -> None:
    store.append([(17, event("a", 1, 5)), ("17", event("a", 1, "5"))])
    assert store.person(17).events[0].item == 5 and store.person("17").events[0].item == "5"
    assert list(store.changes({17: 0, "17": 1})) == [17]
    assert [user for user, _ in store.people()] == [17, "17"]


def test_ids_are_made_where_none_are_given(store: EventStore) -> None:
    appended = post(store, 1, event("", 20), event("mine", 10), event("", 30))
    assert appended.accepted == 3 and appended.ids[1] == "mine" and len(set(appended.ids)) == 3
    assert ids(store.person(1)) == ["mine", appended.ids[0], appended.ids[2]]


def test_the_same_event_twice_is_a_duplicate(store: EventStore) -> None:
    post(store, 1, event("a", 10, liked=1))
    assert post(store, 1, event("a", 10, liked=1), event("b", 20), event("b", 20)) == Appended(("a", "b", "b"), 1, 2)
    assert ids(store.person(1)) == ["a", "b"] and store.person(1).revision == 2
    assert post(store, 2, event("a", 10, liked=1)).accepted == 1, "ids are unique per user"


@pytest.mark.parametrize(
    "other",
    [event("a", 11, liked=1), event("a", 10, 8, liked=1), event("a", 10, liked=True), event("a", 10)],
    ids=["time", "item", "truth for a number", "no value"],
)
def test_other_content_under_one_id_is_refused_and_nothing_is_kept(store: EventStore, other: StoredEvent) -> None:
    post(store, 1, event("a", 10, liked=1))
    with pytest.raises(ConflictError, match=r"User 1 has an event 'a' of other content; .* amend \(PATCH\)"):
        store.append([(1, event("b", 20)), (2, event("c", 20)), (1, other)])
    assert ids(store.person(1)) == ["a"] and store.person(2) == Person()
    assert issubclass(ConflictError, StoreError)


def test_amend_merges_and_says_nothing_new_twice(store: EventStore) -> None:
    post(store, 1, event("a", 10, surface="home", liked=None), event("b", 20))
    amended = store.amend(1, "a", {"liked": 1}, {"liked": 15})
    assert amended == StoredEvent("a", 7, 10, {"surface": "home", "liked": 1}, {"liked": 15})
    assert store.person(1).events[0] == amended
    assert store.changes({1: 2})[1].whole == store.person(1)
    revision = store.person(1).revision
    assert store.amend(1, "a", {"liked": 1}) == amended
    assert store.person(1).revision == revision == 3
    store.amend(1, "a", {"watch": 2.5})
    assert store.person(1).events[0].values == {"surface": "home", "liked": 1, "watch": 2.5}
    with pytest.raises(UnknownEventError, match="User 1 has no event 'z'"):
        store.amend(1, "z", {})
    with pytest.raises(UnknownEventError):
        store.amend(2, "a", {})


def test_a_post_that_is_sent_again_after_it_was_amended_is_a_duplicate(store: EventStore) -> None:
    post(store, 1, event("a", 10, liked=0))
    store.amend(1, "a", {"liked": 1})
    store.amend(1, "a", {"liked": 2})
    assert post(store, 1, event("a", 10, liked=0)).duplicates == 1, "as it was posted"
    assert post(store, 1, event("a", 10, liked=2)).duplicates == 1, "as it is"
    with pytest.raises(ConflictError):
        post(store, 1, event("a", 10, liked=1))
    assert store.person(1).events[0].values == {"liked": 2}


def test_what_is_removed_is_gone_and_may_come_again(store: EventStore) -> None:
    post(store, 1, event("a", 10), event("b", 20))
    assert store.remove(1, "b") and not store.remove(1, "b") and not store.remove(9, "b")
    assert store.changes({1: 2}) == {1: Change(3, whole=Person(3, (event("a", 10),)))}
    post(store, 1, event("c", 15), event("b", 20, 8))
    assert store.changes({1: 3})[1].appended == (event("c", 15), event("b", 20, 8)), "15 is behind what is left"


def test_changes_are_appends_or_a_whole_person(store: EventStore) -> None:
    post(store, 1, event("a", 10), event("b", 20))
    post(store, 2, event("a", 10))
    assert store.changes({1: 0, 2: 1, 3: 0}) == {1: Change(2, (event("a", 10), event("b", 20)))}
    assert store.changes({1: 1}) == {1: Change(2, (event("b", 20),))}
    post(store, 1, event("between", 15))
    assert store.changes({1: 2}) == {1: Change(3, whole=store.person(1))}
    post(store, 1, event("c", 20))
    assert store.changes({1: 3}) == {1: Change(4, (event("c", 20),))}
    assert store.changes({1: 2})[1].whole == store.person(1), "the insertion is still news to this reader"
    assert store.changes({1: 99})[1].whole == store.person(1), "a revision that was never given"
    assert store.changes({1: 4, 2: 1}) == {} == store.changes({})


def test_told_facts_replace_those_told_before(store: EventStore) -> None:
    assert store.tell(1, {"city": "Riga", "age": 30}, [(20, "plan", "pro"), (10, "plan", None)]) == 1
    person = store.person(1)
    assert person == Person(1, (), {"city": "Riga", "age": 30}, ((10, "plan", None), (20, "plan", "pro")))
    assert store.tell(1, {"city": "Riga", "age": 30}, [(10, "plan", None), (20, "plan", "pro")]) == 1
    assert store.tell(1, {"city": "Oslo"}) == 2
    assert store.person(1) == Person(2, (), {"city": "Oslo"})
    post(store, 1, event("a", 10))
    assert store.changes({1: 2}) == {1: Change(3, (event("a", 10),))}
    assert store.tell(2, {}) == 0 and store.person(2) == Person()


def test_a_merge_moves_everything_and_leaves_no_source(store: EventStore) -> None:
    post(store, "account", event("a", 10), event("d", 40))
    post(store, "session", event("b", 10), event("c", 20), event("d", 40))
    store.tell("account", {"city": "Riga"}, [(5, "plan", "free")])
    store.tell("session", {"city": "Oslo", "device": "tv"}, [(5, "plan", "pro"), (1, "plan", "none")])
    session = store.person("session").revision
    revision = store.merge("session", "account")
    person = store.person("account")
    assert ids(person) == ["a", "b", "c", "d"] and person.revision == revision
    assert person.facts == {"city": "Riga", "device": "tv"}
    assert person.series == ((1, "plan", "none"), (5, "plan", "free"))
    assert store.person("session") == Person()
    assert store.changes({"session": session}) == {"session": Change(0, whole=Person())}
    assert store.changes({"account": 3})["account"].whole == person
    assert store.merge("session", "account") == revision == store.merge("account", "account"), "again: nothing happens"
    post(store, "account", event("e", 40))
    assert store.changes({"account": revision})["account"].appended == (event("e", 40),)


def test_a_merge_into_a_stranger_and_of_a_conflict(store: EventStore) -> None:
    post(store, 1, event("a", 10))
    assert store.merge(1, 2) == store.person(2).revision and ids(store.person(2)) == ["a"]
    post(store, 3, event("b", 5), event("a", 10, 8))
    with pytest.raises(ConflictError, match="User 2 has an event 'a' of other content"):
        store.merge(3, 2)
    assert ids(store.person(2)) == ["a"] and ids(store.person(3)) == ["b", "a"]


def test_who_is_forgotten_begins_above_every_revision_that_readers_remember(store: EventStore) -> None:
    post(store, 1, event("a", 10), event("b", 20), event("c", 30))
    post(store, 2, event("a", 10))
    assert store.forget(1) and not store.forget(1)
    assert store.person(1) == Person()
    assert store.changes({1: 3, 2: 1}) == {1: Change(0, whole=Person())} and store.changes({1: 0}) == {}
    post(store, 1, event("x", 10), event("y", 20), event("z", 30))
    for known in range(4):
        assert store.changes({1: known})[1].whole == store.person(1), "no reader may take x for an event behind c"
    assert store.person(1).revision > 3
    assert [user for user, _ in store.people()] == [2, 1]


def test_retention_keeps_what_is_new_and_forgets_whom_nothing_is_left_of(store: EventStore) -> None:
    for user in range(1, 6):
        post(store, user, *(event(f"e{n}", 10 * user + n) for n in range(4)))
    store.tell(1, {"plan": "free"})
    store.tell(9, {"plan": "pro"})
    post(store, 6, event("a", None), event("b", None))
    assert store.retain() == Retained() and store.retain(newest=4, since=10) == Retained()
    before = {user: person.revision for user, person in store.people()}
    assert store.retain(since=32) == Retained(4 + 4 + 2, (1, 2))
    assert store.person(1) == Person() and ids(store.person(3)) == ["e2", "e3"] and store.person(9).facts
    changes = store.changes(before)
    assert set(changes) == {1, 2, 3} and changes[1].whole == Person() and changes[3].whole == store.person(3)
    assert store.retain(newest=3, since=42) == Retained(2 + 2 + 1, (3,))
    assert ids(store.person(4)) == ["e2", "e3"] and ids(store.person(5)) == ["e1", "e2", "e3"]
    assert store.retain(newest=1) == Retained(1 + 2 + 1) and ids(store.person(6)) == ["b"]
    post(store, 4, event("late", 43))
    assert ids(store.person(4)) == ["e3", "late"], "the time of the newest event is still known"
    post(store, 1, event("e0", 10))
    assert store.person(1).revision > before[1]


def test_retention_reads_everybody_page_by_page(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_PAGE", 3)
    for user in range(10):
        post(store, user, event("a", 1), event("b", 2))
    assert store.retain(since=2) == Retained(10) and store.retain(newest=0) == Retained(10, tuple(range(10)))
    assert not [*store.people()]


def test_items_are_described_bit_by_bit_and_changes_are_told(store: EventStore) -> None:
    assert store.items() == ItemChanges(0)
    new = store.describe(5, {"title": "Solaris", "year": 1972})
    assert new == StoredItem(5, {"title": "Solaris", "year": 1972})
    assert store.describe("5", {}, hidden=True) == StoredItem("5", {}, hidden=True)
    assert store.items() == ItemChanges(2, (new, StoredItem("5", {}, hidden=True)))
    changed = store.describe(5, {"year": 1971, "price": None})
    assert changed == StoredItem(5, {"title": "Solaris", "year": 1971, "price": None})
    assert store.describe(5, {"year": 1971}, hidden=False) == changed
    assert store.items(2) == ItemChanges(3, (changed,)) and store.items(3) == ItemChanges(3)
    assert store.items() == ItemChanges(3, (StoredItem("5", {}, hidden=True), changed))
    assert store.describe("5", {"title": "Stalker"}) == StoredItem("5", {"title": "Stalker"}, hidden=True)
    assert store.describe("5", {}, hidden=False) == StoredItem("5", {"title": "Stalker"})
    for item, values in ((1.5, {}), (1, {"x": float("nan")})):
        with pytest.raises(DataError):
            store.describe(item, values)  # type: ignore[arg-type]
    assert store.items().revision == 5


BAD: list[tuple[Any, StoredEvent, str]] = [
    (1.5, event("a", 1), "Found 1.5 as user id; expected a whole number of 64 bits or a text"),
    (True, event("a", 1), "Found True as user id"),
    ("", event("a", 1), "Found '' as user id"),
    (2**64, event("a", 1), "as user id"),
    ("u" * 2000, event("a", 1), "Found a user id of 2,000 characters"),
    ("\ud800", event("a", 1), "Cannot store the user id as JSON"),
    (1, StoredEvent("a", None, 1), "Found None as item id"),  # type: ignore[arg-type]
    (1, StoredEvent(5, 1, 1), "Found 5 as event id; expected a text"),  # type: ignore[arg-type]
    (1, event("a", 1, x=float("nan")), "Cannot store the values of event 'a' as JSON"),
    (1, event("a", 1, x={1, 2}), "Cannot store the values of event 'a' as JSON"),
    (1, StoredEvent("a", 1, 1, {3: 4}), "expected names and their values"),  # type: ignore[dict-item]
    (1, event("a", 1.5), "Found 1.5 as the time of event 'a'"),  # type: ignore[arg-type]
    (1, StoredEvent("a", 1, 1, {}, {"liked": "noon"}), "Found 'noon' as the time of 'liked'"),  # type: ignore[dict-item]
    (1, event("a", NOW + MAX_FUTURE + 1), "Found the time 2030-01-01T00:05:00.* of event 'a', 300 s ahead"),
    (1, StoredEvent("a", 1, 1, {}, {"liked": NOW * 2}), "of 'liked' of event 'a', .* s ahead"),
]


def test_what_no_store_takes_is_a_sentence_and_nothing_is_kept(store: EventStore) -> None:
    for user, one, match in BAD:
        with pytest.raises(DataError, match=match):
            store.append([(1, event("good", 1)), (user, one)])
    assert list(store.people()) == []
    assert post(store, 1, event("a", NOW + MAX_FUTURE)).accepted == 1


def test_people_are_read_in_the_order_in_which_they_came(store: EventStore) -> None:
    users: list[UserId] = [5, "b", 3, "a"]
    for time, user in enumerate([*users, "b", 5]):
        post(store, user, event(f"e{time}", time))
    store.tell(3, {"city": "Riga"})
    assert list(store.people()) == [(user, store.person(user)) for user in users]
