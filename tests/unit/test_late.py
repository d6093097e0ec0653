"""Feedback that becomes known later: hidden until then in every kind of batch, in requests and in what is counted."""

from __future__ import annotations

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from benchmarks.quality import late_feedback

from facta.artifact.files import described
from facta.artifact.matching import _said
from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.request import request
from facta.data.batches.spec import InputSpec
from facta.data.batches.stochastic_length import StochasticLengthConfig
from facta.data.batches.stored import StoredHistories
from facta.data.batches.stream import StreamBatches
from facta.data.batches.training import TrainingBatches, prediction_batches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.schema import Field
from facta.data.log.doctor import examine
from facta.data.log.prepare import prepare
from facta.data.split import late
from facta.data.split.splits import Requests, Split, leave_one_out, temporal, temporal_test
from facta.data.split.statistics import Statistics
from facta.errors import DataError
from facta.eval.experiment import Experiment
from facta.eval.held_out import events_of_test, events_of_validation
from facta.eval.predict import predict
from facta.eval.protocol import ProtocolConfig
from facta.infer.history import History
from facta.infer.history import encoded as looked_up
from facta.infer.history_of import history_of
from facta.layers.rates import SmoothedRates
from facta.types import Events, SequenceBatch
from tests.late_world import FIELDS, ITEMS, MINUTE, T0, Event, as_it_stood, code, histories, known, prepared

NAMES = tuple(FIELDS)
FEEDBACK, ITEM = InputSpec(fields=NAMES, targets_are_inputs=True), InputSpec(fields=NAMES)
FAR = float("inf")


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return histories()


