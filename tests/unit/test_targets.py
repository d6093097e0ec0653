"""What a protocol asks for: which events, of how many people, and of how many of them nothing is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import facta
from facta.data.dataset.catalogue import Catalogue
from facta.data.split.late import successes
from facta.data.split.splits import leave_one_out, leave_one_out_test, temporal, temporal_test, training_events
from facta.data.split.statistics import Statistics
from facta.eval.evaluation import evaluate
from facta.eval.experiment import Experiment
from facta.eval.population import population
from facta.eval.predict import predict
from facta.models.baselines import (
    DecayedPopularity,
    DecayedPopularityConfig,
    ItemKNN,
    ItemKNNConfig,
    Popularity,
    PopularityConfig,
)
from facta.models.rates import RateRegression, RatesConfig
from facta.models.rules import Rules, RulesConfig
from facta.training.log import Log
from tests.rankers import Seeded

T = 1_600_000_000_000
MINUTE = 60_000
HISTORIES = {  # user: (item, minute, bought)
    "a": [(1, 0, 0), (2, 10, 1), (3, 20, 0), (4, 30, 1), (1, 40, 0)],
    "b": [(5, 5, 1), (2, 25, 0), (3, 26, 1)],
    "c": [(4, 1, 1), (5, 41, 0), (1, 45, 0)],
    "d": [(1, 50, 1), (2, 51, 1)],
}
PROTOCOL = facta.ProtocolConfig(
    split="temporal", train_end="2020-09-13T12:46:40", validation_end="2020-09-13T12:51:40", targets="buy"
)  # minutes 20 and 25


def dataset(tmp_path: Path, histories: dict[str, list[tuple[int, int, int]]] = HISTORIES) -> facta.Dataset:
    rows = [
        {"user_id": user, "item_id": item, "timestamp": T + minute * MINUTE, "buy": bool(bought)}
        for user, events in histories.items()
        for item, minute, bought in events
    ]
    return facta.prepare(pl.DataFrame(rows), tmp_path / "data", fields={"buy": {}})


def by_name(data: facta.Dataset, requests: object) -> list[tuple[str, int, list[int]]]:
    """(user, visible events, relevant items), in terms of the log."""
    users, items = data.users["user_id"].to_list(), data.items["item_id"].to_list()
    relevant = np.split(requests.item, requests.offsets[1:-1])  # type: ignore[attr-defined]
    asked = zip(requests.user, requests.end, relevant, strict=True)  # type: ignore[attr-defined]
    return sorted((users[u], int(end), [items[i] for i in rows]) for u, end, rows in asked)


def test_the_last_purchase_is_asked_for_and_what_lies_behind_it_is_not_learned(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    bought = successes(data, "buy")
    split = leave_one_out(data, targets=bought)
    assert by_name(data, leave_one_out_test(data, targets=bought)) == [("a", 3, [4]), ("b", 2, [3]), ("d", 1, [2])]
    assert by_name(data, split.validation) == [("a", 1, [2])]
    ends = dict(zip(data.users["user_id"], zip(split.train_end, split.validation_end, strict=True), strict=True))
    assert ends == {"a": (1, 3), "b": (2, 2), "c": (3, 3), "d": (1, 1)}


@pytest.mark.parametrize("seed", range(20))
def test_leave_one_out_of_targets_equals_a_loop(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 7, 12)
    data = dataset(
        tmp_path,
        {f"{u:02d}": [(int(rng.integers(9)), p, 0) for p in range(length)] for u, length in enumerate(lengths)},
    )
    targets = rng.random(data.num_events) < rng.choice([0.2, 0.6, 1.0])
    expected = []
    for user in range(data.num_users):
        own = targets[data.offsets[user] : data.offsets[user + 1]]
        places = [place for place in range(1, len(own)) if own[place]]
        test = places[-1] if places else len(own)
        expected.append((places[-2] if len(places) > 1 else test, test))
    if not any(test < length for (_, test), length in zip(expected, np.diff(data.offsets), strict=True)):
        with pytest.raises(facta.ProtocolError, match="a target after another event"):
            leave_one_out(data, targets=targets)
        return
    split = leave_one_out(data, targets=targets)
    assert list(zip(split.train_end, split.validation_end, strict=True)) == expected
    if targets.all():
        plain = leave_one_out(data)
        assert plain.train_end.tolist() == split.train_end.tolist()
        assert plain.validation.item.tolist() == split.validation.item.tolist()
        assert leave_one_out_test(data).item.tolist() == leave_one_out_test(data, targets=targets).item.tolist()


@pytest.mark.parametrize("state", ["frozen", "rolling"])
def test_a_period_is_asked_for_its_purchases_alone(tmp_path: Path, state: str) -> None:
    data = dataset(tmp_path)
    asked = temporal_test(data, test_from=T + 25 * MINUTE, state=state, targets=successes(data, "buy"))  # type: ignore[arg-type]
    ends = {"frozen": {"b": 1}, "rolling": {"b": 2}}[state]
    first = [("a", 3, [4]), ("b", ends["b"], [3])]
    assert by_name(data, asked) == (first if state == "frozen" else [*first, ("d", 1, [2])])
    validated = temporal(
        data, validation_from=T + 20 * MINUTE, test_from=T + 25 * MINUTE, targets=successes(data, "buy")
    )
    assert len(validated.validation) == 0


@pytest.mark.parametrize(
    ("state", "targets", "expected"),
    [
        ("frozen", "all", (4, 8, 3, 6)),  # d has no event before the cut: two of its events are not asked
        ("rolling", "all", (4, 8, 4, 7)),  # before the first event of d nothing is visible
        ("frozen", "buy", (3, 4, 2, 2)),
        ("rolling", "buy", (3, 4, 3, 3)),
    ],
)
def test_people_and_events_that_are_not_asked_are_counted(
    tmp_path: Path, state: str, targets: str, expected: tuple[int, ...]
) -> None:
    data = dataset(tmp_path)
    protocol = PROTOCOL.change(state=state, targets=targets)
    counts = np.bincount(data.item[training_events(data, protocol.cut(data))], minlength=data.num_items)
    found = evaluate(Seeded(data.num_items, window=9), Experiment(data, protocol), counts=counts, ks=(2,))
    names = ("held_out_users", "held_out_events", "asked_users", "asked_events")
    assert tuple(found.asked[name] for name in names) == expected
    assert found.asked["untrained_targets"] == sum(counts[Experiment(data, protocol).requests("test").item] == 0) > 0
    assert found.summary()["asked"] == dict(found.asked)
    said = population(found.asked, found.stage)
    assert said.startswith(f"{expected[2]} of {expected[0]} users with test events, {expected[3]} of {expected[1]}")
    assert "; the others have no visible event before." in said and "items without training events" in said
    found.save(tmp_path / "saved.json")
    assert facta.Result.load(tmp_path / "saved.json").asked == found.asked


def test_each_asked_event_of_an_item_without_training_events_counts(tmp_path: Path) -> None:
    """Item 7 is asked for three times; item 8, also new, has nothing before it; user d has no test event."""
    told = {"a": [(1, 0, 0), (7, 30, 1), (7, 40, 0)], "b": [(1, 5, 0), (7, 31, 0)], "c": [(8, 30, 0)], "d": [(1, 1, 1)]}
    data, protocol = dataset(tmp_path, told), PROTOCOL.change(state="rolling", targets="all")
    split = protocol.cut(data)
    counts = np.bincount(data.item[training_events(data, split)], minlength=data.num_items)
    asked = evaluate(Seeded(data.num_items, window=9), Experiment(data, protocol), counts=counts, ks=(1,)).asked
    names = ("held_out_users", "held_out_events", "asked_users", "asked_events", "untrained_targets")
    assert tuple(asked[name] for name in names) == (3, 4, 2, 3, 3)
    model = RateRegression(RatesConfig(fields=("buy",)), Catalogue.of(data))
    model.fit_statistics(Statistics(data, split))
    asked = predict(model.eval(), Experiment(data, protocol), counts=counts).asked
    names = ("held_out_users", "held_out_events", "users_without_history", "untrained_targets")
    assert tuple(asked[name] for name in names) == (3, 4, 1, 4)


def test_blind_ties_leave_people_unasked_and_they_are_counted(tmp_path: Path) -> None:
    data = dataset(tmp_path, {"a": [(1, 0, 0), (2, 0, 0)], "b": [(1, 0, 0), (2, 1, 0)]})
    found = evaluate(Seeded(data.num_items, window=9), Experiment(data, facta.ProtocolConfig(ties="blind")), ks=(1,))
    assert (found.asked["held_out_users"], found.asked["asked_users"]) == (2, 1)
    assert "1 of 2 users" in population(found.asked, found.stage)


@pytest.mark.parametrize("state", ["frozen", "rolling"])
def test_predicted_feedback_counts_people_without_history_and_items_never_seen(tmp_path: Path, state: str) -> None:
    data = dataset(tmp_path)
    protocol = PROTOCOL.change(state=state, targets="all")
    split = protocol.cut(data)
    model = RateRegression(RatesConfig(fields=("buy",)), Catalogue.of(data))
    model.fit_statistics(Statistics(data, split))
    counts = np.bincount(data.item[training_events(data, split)], minlength=data.num_items)
    found = predict(model.eval(), Experiment(data, protocol), counts=counts)
    event = data.offsets[found.user] + found.place
    assert found.asked == {
        "held_out_users": 4,
        "held_out_events": 8,
        "users_without_history": 1,
        "unknown_targets": 0,
        "untrained_targets": int((counts[data.item[event]] == 0).sum()),
    }
    assert "all 8 test events of 4 users, 1 of them without an earlier event." in population(found.asked, found.stage)
    found.save(tmp_path / "saved.json")
    assert facta.Predictions.load(tmp_path / "saved.json").asked == found.asked


def test_fields_that_say_no_success_are_refused(tmp_path: Path) -> None:
    with pytest.raises(facta.ConfigError, match=r"Found the field 'bought'; feedback fields .*: buy\."):
        facta.ProtocolConfig(targets="bought").cut(dataset(tmp_path))


def test_feedback_is_not_predicted_where_success_chose_the_events(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    model = RatesConfig(fields=("buy",)).build(Catalogue.of(data))
    with pytest.raises(facta.ProtocolError, match=r"begin with a success.*use a temporal protocol, or targets=all"):
        predict(model, Experiment(data, facta.ProtocolConfig(targets="buy")))  # type: ignore[arg-type]
    with pytest.raises(facta.ConfigError, match="begin with a success"):
        facta.find_recipe(
            "own-log/rates",
            [*(f"protocol.{key}" for key in ("split=loo-val", "train_end=null", "validation_end=null", "targets=buy"))],
        )


def test_baselines_of_purchases_count_purchases_alone(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    bought = data.num_items * [0]
    for row, yes in zip(data.item, successes(data, "buy"), strict=True):
        bought[row] += yes
    split = temporal(data, test_from=T + 10**9)
    popular = Popularity(PopularityConfig(positive="buy"), data.num_items).fit_statistics(Statistics(data, split))
    assert popular.popularity.tolist() == bought
    slowly = DecayedPopularityConfig(positive="buy", half_life_days=1e6)
    decayed = DecayedPopularity(slowly, data.num_items).fit_statistics(Statistics(data, split))
    assert decayed.popularity.exp2().tolist() == pytest.approx(bought, rel=1e-4)
    knn = ItemKNN(ItemKNNConfig(positive="buy", shrinkage=0.0), data.num_items).fit_statistics(Statistics(data, split))
    items = data.items["item_id"].to_list()
    near = {
        (items[row], items[other])
        for row in range(data.num_items)
        for other, value in zip(knn.neighbours[row].tolist(), knn.similarity[row].tolist(), strict=True)
        if value > 0
    }
    assert near == {(2, 4), (4, 2), (5, 3), (3, 5), (1, 2), (2, 1)}  # bought by one person: a, b and d


def test_rules_of_purchases_count_pairs_of_purchases_alone(tmp_path: Path) -> None:
    """User a bought 2 and, two events later, 4: the next purchase. Item 2 has three events, two of them purchases."""
    data = dataset(tmp_path)
    config = RulesConfig(positive="buy", distance=1, backward=0.0, damping=1.0, source_damping=0.0, prior_events=1.0)
    rules = Rules(config, data.num_items).fit_statistics(Statistics(data, temporal(data, test_from=T + 10**9)))
    items = data.items["item_id"].to_list()
    found = {
        (items[row], items[other]): value
        for row in range(data.num_items)
        for other, value in zip(rules.neighbours[row].tolist(), rules.weight[row].tolist(), strict=True)
        if value > 0
    }
    assert found == pytest.approx({(2, 4): 1 / 3, (5, 3): 1 / 2, (1, 2): 1 / 3})


def people(users: int = 60) -> dict[str, list[tuple[int, int, int]]]:
    """Everybody looks at 1 to 4 over and over, and in between buys 11 and 12; nothing else is bought."""
    rng = np.random.default_rng(0)
    histories = {}
    for user in range(users):
        looks = [(int(rng.integers(1, 5)), 0) for _ in range(8)]
        events = [*looks[:4], (11, 1), (12, 1), *looks[4:6], (11 if user % 3 else 12, 1), *looks[6:], (12, 1)]
        histories[f"{user:02d}"] = [(item, 10 * place, bought) for place, (item, bought) in enumerate(events)]
    return histories


@pytest.mark.parametrize("recipe", ["popularity", "decayed-popularity", "item-knn"])
def test_a_baseline_of_purchases_is_chosen_and_judged_by_purchases(tmp_path: Path, recipe: str) -> None:
    data = dataset(tmp_path, people())
    changes = ["protocol.targets=buy", "protocol.mask=nothing"]
    of_all = facta.train(data, f"debug/{recipe}", tmp_path / "all", changes)
    of_purchases = facta.train(data, f"debug/{recipe}", tmp_path / "buy", [*changes, "model.positive=buy"])
    values = [facta.evaluate(one, data, ks=(2,)).means["HR@2"] for one in (of_all, of_purchases)]
    assert values[1] == 1.0
    if recipe.endswith("popularity"):
        assert values[0] == 0.0


def test_chosen_rules_of_purchases_name_what_was_bought(tmp_path: Path) -> None:
    data = dataset(tmp_path, people())
    changes = ["protocol.targets=buy", "protocol.mask=nothing", "model.positive=buy"]
    rules = facta.train(data, "debug/rules", tmp_path / "buy", changes).model
    named = {data.items["item_id"][row] for row in rules.neighbours[rules.weight > 0].tolist()}
    assert rules.config.positive == "buy" and named == {11, 12}


def test_early_stopping_asks_for_the_protocol_s_targets(tmp_path: Path) -> None:
    """The best epoch is that of the validation purchases: the metrics in the journal are of these requests."""
    data = dataset(tmp_path, people())
    changes = ["protocol.targets=buy", "protocol.mask=nothing", "training.epochs=2", "training.patience=null"]
    trained = facta.train(data, "debug/hstu", tmp_path / "a", changes, log=Log("quiet"))
    best = max(line["NDCG@10"] for line in facta.training.journal.read(facta.run_folder(tmp_path / "a"), "validation"))
    assert trained.metrics[0]["metrics"]["NDCG@10"]["mean"] == pytest.approx(best, abs=1e-9)
    assert trained.metrics[0]["asked"]["held_out_events"] == 60 and "targets=buy" in trained.metrics[0]["protocol"]


def test_a_model_of_purchases_judged_on_everything_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(tmp_path)
    facta.train(data, "debug/popularity", tmp_path / "a", ["model.positive=buy"])
    assert "has learned from events with buy and is asked for all events" in capsys.readouterr().err
    facta.train(data, "debug/popularity", tmp_path / "b", ["model.positive=buy", "protocol.targets=buy"])
    assert "has learned from" not in capsys.readouterr().err


def test_cuts_beyond_the_log_are_said_with_its_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = dataset(tmp_path)
    cuts = ["protocol.split=temporal", "protocol.train_end=2029-01-01", "protocol.validation_end=2030-01-01"]
    ends = "between 2020-09-13T12:26:40.000 and 2020-09-13T13:17:40.000 (UTC)"
    facta.train(data, "debug/popularity", tmp_path / "a", cuts)
    said = " ".join(capsys.readouterr().err.split())
    assert "There will be no validation number" in said and "There will be no test number" in said and ends in said
    with pytest.raises(facta.ProtocolError, match=r"has no test request on this dataset, whose events lie"):
        facta.evaluate(tmp_path / "a", data)
    early = [cuts[0], "protocol.train_end=1999-01-01", "protocol.validation_end=2000-01-01"]
    with pytest.raises(facta.DataError, match=r"events lie between 2020-09-13T12:26:40"):
        facta.train(data, "debug/popularity", tmp_path / "b", early)


def test_a_purchase_that_becomes_known_later_is_no_target_of_validation_and_not_counted(tmp_path: Path) -> None:
    """Choosing and counting know what was known when their period ended; the test knows the whole log."""
    rows = [("a", 1, 0, 5), ("a", 2, 10, 40), ("a", 3, 22, 60), ("a", 4, 23, 24), ("a", 5, 30, 90), ("a", 6, 31, None)]
    frame = pl.DataFrame(
        [
            {
                "user_id": user,
                "item_id": item,
                "timestamp": T + minute * MINUTE,
                "buy": known is not None,
                "bought_at": None if known is None else T + known * MINUTE,
            }
            for user, item, minute, known in rows
        ]
    )
    data = facta.prepare(frame, tmp_path / "data", fields={"buy": {"time": "bought_at"}})
    protocol = PROTOCOL.change(state="rolling")
    split, ids = protocol.cut(data), data.items["item_id"].to_list()
    assert [ids[row] for row in split.validation.item] == [4]
    assert [ids[row] for row in Experiment(data, protocol).test.item] == [5]
    popular = Popularity(PopularityConfig(positive="buy"), data.num_items).fit_statistics(Statistics(data, split))
    assert [item for item, count in zip(ids, popular.popularity.tolist(), strict=True) if count] == [1]
    later = Popularity(PopularityConfig(positive="buy"), data.num_items).fit_statistics(Statistics(data, split.refit))
    assert [item for item, count in zip(ids, later.popularity.tolist(), strict=True) if count] == [1, 4]
