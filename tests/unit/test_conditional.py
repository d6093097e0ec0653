"""Feedback that is defined only after other feedback is never used as if it were defined everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import facta
from facta.data.dataset.conditional import condition_of, factors, resolved, score_name, score_names
from facta.data.dataset.schema import Field, FieldConfig
from facta.data.synthetic import simulate
from facta.data.synthetic.simulator import SURFACES, SimulatorConfig, World, sigmoid
from facta.errors import ConfigError
from facta.infer.ranking import ScoreNames
from facta.training import journal

CLICK = Field(name="click", kind="binary", dtype="int8")
CONTEXT = Field(name="tab", role="context", kind="categorical", dtype="int8", categories=("a", "b"))
STARS = Field(name="stars", kind="ordinal", dtype="int8", levels=(1, 2, 3, 4, 5), positive=(4, 5), positive_when=">= 4")
ACTION = Field(name="action", kind="categorical", dtype="int8", categories=("buy", "cart", "view"), positive=(1, 2))
DWELL = Field(name="dwell", kind="numeric", dtype="float32", boundaries=(10, 30), positive=(3,), positive_when=">= 30")
WATCH = Field(name="watch", kind="numeric", dtype="float32", boundaries=(10, 30))
OTHERS = [CLICK, CONTEXT, STARS, ACTION, DWELL, WATCH]


def like(undefined: str, **changes: Any) -> Field:
    return Field(name="like", kind="binary", dtype="int8", undefined=-1, undefined_when=undefined).change(**changes)


@pytest.mark.parametrize(
    ("undefined", "after"),
    [
        ("click = 0", "click"),
        ("click=0", "click"),
        ("0 = click", "click"),
        ("NOT click", "click"),
        ("click <> 1", "click"),
        ("click < 1", "click"),
        ("click = false", "click"),
        ("click IN (0)", "click"),
        ("stars < 4", "stars"),
        ("stars IN (1, 2, 3)", "stars"),
        ("action = 'view'", "action"),
        ("action NOT IN ('buy', 'cart')", "action"),
        ("dwell < 30", "dwell"),
        ("dwell < 30.0", "dwell"),
    ],
)
def test_a_condition_that_is_the_failure_of_a_field_names_it(undefined: str, after: str) -> None:
    field = like(undefined)
    found = condition_of(field, [*OTHERS, field])
    assert found is not None and found.name == after
    assert score_name(field, [*OTHERS, field]) == f"like if {after}"


@pytest.mark.parametrize(
    "undefined",
    [
        "click = 1",  # defined where nobody clicked
        "click = 2",  # always defined
        "click >= 0",  # never defined
        "stars < 3",  # 3 is no success, and defined
        "stars < 5",
        "action = 'cart'",
        "action <> 'buy'",
        "dwell < 10",  # a boundary, and not the one of success
        "dwell < 20",  # inside of a bucket
        "dwell <= 30",  # 30 itself is a success
        "dwell >= 30",
        "watch < 30",  # no success
        "tab = 'a'",  # context
        "click = 0 OR tab = 'a'",  # several columns
        "click = 0 AND stars < 4",
        "seen = 0",  # a column that was not kept
    ],
)
def test_any_other_condition_is_kept_as_it_was_declared(undefined: str) -> None:
    field = like(undefined)
    assert condition_of(field, [*OTHERS, field]) is None
    assert score_name(field, [*OTHERS, field]) == f"like unless ({undefined})"
    with pytest.raises(ConfigError, match=r"'like' is learned where it is defined.*Order by 'like unless"):
        factors("like", [*OTHERS, field], ["click", "like"])


def test_a_field_without_a_condition_keeps_its_name() -> None:
    assert score_names(OTHERS) == {name: name for name in ("click", "stars", "action", "dwell", "watch")}
    assert factors("click", OTHERS, ["click"]) == ["click"]


def test_chains_lead_to_what_is_always_defined() -> None:
    shown = Field(name="shown", kind="binary", dtype="int8")
    click, liked = CLICK.change(undefined_when="shown = 0"), like("click = 0")
    fields = [liked, click, shown]
    assert factors("like", fields, ["like", "click", "shown"]) == ["like", "click", "shown"]
    names = ScoreNames.of(["like", "click", "shown"], fields)
    assert names.products["like"] == ("shown", "click if shown", "like if click")
    assert names.products["click"] == ("shown", "click if shown")
    scores = {"like": np.float32([0.5]), "click": np.float32([0.2]), "shown": np.float32([0.25])}
    found = names.scores(scores)
    assert {name: float(column[0]) for name, column in found.items()} == pytest.approx(
        {"shown": 0.25, "click if shown": 0.2, "like if click": 0.5, "click": 0.05, "like": 0.025}
    )
    with pytest.raises(ConfigError, match="does not predict shown"):
        ScoreNames.of(["like", "click"], fields).chosen({"like": 1})
    circle = [CLICK.change(undefined_when="like = 0"), like("click = 0")]
    with pytest.raises(ConfigError, match="leads back to itself"):
        factors("like", circle, ["like", "click"])


def test_an_order_is_of_every_event_or_says_what_it_is_given() -> None:
    fields = [CLICK, like("click = 0")]
    names = ScoreNames.of(["like", "click"], fields)
    assert names.chosen(None) == {"like": 1.0}  # the first field, multiplied through
    assert names.chosen("like if click") == {"like if click": 1.0}
    assert names.chosen({"click": 1, "like": 5}) == {"click": 1, "like": 5}
    alone = ScoreNames.of(["like"], fields)
    assert alone.chosen(None) == {"like if click": 1.0}  # as it stands, and named so
    with pytest.raises(ConfigError, match=r"Found by = 'like': .*does not predict click.*'like if click'"):
        alone.chosen("like")
    with pytest.raises(ConfigError, match=r"expected what this artifact predicts \(like, like if click, click\)"):
        names.chosen("buy")


def test_metrics_are_found_by_the_fields_own_name() -> None:
    known = ["NE(click)", "NE(like if click)", "GAUC(like if click)", "NE(rate unless (tab = 'a'))"]
    assert resolved("NE(like)", known) == "NE(like if click)"
    assert resolved("NE(rate)", known) == "NE(rate unless (tab = 'a'))"
    assert resolved("NE(click)", known) == "NE(click)"
    assert resolved("NE(lik)", known) == "NE(lik)" and resolved("NE", known) == "NE"


ITEMS, USERS, EVENTS = 40, 300, 30


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[facta.Dataset, facta.Artifact, dict[str, np.ndarray]]:
    """Items that few click and everybody likes who does, and items of which it is the other way round; dwell is of
    clicks alone. The truth of each item is known."""
    rng = np.random.default_rng(5)
    place = tmp_path_factory.mktemp("conditional")
    click = np.linspace(0.08, 0.9, ITEMS)
    liked = np.linspace(0.7, 0.15, ITEMS)
    item = rng.integers(0, ITEMS, USERS * EVENTS)
    clicked = rng.random(len(item)) < click[item]
    like_ = clicked & (rng.random(len(item)) < liked[item])
    dwell = np.where(clicked, 10.0 + 40 * liked[item] + rng.normal(0, 1, len(item)), 0.0)
    log = pl.DataFrame(
        {
            "user_id": np.repeat(np.arange(USERS), EVENTS),
            "item_id": item,
            "timestamp": 1_700_000_000_000 + np.tile(np.arange(EVENTS), USERS) * 7_200_000,
            "click": clicked.astype(int),
            "like": like_.astype(int),
            "dwell": dwell,
        }
    )
    fields = {"click": {}, "like": {"undefined": "click = 0"}, "dwell": {"kind": "numeric", "undefined": "click = 0"}}
    dataset = facta.prepare(log, place / "data", fields=fields)
    small = ["training.epochs=8", "training.patience=null", "training.keep=last", "model.width=16", "model.window=16"]
    artifact = facta.train(dataset, "own-log/dlrm", place / "artifact", [*small, "training.learning_rate=0.01"])
    return dataset, artifact, {"click": click, "like if click": liked, "like": click * liked}


def test_scores_of_every_event_agree_with_the_truth(
    world: tuple[facta.Dataset, facta.Artifact, dict[str, np.ndarray]],
) -> None:
    dataset, artifact, truth = world
    history = facta.history_of(dataset, 7)
    found = artifact.rank(history, list(range(ITEMS)), at="2030-01-01", by={"click": 1, "like": 5})
    assert list(found.scores) == ["click", "like if click", "dwell if click", "like", "dwell"]
    scores = {name: np.array(lists[0])[np.argsort(found.ids[0])] for name, lists in found.scores.items()}
    for name, exact in truth.items():
        assert np.abs(scores[name] - exact).mean() < 0.07, name
    np.testing.assert_allclose(scores["like"], scores["click"] * scores["like if click"], rtol=1e-6)
    np.testing.assert_allclose(scores["dwell"], scores["click"] * scores["dwell if click"], rtol=1e-6)
    value = scores["click"] + 5 * scores["like"]
    assert found.ids[0] == np.argsort(-value, kind="stable").tolist()
    wanted = truth["click"] + 5 * truth["like"]  # what an order by both is worth
    wrong = np.argsort(-(scores["click"] + 5 * scores["like if click"]))[:10]
    assert wanted[found.ids[0][:10]].mean() > wanted[wrong].mean() + 0.1


def test_metrics_of_the_field_say_what_it_is_given(
    world: tuple[facta.Dataset, facta.Artifact, dict[str, np.ndarray]],
) -> None:
    dataset, artifact, _ = world
    found = facta.predict(artifact, dataset)
    assert list(found.p) == ["click", "like if click"] and list(found.expected) == ["dwell if click"]
    assert "NE(like if click)" in found.means and "NE(like if click)" in found.summary()["metrics"]
    assert facta.compare(found, found, "NE(like)").difference == 0
    (summary, *_) = artifact.metrics
    assert "like if click" in summary["base_rates"] and summary["values"] == ["dwell if click"]


def test_training_is_chosen_by_a_conditional_field(
    world: tuple[facta.Dataset, facta.Artifact, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    dataset, *_ = world
    for metric, chosen in (
        ("NE(like)", "NE(like if click)"),
        ("NMAE(dwell)", "NMAE(dwell if click)"),
        ("Spearman",) * 2,
    ):
        small = ["training.epochs=1", "model.width=8", "model.window=8", f'training.metric="{metric}"']
        out = tmp_path / metric.partition("(")[0]
        facta.train(dataset, "own-log/dlrm", out, small)
        (line,) = journal.read(facta.run_folder(out), "validation")
        assert np.isfinite(line[chosen]) and line["best"]


def test_products_are_the_truth_of_the_simulator(tmp_path: Path) -> None:
    """People of one taste, who do not tire and see no evening: what each item is worth on a surface is written down."""
    constants = {"tastes": 1, "fatigue": 0.0, "evening": 0.0, "born_before": 1.0, "popularity": 0.0, "choice": 0.0}
    simulated = World(SimulatorConfig(users=400, items=30, events_per_user=30, **constants))  # type: ignore[arg-type]
    simulate.write(simulated, tmp_path / "log")
    fields = simulate.SCHEMA.fields or {}
    fields = {**fields, "long_view": FieldConfig(kind="binary", undefined="click = 0")}
    dataset = facta.prepare(
        tmp_path / "log" / "events.parquet", tmp_path / "data", items=tmp_path / "log" / "items.parquet", fields=fields
    )
    small = ["training.epochs=8", "training.patience=null", "training.keep=last", "model.width=16", "model.window=16"]
    artifact = facta.train(dataset, "own-log/dlrm", tmp_path / "artifact", [*small, "training.learning_rate=0.01"])
    items, liking = np.arange(30), simulated.liking[0]
    context = {"surface": "popular"}
    ranked = artifact.rank(facta.history_of(dataset, 7), items.tolist(), at="2030-01-01", context=context)
    found = {name: np.array(lists[0])[np.argsort(ranked.ids[0])] for name, lists in ranked.scores.items()}
    none = np.zeros(30, dtype=np.int64)
    click = sigmoid(simulated.click_logit(none + SURFACES.index("popular"), none > 0, none, items) + liking)
    later = sigmoid(simulated.long_view_logit(items) + simulated.config.long_view_taste * liking)
    truth = {"click": click, "long_view if click": later, "long_view": click * later}
    for name, exact in truth.items():
        assert np.abs(found[name] - exact).mean() < 0.07, name
    assert np.abs(found["long_view if click"] - truth["long_view"]).mean() > 0.15, "as it stands it is another number"
    by = artifact.rank(
        facta.history_of(dataset, 7), items.tolist(), at="2030-01-01", context=context, by={"click": 1, "long_view": 5}
    )
    worth = np.array(truth["click"] + 5 * truth["long_view"])[by.ids[0]]
    assert by.ids[0] == np.argsort(-(found["click"] + 5 * found["long_view"]), kind="stable").tolist()
    assert np.corrcoef(worth, -np.arange(30))[0, 1] > 0.8, "what is worth more stands before"