@pytest.fixture(scope="module")
def dataset(events: list[Event], tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return prepared(events, tmp_path_factory.mktemp("late") / "log")


def field_of(dataset: Dataset, name: str) -> Field:
    return next(field for field in dataset.manifest.fields if field.name == name)


def cut(events: list[Event], share: float) -> int:
    return int(np.quantile([event["timestamp"] for event in events], share))


def expected(events: list[Event], users: list[int], batch: SequenceBatch, until: float = FAR) -> dict[str, list[int]]:
    """What the inputs of a batch must show: of an input what is known at the next event of its user, and at `until`."""
    found: dict[str, list[int]] = {name: [] for name in NAMES}
    assert batch.events.time is not None and batch.next_time is not None
    for row, user in enumerate(users):
        own = [event for event in events if event["user_id"] == user]
        first, last = batch.offsets[row], batch.offsets[row + 1]
        for at in range(first, last):
            matches = [
                place
                for place, event in enumerate(own)
                if event["timestamp"] == batch.events.time[at] and event["item_id"] == batch.events.item[at]
            ]
            place = matches[0]
            moment = float(batch.next_time[at]) if at == last - 1 else own[place + 1]["timestamp"]
            for name in NAMES:
                found[name].append(code(name, known(own[place], name, min(moment, until))))
    return found


def shown(batch: SequenceBatch) -> dict[str, list[int]]:
    return {name: batch.events.fields[name].tolist() for name in NAMES}


def test_the_world_has_all_kinds_of_lateness(events: list[Event], dataset: Dataset) -> None:
    hidden = [known(event, "buy", event["timestamp"] + 10 * MINUTE) != event["buy"] for event in events]
    assert 5 < sum(hidden) < len(events) / 2
    assert sorted(
        {(one.name, one.before, one.waits_for) for one in dataset.manifest.fields if late.waiting_on(one)}
    ) == [
        ("buy", 0.0, None),
        ("rated", None, ("buy",)),
    ]


@pytest.mark.parametrize("examples", ["user", "impression"])
def test_training_rows_show_what_was_known_at_the_next_event(
    events: list[Event], dataset: Dataset, examples: Any
) -> None:
    split = leave_one_out(dataset)
    spec = (FEEDBACK, ITEM) if examples == "user" else (FEEDBACK,)
    for one in spec:
        batches = TrainingBatches(dataset, split, window=6, batch_size=3, spec=one, examples=examples)
        for step in range(batches.steps(0)):
            batch, rows = batches.batch(0, step), batches.rows[batches._order(0)[step]]
            assert shown(batch) == expected(events, rows.user.tolist(), batch)


def test_rows_that_stochastic_length_shortens_show_what_was_known_at_the_true_next_event(
    events: list[Event], dataset: Dataset
) -> None:
    batches = TrainingBatches(
        dataset, leave_one_out(dataset), window=9, batch_size=64, spec=FEEDBACK,
        stochastic_length=StochasticLengthConfig(alpha=1.01),
    )  # fmt: skip
    batch, rows = batches.batch(0, 0), batches.rows[batches._order(0)[0]]
    assert batch.dropped and shown(batch) == expected(events, rows.user.tolist(), batch)


@pytest.mark.parametrize("state", ["rolling", "frozen"])
@pytest.mark.parametrize("stage", ["validation", "test"])
def test_predictions_read_what_was_known_at_the_next_event_or_at_the_cut(
    events: list[Event], dataset: Dataset, state: Any, stage: Any
) -> None:
    moments = {"validation": cut(events, 0.4), "test": cut(events, 0.7)}
    split = temporal(dataset, validation_from=moments["validation"], test_from=moments["test"], state=state)
    rows = {"validation": events_of_validation, "test": events_of_test}[stage](dataset, split, state).rows(dataset, 6)
    until = moments[stage] if state == "frozen" else FAR
    for part, batch in prediction_batches(dataset, rows, window=6, spec=FEEDBACK, events=8):
        assert shown(batch) == expected(events, rows.user[part].tolist(), batch, until)


def test_requests_for_an_item_read_what_was_known_when_they_were_made(events: list[Event], dataset: Dataset) -> None:
    for state in ("rolling", "frozen"):
        asked = temporal_test(dataset, test_from=cut(events, 0.7), state=state)  # type: ignore[arg-type]
        batch = request_batch(dataset, asked, slice(0, len(asked)), 6, ITEM)
        assert shown(batch) == expected(events, asked.user.tolist(), batch)


@pytest.mark.parametrize("kind", ["temporal", "period", "last period"])
def test_training_learns_from_the_log_as_it_stood_at_the_end_of_training(
    events: list[Event], dataset: Dataset, tmp_path: Path, kind: str
) -> None:
    """An export at that moment gives the same batches, targets and inputs, and the same counts."""
    moment = cut(events, 0.6) if kind == "temporal" else T0 + 80 * MINUTE
    split = temporal(dataset, test_from=moment)
    if kind != "temporal":
        stream = StreamBatches(dataset, split, hours=0.5, window=6, batch_size=4, spec=FEEDBACK)
        assert stream.start + stream.periods * 30 * MINUTE > moment > stream.start + 60 * MINUTE
        split = stream.learned(1 if kind == "period" else stream.periods - 1)
        moment = stream.start + 60 * MINUTE if kind == "period" else moment
    stood = prepared(as_it_stood(events, moment), tmp_path / "stood")
    names = [field.name for field in dataset.manifest.fields]
    assert names == [field.name for field in stood.manifest.fields] and stood.num_users == dataset.num_users
    whole = temporal(stood, test_from=moment)
    for spec in (FEEDBACK, ITEM):
        ours, theirs = (
            TrainingBatches(log, one, window=6, batch_size=4, spec=spec)
            for log, one in ((dataset, split), (stood, whole))
        )
        assert ours.steps(0) == theirs.steps(0) > 0
        for step in range(ours.steps(0)):
            one, other = ours.batch(0, step), theirs.batch(0, step)
            for name in NAMES:
                assert torch.equal(one.targets.events.fields[name], other.targets.events.fields[name]), name
                assert torch.equal(one.events.fields[name], other.events.fields[name]), name
    for ordered in (False, True):
        counts = [_rates(log, one, ordered) for log, one in ((dataset, split), (stood, whole))]
        torch.testing.assert_close(counts[0].total, counts[1].total)
        torch.testing.assert_close(counts[0].hidden_counts, counts[1].hidden_counts)


def test_leave_one_out_learns_what_was_known_when_the_first_event_was_held_out(
    events: list[Event], dataset: Dataset
) -> None:
    split = leave_one_out(dataset)
    batches = TrainingBatches(dataset, split, window=9, batch_size=64, spec=FEEDBACK)
    batch, rows = batches.batch(0, 0), batches.rows[batches._order(0)[0]]
    found, differs = batch.targets.events.fields["buy"].tolist(), 0
    wanted = []
    for user, first, last in zip(rows.user, rows.first, rows.last, strict=True):
        mine, ends = _of(events, user), int(split.train_end[user])
        moment = mine[ends]["timestamp"] if ends < len(mine) else FAR
        wanted += [code("buy", known(event, "buy", moment)) for event in mine[first:last]]
        differs += sum(known(event, "buy", moment) != event["buy"] for event in mine[first:last])
    assert found == wanted and differs


def _rates(dataset: Dataset, split: Split, ordered: bool) -> SmoothedRates:
    success = [field for field in dataset.manifest.fields if field.positives]
    rates = SmoothedRates(Catalogue.of(dataset), success, 5.0, history=False, ordered=ordered)
    rates.fit_statistics(Statistics(dataset, split))
    return rates


def test_counts_of_earlier_days_hold_what_was_known_on_them(tmp_path: Path) -> None:
    """In a sequence: a success of day 0 that became known on day 2 is a failure to day 1, and a success to day 3."""
    day = 24 * 60 * MINUTE
    noon = T0 - T0 % day + day // 2
    log = pl.DataFrame(
        {
            "user_id": [1, 1, 1, 1, 1],
            "item_id": [0, 0, 0, 0, 1],
            "timestamp": [noon + place * day for place in range(5)],
            "buy": [1, 0, 0, 0, 0],
            "bought_at": [noon + 2 * day - MINUTE, None, None, None, None],
        }
    )
    dataset = prepare(log, tmp_path / "log", fields={"buy": {"time": "bought_at"}})
    rates = _rates(dataset, temporal(dataset, test_from=noon + 9 * day), ordered=True)
    events = Events(torch.zeros(5, dtype=torch.int64), torch.tensor(np.asarray(dataset.timestamp)), torch.zeros(5), {})
    keys = rates.keys(events)[:, 0]
    told = (rates.total[keys] - rates.hidden_counts[rates.periods.of(events), keys])[:, 0]
    assert told.tolist() == [[0, 0], [0, 1], [0, 2], [1, 3], [1, 4]]
    apart = _rates(dataset, temporal(dataset, test_from=noon + 9 * day), ordered=False)
    own = (apart.total[keys] - apart.hidden_counts[apart.periods.of(events), keys])[:, 0]
    assert own[0].tolist() == [0, 3]  # its own answer is of no other day


class _Sees:
    """A model of feedback that remembers its batches."""

    window, inputs = 6, FEEDBACK

    def __init__(self) -> None:
        self.batches: list[SequenceBatch] = []

    def scores(self, batch: SequenceBatch) -> dict[str, torch.Tensor]:
        self.batches.append(batch)
        return {"buy": torch.full((len(batch.targets.num_visible),), 0.5)}


def test_validation_is_judged_by_what_was_known_when_the_test_began(events: list[Event], dataset: Dataset) -> None:
    """What chooses an epoch may not know the test's time; the test itself is judged by the whole log."""
    cuts = [str(np.datetime64(cut(events, share), "ms")) for share in (0.4, 0.7)]
    protocol = ProtocolConfig(split="temporal", train_end=cuts[0], validation_end=cuts[1], state="rolling")
    mine = {(event["user_id"], place): event for user in range(8) for place, event in enumerate(_of(events, user))}
    differs = 0
    for stage, until in (("validation", cut(events, 0.7)), ("test", FAR)):
        found = predict(_Sees(), Experiment(dataset, protocol), stage=stage)  # type: ignore[arg-type]
        asked = [mine[int(user), int(place)] for user, place in zip(found.user, found.place, strict=True)]
        assert found.y["buy"].tolist() == [known(event, "buy", until) for event in asked]
        differs += sum(known(event, "buy", until) != event["buy"] for event in asked)
    assert differs


def _of(events: list[Event], user: int) -> list[Event]:
    return [event for event in events if event["user_id"] == user]


def _request(dataset: Dataset, history: History, at: int | None) -> SequenceBatch:
    one = looked_up(history, lambda ids: np.array(ids, dtype=np.int64), dataset.manifest, ITEM)
    return request([one], None if at is None else [at], 6)


def test_a_history_up_to_a_moment_tells_what_was_known_then(events: list[Event], dataset: Dataset) -> None:
    for user in range(8):
        for minutes in range(0, 200, 7):
            until = T0 + 1_000 * user + minutes * MINUTE
            history = history_of(dataset, user, until=until)
            told = [event for event in _of(events, user) if event["timestamp"] <= until]
            assert history.fields["buy"] == [known(event, "buy", until + 0.5) for event in told]
            assert history.fields["rated"] == [known(event, "rated", until + 0.5) for event in told]
            assert not told or _times(history) <= until


def _times(history: History) -> int:
    given = [time for times in history.known_at.values() for time in times if time is not None]
    return max((int(np.datetime64(time, "ms").astype(np.int64)) for time in given), default=0)


def test_a_request_shows_a_stored_history_as_evaluation_does(events: list[Event], dataset: Dataset) -> None:
    """Whether the history was cut at the request or holds all that the dataset knows; unknown items in between."""
    for user in range(8):
        mine = _of(events, user)
        for count in range(1, len(mine)):
            at = mine[count]["timestamp"]
            if mine[count - 1]["timestamp"] == at:
                continue
            asked = Requests(np.array([user]), np.array([count]), np.array([at]), np.array([0, 1]), np.array([0]))
            wanted = shown(request_batch(dataset, asked, slice(0, 1), 6, ITEM))
            assert shown(_request(dataset, history_of(dataset, user, until=at - 1), at)) == wanted
            whole = history_of(dataset, user)
            part = History(
                whole.items[:count],
                (whole.times or ())[:count],
                {name: values[:count] for name, values in whole.fields.items()},
                known_at={name: times[:count] for name, times in whole.known_at.items()},
            )
            assert shown(_request(dataset, part, at)) == wanted


def test_the_histories_of_all_users_at_once_say_what_those_of_each_do(dataset: Dataset) -> None:
    """With a catalogue that lacks some items, up to many moments, asked at many."""

    def rows_of(ids: Any) -> np.ndarray[Any, Any]:
        return np.array([id_ if id_ % 4 else -1 for id_ in ids], dtype=np.int64)

    stored = StoredHistories(dataset, rows_of, dataset.manifest, ITEM)
    for until in (None, *(T0 + minutes * MINUTE for minutes in (-5, 0, 10, 25, 40, 75, 400))):
        for user, found in enumerate(stored.encoded(np.arange(8), until)):
            wanted = looked_up(history_of(dataset, user, until=until), rows_of, dataset.manifest, ITEM)
            assert found.rows.tolist() == wanted.rows.tolist() and found.unknown == wanted.unknown
            for at in (None, *(T0 + minutes * MINUTE for minutes in range(0, 500, 20))):
                ours, theirs = found.codes(at), wanted.codes(at)
                assert {name: ours[name].tolist() for name in ours} == {name: theirs[name].tolist() for name in theirs}


def test_a_history_by_hand(dataset: Dataset) -> None:
    def asked(at: int | None, items: tuple[int, ...] = (1, 2), **changes: Any) -> list[int]:
        given: dict[str, Any] = {
            "times": [T0, T0 + 10 * MINUTE],
            "fields": {"buy": [1, 1], "click": [0, 0]},
            "known_at": {"buy": [T0 + 70 * MINUTE, T0 + 30 * MINUTE]},
        }
        return shown(_request(dataset, History(items, **(given | changes)), at))["buy"]

    assert asked(T0 + 30 * MINUTE) == [1, 1]  # at that very moment it is not known yet
    assert asked(T0 + 31 * MINUTE) == [1, 2]
    assert asked(T0 + 90 * MINUTE) == [1, 2]  # the first became known after the next event
    assert asked(None) == [1, 2]  # without a moment, all that is given of the newest event is known
    assert asked(T0 + 31 * MINUTE, known_at={}) == [2, 2]
    assert asked(T0 + 31 * MINUTE, known_at={"buy": [None, T0]}) == [2, 2]
    for wrong, sentence in (
        ({"known_at": {"click": [T0, T0]}}, "'click' among the fields of a history that say when they became known"),
        ({"known_at": {"buy": [T0]}}, "2 items and 1 times of 'buy'"),
        ({"times": None}, "times of 'buy' in a history without times"),
    ):
        with pytest.raises(DataError, match=sentence):
            asked(T0 + 90 * MINUTE, **wrong)


def test_an_unknown_item_between_hides_as_any_event_does(dataset: Dataset) -> None:
    """The next event is the true one, whether the catalogue has its item or not."""
    history = History([1, 99], [T0, T0 + 10 * MINUTE], {"buy": [1, 0]}, known_at={"buy": [T0 + 20 * MINUTE, None]})
    one = looked_up(
        history,
        lambda ids: np.array([id_ if id_ < ITEMS else -1 for id_ in ids]),
        dataset.manifest,
        ITEM,  # type: ignore[operator]
    )
    assert one.unknown == 1 and one.codes(T0 + 60 * MINUTE)["buy"].tolist() == [1]


VALUES = {
    "all later": ({"buy": [1, 0, 1]}, [5, 6, 7], None, ""),
    "no shares": ({"buy": [0, 0, 1]}, [None, None, 7], 0.0, ""),
    "blank shares": ({"buy": [None, None, 1]}, [None, None, 7], None, ""),
    "yes without a time": ({"buy": [0, 1, 1]}, [None, None, 7], 0.0, "shown as 0; 1 event without a time has another"),
    "blank and no": ({"buy": [0, None, 1]}, [None, None, 7], 0.0, "shown as 0; 1 event without a time has another"),
    "a number that nearly all have": ({"n": [7, 7, 7, 3, 5]}, [None, None, None, None, 9], 7.0, "shown as 7; 1 event"),
    "numbers without a majority": ({"n": [7, 8, 9, 4, 5]}, [None, None, None, None, 9], None, "as undefined; 4 events"),
}


@pytest.mark.parametrize("name", VALUES)
def test_until_it_is_known_an_event_looks_like_those_to_which_nothing_happens(tmp_path: Path, name: str) -> None:
    columns, given, before, note = VALUES[name]
    ((field, values),) = columns.items()
    count = len(values)
    log = pl.DataFrame({"user_id": [1] * count, "item_id": range(count), "timestamp": [T0 + n for n in range(count)]})
    log = log.with_columns(
        pl.Series(field, values), at=pl.Series([None if one is None else T0 + 99 + one for one in given])
    )
    dataset = prepare(log, tmp_path / "log", fields={field: {"time": "at"}})
    assert field_of(dataset, field).before == before
    said = [one for one in dataset.manifest.notes if one.startswith("Until it is known")]
    assert len(said) == bool(note) and all(note in one for one in said)


def test_a_condition_on_late_feedback_waits_for_it(tmp_path: Path) -> None:
    """`rated` is undefined without a purchase: that it is defined would tell the purchase before its time."""
    log = pl.DataFrame(
        {
            "user_id": [1, 1, 1],
            "item_id": [0, 1, 2],
            "timestamp": [T0, T0 + 10 * MINUTE, T0 + 20 * MINUTE],
            "buy": [1, 0, 0],
            "bought_at": [T0 + 15 * MINUTE, None, None],
            "rated": [3, 3, 3],
        }
    )
    for condition in ("buy = 0", "bought_at is null"):
        fields = {"buy": {"time": "bought_at"}, "rated": {"undefined": condition}}
        dataset = prepare(log, tmp_path / condition.replace(" ", ""), fields=fields)
        assert field_of(dataset, "rated").waits_for == ("buy",)
        found = [late.known_codes(dataset, "rated", np.arange(3), np.full(3, T0 + at * MINUTE)) for at in (15, 16)]
        assert [one.tolist() for one in found] == [[0, 0, 0], [1, 0, 0]]
        assert history_of(dataset, 1, until=T0 + 14 * MINUTE).fields["rated"] == [None, None]
        assert history_of(dataset, 1, until=T0 + 15 * MINUTE).fields["rated"] == [3, None]


def test_delays_are_small_part_of_the_content_and_verified(
    events: list[Event], dataset: Dataset, tmp_path: Path
) -> None:
    assert {values.dtype for values in dataset.delays.values()} == {np.dtype(np.int32)}
    long = late.delays(np.array([T0, T0 + 2**32]), np.array([T0 + 5, T0]), np.ones(2, bool))
    assert long.dtype == np.int64 and long.tolist() == [0, 2**32]
    place = next(place for place, event in enumerate(events) if event["buy"])
    other = [
        {**event, "bought_at": event["timestamp"] + 77_000} if at == place else event for at, event in enumerate(events)
    ]
    changed = prepared(other, tmp_path / "log")
    assert changed.content_hash != dataset.content_hash
    file = changed.path / "histories" / "delay-buy.npy"
    file.write_bytes((dataset.path / "histories" / "delay-buy.npy").read_bytes())
    with pytest.raises(DataError, match=r"delay-buy\.npy' has another checksum"):
        Dataset.open(changed.path)


def test_a_dataset_of_an_older_version_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    manifest = json.loads((dataset.path / "manifest.json").read_text())
    for field in manifest["fields"]:
        for name in ("given_when", "before", "waits_for"):
            field.pop(name)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"format": 1}))
    with pytest.raises(
        DataError, match="prepared by an older facta, which did not store when 'buy' became known; prepare"
    ):
        Dataset.open(tmp_path)


