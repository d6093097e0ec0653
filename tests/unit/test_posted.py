"""Posted events in the words of the log: what they are stored as, and that it is what `prepare` would read."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

import facta
from facta.data.dataset.moments import PER_SECOND, posted_moment
from facta.data.dataset.raw import coded
from facta.data.dataset.times import to_milliseconds
from facta.errors import DataError
from facta.store.posted import Words
from facta.store.protocol import StoredEvent

NOON = 1_893_499_200_000  # ms: 2030-01-01T12:00
SHOP = [
    {"visitor": 1, "sku": "b", "ts": 1893499200, "surface": "home", "watch": 12.5, "bought": 0, "bought_at": None},
    {"visitor": 1, "sku": "a", "ts": 1893499260, "surface": "tv", "watch": 3.0, "bought": 1, "bought_at": 1893499900},
    {
        "visitor": 2,
        "sku": "a",
        "ts": 1893499210,
        "surface": "home",
        "watch": None,
        "bought": 1,
        "bought_at": 1893499220,
    },
    {"visitor": 2, "sku": "b", "ts": 1893499300, "surface": None, "watch": 7.25, "bought": None, "bought_at": None},
]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    folder = tmp_path_factory.mktemp("shop")
    log = folder / "shop.jsonl"
    log.write_text("".join(json.dumps(line) + "\n" for line in SHOP), encoding="utf-8")
    fields = {"surface": {"role": "context", "kind": "categorical"}, "watch": {"kind": "numeric", "boundaries": [5]}}
    fields |= {"bought": {"kind": "binary", "time": "bought_at"}}
    return facta.prepare(log, folder / "data", fields=fields, columns={"user_id": "visitor"})


@pytest.fixture(scope="module")
def words(shop: facta.Dataset) -> Words:
    schema = json.loads((shop.path / "manifest.json").read_text(encoding="utf-8"))
    return Words(schema, users="number", items="text")


def test_a_flat_object_is_an_event() -> None:
    posted = {"user_id": 17, "item_id": "a", "timestamp": NOON, "watch_ms": 900, "liked": None, "event_id": "e1"}
    user, event, unknown = Words().read(posted)
    assert (user, event, unknown) == (17, StoredEvent("e1", "a", NOON, {"watch_ms": 900, "liked": None}), ())
    assert Words().read({"userId": "u", "Item-ID": 3, "ts": "2030-01-01T12:00"})[:2] == ("u", StoredEvent("", 3, NOON))
    assert Words().read({"user": 1, "item": 2, "time": NOON, "eventId": 5})[1].id == "5"


def test_posting_the_lines_of_a_log_is_preparing_it(shop: facta.Dataset, words: Words) -> None:
    """Item, time, codes of values, and when they became known."""
    histories = {user: facta.history_of(shop, user) for user in (1, 2)}
    seen = {1: 0, 2: 0}
    for line in SHOP:
        user, event, unknown = words.read(line)
        assert isinstance(user, int) and unknown == ()
        history, place = histories[user], seen[user]
        assert history.items[place] == event.item
        assert history.times is not None and history.times[place].astype(int) == event.time  # type: ignore[union-attr]
        for field in shop.manifest.fields:
            stored = coded(field, [history.fields[field.name][place]], "the log")
            assert coded(field, [event.values[field.name]], "a post") == stored, field.name
        late = history.known_at["bought"][place]
        assert event.known_at.get("bought") == (None if late is None else int(late.astype(int)))  # type: ignore[union-attr]
        seen[user] += 1
    assert seen == {1: 2, 2: 2}


def test_names_of_the_log_and_names_that_are_recognised(words: Words) -> None:
    event = StoredEvent("", "a", NOON, {"watch": 1.5})
    for names in (("visitor", "sku", "ts"), ("user_id", "item_id", "timestamp"), ("userId", "product", "time")):
        posted = dict(zip(names, (1, "a", NOON), strict=True)) | {"watch": 1.5}
        assert words.read(posted) == (1, event, ())


def test_a_field_of_the_log_is_no_id_whatever_its_name() -> None:
    schema = {"columns": {"user_id": "uid"}, "fields": [{"name": "session_id", "kind": "numeric", "dtype": "int64"}]}
    event = {"session_id": 5, "item_id": 2, "timestamp": NOON}
    assert Words(schema).read({"uid": 1, **event})[:2] == (1, StoredEvent("", 2, NOON, {"session_id": 5}))
    with pytest.raises(DataError, match=r"without 'user_id' \('uid'\)"):
        Words(schema).read(event)


def test_one_id_is_one_id(words: Words) -> None:
    assert words.id("17", "user") == words.id(17, "user") == 17
    assert words.id(17, "item") == words.id("17", "item") == "17"
    assert Words().id("17", "user") == "17" and Words().id(17, "user") == 17
    assert words.id("-5", "user") == -5


def test_values_of_unknown_names_are_kept_and_named(words: Words) -> None:
    _, event, unknown = words.read({"visitor": 1, "sku": "a", "ts": NOON, "wach": 1.5, "deep": {"a": [1]}})
    assert event.values == {"wach": 1.5, "deep": {"a": [1]}} and unknown == ("wach", "deep")


def test_feedback_that_comes_late(words: Words) -> None:
    found = words.feedback({"bought": True, "bought_at": "2030-01-01T12:00:01Z", "stars": 5})
    assert found == ({"bought": True, "stars": 5}, {"bought": NOON + 1000}, ("stars",))
    assert words.feedback({"bought": 1}) == ({"bought": 1}, {}, ())


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"visitor": "abc"}, "Found the user id 'abc'; the user ids of this log are whole numbers"),
        ({"visitor": "007"}, "Found the user id '007'"),
        ({"visitor": 17.0}, "Found 17.0 as user id; expected a whole number or a text"),
        ({"visitor": True}, "Found True as user id"),
        ({"sku": None}, "Found None as item id"),
        ({"ts": None}, r"Found an event without 'timestamp' \('ts'\); the events of this log have times"),
        ({"ts": "noon"}, "Found the time 'noon'"),
        ({"ts": 202611300928}, "Found the time 202611300928; expected an ISO time"),
        ({"ts": True}, "Found the time True"),
        ({"watch": "long"}, "Found 'long' for 'watch', which is numeric; expected a number or nothing"),
        ({"watch": 10**400}, "for 'watch', which is numeric"),
        ({"bought": 2}, "Found 2 for 'bought', which is binary; expected 0, 1 or nothing"),
        ({"surface": ["home"]}, "for 'surface', which is categorical; expected a text or nothing"),
        ({"bought_at": "never"}, "Found the time 'never'"),
        ({"event_id": 1.5}, "Found 1.5 as event_id; expected a text, or leave it out"),
    ],
)
def test_what_is_wrong_is_a_sentence(words: Words, change: dict[str, Any], match: str) -> None:
    with pytest.raises(DataError, match=match):
        words.read({"visitor": 1, "sku": "a", "ts": NOON, **change})


@pytest.mark.parametrize(
    ("posted", "match"),
    [
        ({"visitor": 1, "ts": NOON}, r"Found an event without 'item_id' \('sku'\), with visitor, ts; add it"),
        ({}, "Found an event without 'user_id' .*, with nothing"),
        (
            {"uid": 1, "customer": 2, "sku": "a", "ts": NOON},
            "Both 'uid' and 'customer' of an event could be its user_id",
        ),
        ([1, 2], r"Found \[1, 2\] as an event; expected names and values"),
        ({1: 2}, "expected names and values"),
    ],
)
def test_what_no_event_is(words: Words, posted: Any, match: str) -> None:
    with pytest.raises(DataError, match=match):
        words.read(posted)


def test_a_log_that_has_only_an_order_takes_no_times() -> None:
    ordered = Words({"columns": {"user_id": "user_id", "item_id": "item_id"}, "has_time": False})
    assert ordered.read({"user_id": 1, "item_id": 2})[1].time is None
    with pytest.raises(DataError, match="Found an event with 'ts'; the events of this log have no times: leave it out"):
        ordered.read({"user_id": 1, "item_id": 2, "ts": NOON})


@given(
    st.sampled_from([*PER_SECOND]),
    st.integers(631_152_000_000_000, 4_102_444_799_999_999),  # µs: the years 1990 to 2099
    st.sampled_from((int, float, str)),
)
def test_times_are_read_as_a_column_of_them_is(unit: str, microseconds: int, kind: type) -> None:
    number = microseconds * PER_SECOND[unit] / 10**6
    time = kind(int(number)) if kind is not float else number
    column = to_milliseconds(pl.Series("ts", [time]))
    assert posted_moment(time) == column.milliseconds[0]


@given(st.datetimes().filter(lambda time: 1973 < time.year < 2100), st.sampled_from(("", "Z", "+02:00", " UTC")))
def test_texts_are_read_as_a_column_of_them_is(time: Any, zone: str) -> None:
    text = time.isoformat(sep=" ", timespec="milliseconds") + zone
    assert posted_moment(text) == to_milliseconds(pl.Series("ts", [text])).milliseconds[0]


def test_a_declared_unit_is_for_numbers_that_do_not_say_theirs() -> None:
    assert posted_moment(3600, "s") == 3_600_000 and posted_moment(NOON, "s") == NOON
    with pytest.raises(DataError, match="Found the time 3600"):
        posted_moment(3600)