def test_datasets_that_hide_otherwise_are_not_read_by_one_model(dataset: Dataset) -> None:
    buy = field_of(dataset, "buy")
    assert buy.coding != buy.change(given_when=None, before=None).coding
    assert buy.coding != buy.change(before=None).coding
    assert _said(buy) == "binary, known from 'bought_at' on" and _said(buy.change(given_when=None)) == "binary"
    assert described(dataset.manifest.model_dump(mode="json")).fields == dataset.manifest.fields


def test_what_is_no_time_is_refused_and_zero_is_none(tmp_path: Path) -> None:
    log = pl.DataFrame(
        {"user_id": [1, 1], "item_id": [1, 2], "timestamp": [T0, T0 + 1], "buy": [1, 0], "at": [T0 + 5, 0]}
    )
    dataset = prepare(log, tmp_path / "zero", fields={"buy": {"time": "at"}})
    assert dataset.delays["buy"].tolist() == [5, late.NO_TIME]
    empty = prepare(log.with_columns(at=None), tmp_path / "empty", fields={"buy": {"time": "at"}})
    assert empty.delays["buy"].tolist() == [late.NO_TIME] * 2 and field_of(empty, "buy").late == 0
    with pytest.raises(DataError, match=r"'at' has 1 time beyond the year 2100.*says when 'buy' was given; correct"):
        prepare(log.with_columns(at=pl.Series([T0, 2**43])), tmp_path / "no", fields={"buy": {"time": "at"}})


def test_the_doctor_counts_late_values_among_those_with_a_time_in_the_order_of_histories(
    events: list[Event], tmp_path: Path
) -> None:
    """Counted by hand, whatever the order of the input."""
    apart = [{**event, "timestamp": event["timestamp"] + place} for place, event in enumerate(events)]  # no ties
    late_ones, timed = 0, 0
    for user in range(8):
        for event, after in zip_longest(mine := _of(apart, user), mine[1:]):
            timed += event["bought_at"] is not None
            late_ones += bool(event["bought_at"] and after and event["bought_at"] > after["timestamp"])
    assert 0 < late_ones < timed < len(events)
    shuffled = np.random.default_rng(3).permutation(len(apart)).tolist()
    delays = []
    for name, order in (("sorted", None), ("shuffled", shuffled)):
        dataset = prepared(apart, tmp_path / name, order)
        (found,) = [one for one in examine(dataset) if one.name == "late feedback" and "'buy'" in one.what]
        assert (found.count, found.share) == (late_ones, late_ones / timed)
        assert "line for each action" in found.fix and "undefined" not in found.fix
        delays.append(dataset.delays["buy"].tolist())
    assert delays[0] == delays[1]


def test_the_benchmark_runs_at_a_small_size(tmp_path: Path) -> None:
    """And its log is what it says: purchases tell the carts, and come after the next event."""
    log = late_feedback.coin(40, 5)
    assert log.filter(pl.col("cart") != pl.col("buy")).is_empty()
    value, said = late_feedback.leak("own-log/rates", tmp_path / "leak", 40, 5, "training.epochs=1")
    assert 0.7 < value < 1.5 and "test events" in said
    small = {"people": 40, "count": 5, "worlds": (True,)}
    found = late_feedback.forms("own-log/rates", tmp_path / "forms", "training.epochs=1", **small)  # type: ignore[arg-type]
    assert found["form"].to_list() == [*late_feedback.FORMS] and found["events"].n_unique() == 1


def test_a_second_training_knows_what_was_known_when_the_test_began(events: list[Event], dataset: Dataset) -> None:
    """With refit=yes it ends where validation ended."""
    split = temporal(dataset, validation_from=cut(events, 0.4), test_from=cut(events, 0.7))
    batches = TrainingBatches(dataset, split.refit, window=9, batch_size=64, spec=FEEDBACK)
    assert batches.known_until is not None and set(batches.known_until.tolist()) == {cut(events, 0.7)}
    assert TrainingBatches(dataset, split, window=9, batch_size=64).known_until is None  # it reads no feedback
