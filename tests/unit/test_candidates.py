"""Ranking of given candidates: what a model says of one is the same in every company, and as of the stored event."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

import facta.artifact.model as saved_model
from facta.artifact import card
from facta.artifact.contents import ArtifactData
from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.request import request
from facta.data.batches.spec import InputSpec
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.codes import codes
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.raw import from_text, raw_codes, raw_of_codes, raw_values
from facta.data.dataset.schema import Field
from facta.data.log.prepare import prepare
from facta.data.split.splits import Requests
from facta.data.split.statistics import Statistics
from facta.errors import ConfigError, DataError, UnknownValueWarning
from facta.eval.experiment import Experiment
from facta.eval.predict import predict
from facta.eval.protocol import ProtocolConfig
from facta.infer.artifact import Artifact
from facta.infer.history import History, encoded
from facta.infer.history_of import history_of
from facta.models.model import Model

T0, MINUTE, ITEMS, USERS = 1_600_000_000_000, 60_000, 9, 12
LAYOUTS = ("interleaved", "paired", "fused")
COUNTED = ("paired counted", "fused counted")  # with rates of items, features and context
MODELS = (*LAYOUTS, *COUNTED, "dlrm", "rates")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return world(tmp_path_factory.mktemp("candidates") / "log")


def world(out: Path) -> Dataset:
    """Histories of 1 to 12 events with gaps in every field; item 8 has no event. Of three people in four two
    facts change: before, between, at the instants of, and after events.
    """
    rng = np.random.default_rng(0)
    rows = [
        (user, int(rng.integers(0, 8)), T0 + MINUTE * (100 * place + user), place)
        for user in range(USERS)
        for place in range(user + 1)
    ]
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp", "place"], orient="row").with_columns(
        tab=pl.Series(rng.choice(["home", "search", None], len(rows)).tolist()),
        click=pl.Series(rng.choice([0, 1, None], len(rows)).tolist()),
        stars=pl.Series(rng.choice([1.0, 2.5, 4.0, None], len(rows)).tolist()),
        seconds=pl.Series(np.where(rng.random(len(rows)) < 0.2, np.nan, rng.choice([0.1, 0.7, 3.3], len(rows)))),
    )
    people = pl.DataFrame(
        {"user_id": range(USERS), "city": ["Ulm", "Bonn", None] * 4, "since": [date(2020, 1, 1)] * 12}
    )
    changes = [
        (user, T0 + MINUTE * (50 * half + user), name, value)
        for user in range(USERS)
        for half in range(-3, 2 * user + 4)
        for name, value in (("plan", f"plan {half % 3}"), ("level", str(half * 0.5)))
        if user % 4 and (half + user) % 3
    ]
    before = [
        [(user + 3 * place) % 8 for place in range(user % 3)] for user in range(USERS)
    ]  # an order that can be lost
    shown = pl.DataFrame(
        {"item_id": range(ITEMS), "title": [f"film {i}" for i in range(ITEMS)], "genre": [*"aabbccaab"]}
    )
    return prepare(
        frame.drop("place"),
        out,
        items=shown,
        users=people.with_columns(before=pl.Series(before, dtype=pl.List(pl.Int64))),
        fields={
            "tab": "context",
            "click": "feedback",
            "stars": {"kind": "ordinal", "positive": ">= 3"},
            "seconds": {"kind": "numeric", "boundaries": [0.1, 0.7, 3.0], "positive": ">= 0.7"},
        },
        item_fields={"genre": "categorical"},
        user_fields={"city": "categorical", "before": "items", "since": "numeric"},
        series=pl.DataFrame(changes, schema=["user_id", "timestamp", "field", "value"], orient="row"),
        series_fields={"plan": "categorical", "level": {"kind": "numeric", "boundaries": [-0.5, 1, 3, 4]}},
    )


def artifact(log: Dataset, model: str = "interleaved", *, window: int = 6, joint: bool = False) -> Artifact:
    """Untrained: any weights tell whether two ways lead to one score."""
    config: dict[str, object] = {"kind": model, "window": window}
    if model in (*LAYOUTS, *COUNTED):
        config |= {"kind": "recommender", "width": 8, "layout": model.split()[0], "feedback": {}}
        embedding = {"features": True, "item_std": 1.0, "rates": 3.0 if model in COUNTED else None}
        config |= {"embedding": embedding, "next_item": {} if joint else None}
        config |= {"encoder": {"kind": "hstu", "layers": 2, "bias": "both"}}
    built = saved_model.parse(config).build(Catalogue.of(log), seed=3)
    built.fit_statistics(Statistics(log, ProtocolConfig(split="loo-paper").cut(log)))
    built.eval()
    for parameter in built.parameters():  # some start at zero
        with torch.no_grad():
            parameter.add_(torch.linspace(-0.3, 0.3, parameter.numel()).view_as(parameter))
    catalogue = log.items.with_columns(training_events=pl.Series(np.bincount(log.item, minlength=log.num_items)))
    schema = log.manifest.model_dump(mode="json")
    return Artifact.of(ArtifactData({"name": "t", "model": config, "protocol": {}}, schema, catalogue, built))


def asked(log: Dataset, user: int) -> tuple[History, int]:
    """The history before the newest event of a user, and when that event was."""
    time = int(log.timestamp[log.offsets[user + 1] - 1])  # type: ignore[index]
    return history_of(log, user, until=np.datetime64(time - 1, "ms")), time


@pytest.mark.parametrize("model", MODELS)
def test_candidates_score_alike_together_alone_and_in_any_order(log: Dataset, model: str) -> None:
    engine, (history, time) = artifact(log, model), asked(log, 11)
    told = {"at": time, "context": {"tab": "home"}}
    together = engine.rank(history, range(ITEMS), **told)  # type: ignore[arg-type]
    assert len(set(together.scores["click"][0])) == ITEMS
    turned = engine.rank(history, [*reversed(range(ITEMS)), 3], **told)  # type: ignore[arg-type]
    for field, (scores,) in together.scores.items():
        for item, score in zip(together.ids[0], scores, strict=True):
            alone = engine.rank(history, [item], **told)  # type: ignore[arg-type]
            assert alone.scores[field][0] == pytest.approx([score], abs=1e-6)
            assert turned.scores[field][0][turned.ids[0].index(item)] == pytest.approx(score, abs=1e-6)
    assert turned.ids[0] == [one for item in together.ids[0] for one in [item] * (1 + (item == 3))]


def test_many_candidates_are_scored_in_parts(log: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, pairs = artifact(log), [asked(log, user) for user in (11, 0, 5)]
    lists = [list(range(ITEMS)), [2], []]
    told = {"at": [time for _, time in pairs], "by": "click"}
    whole = engine.rank([history for history, _ in pairs], lists, **told)  # type: ignore[arg-type]
    monkeypatch.setattr("facta.infer.candidates.MICROBATCH", 2)
    monkeypatch.setattr("facta.infer.candidates.EVENTS", 9)
    parts = engine.rank([history for history, _ in pairs], lists, **told)  # type: ignore[arg-type]
    assert parts.ids == whole.ids and parts.ids[1:] == [[2], []]
    for field, scores in whole.scores.items():
        for one, other in zip(scores, parts.scores[field], strict=True):
            assert one == pytest.approx(other, abs=1e-6)
    assert engine.rank(History([]), [], at=T0).scores == {"click": [[]], "stars": [[]], "seconds": [[]]}


@pytest.mark.parametrize("model", MODELS)
def test_aside_equals_in_line(log: Dataset, model: str) -> None:
    """A candidate at the time and in the context of a stored event gets what evaluation predicts of that event."""
    engine = artifact(log, model)  # of six events: some histories are longer
    predicted = predict(engine.model, Experiment(log, ProtocolConfig(split="loo-paper")))  # type: ignore[arg-type]
    assert len(predicted.user) == USERS - 1  # a history of one event is not held out
    for place, user in enumerate(predicted.user):
        history, time = asked(log, int(user))
        event = int(log.offsets[user + 1]) - 1
        tab = raw_values(log.manifest.fields[0], log.fields["tab"][event : event + 1])[0]
        item = log.items["item_id"][int(log.item[event])]
        found = engine.rank(history, [item, 8], at=time, context={"tab": tab}, by="stars")
        at = found.ids[0].index(item)
        for field, p in predicted.p.items():
            assert found.scores[field][0][at] == pytest.approx(p[place], abs=2e-5), (user, field)


@pytest.mark.parametrize("model", MODELS)
def test_a_person_without_events_is_told_by_what_changed(log: Dataset, model: str) -> None:
    engine = artifact(log, model)
    moved = [History([], series=[(T0, "plan", plan), (T0 + 5, "level", 0.5)]) for plan in ("plan 0", "plan 1")]
    first, second = (engine.rank(one, [1, 2], at=T0 + MINUTE, by="click").scores["click"][0] for one in moved)
    assert first != pytest.approx(second, abs=1e-6)
    beside = engine.rank([*moved, asked(log, 11)[0]], [1, 2], at=[T0 + MINUTE] * 2 + [asked(log, 11)[1]], by="click")
    assert sorted(beside.scores["click"][0]) == pytest.approx(sorted(first), abs=1e-6)


def test_order_titles_and_what_is_left_out(log: Dataset) -> None:
    engine, (history, time) = artifact(log), asked(log, 7)
    found = engine.rank(replace(history, items=[99, *history.items[1:]]), [5, 77, 8, 1], at=time)
    assert found.by == {"click": 1.0} and sorted(found.ids[0]) == [1, 5, 8]
    assert found.scores["click"][0] == sorted(found.scores["click"][0], reverse=True)
    assert found.titles[0] == [f"film {item}" for item in found.ids[0]]
    assert (found.left_out, found.untrained, found.unknown) == ([1], [1], [1])
    mixed = engine.rank(history, range(ITEMS), at=time, by={"click": 0.5, "stars": -2})
    value = 0.5 * np.array(mixed.scores["click"][0]) - 2 * np.array(mixed.scores["stars"][0])
    assert (np.diff(value) <= 0).all()


def test_context_feedback_and_user_change_what_is_predicted(log: Dataset) -> None:
    engine, (history, time) = artifact(log), asked(log, 11)

    def of(changed: History, tab: str | None = "home") -> float:
        return engine.rank(changed, [4], at=time, context={"tab": tab}).scores["click"][0][0]

    clicks = [None if click is None else 1 - click for click in history.fields["click"]]
    people = [{}, {**history.user, "city": "Ulm"}, {**history.user, "before": [5, 99]}]
    others = [
        *(replace(history, user=user) for user in people),
        replace(history, fields={**history.fields, "click": clicks}),
        history,
    ]
    assert len({of(one) for one in others} | {of(history, tab) for tab in ("search", None)}) == 7
    with pytest.warns(UnknownValueWarning, match=r"^Found tab=no such tab in the context .* Known: home, search\.$"):
        assert of(history, "no such tab") == of(history, None)
    each = engine.rank([history, history], [4], at=time, context=[{"tab": "home"}, {}]).scores["click"]
    assert each == [[pytest.approx(of(history))], [pytest.approx(of(history, None))]]


def test_what_changed_before_the_request_changes_what_is_predicted(log: Dataset) -> None:
    engine, (history, time) = artifact(log), asked(log, 11)

    def of(*series: tuple[object, str, object], at: int = time) -> float:
        given = replace(history, series=series)  # type: ignore[arg-type]
        return engine.rank(given, [4], at=at).scores["click"][0][0]

    change = (time - MINUTE, "plan", "plan 1")
    assert len({of(), of(change), of((time - MINUTE, "plan", "plan 2")), of((T0, "plan", "plan 1"))}) == 4
    assert of((time, "plan", "plan 1")) == of()  # at the request's instant: known later
    assert of((time, "plan", "plan 1"), at=time + 1) != of(at=time + 1)
    assert of(change, (time - MINUTE + 1, "plan", "plan 1")) == of(change)  # changes nothing
    assert of(change, (T0, "level", 2.5)) == of((np.datetime64(T0, "ms"), "level", 2.0), change)  # one bucket, sorted
    with pytest.warns(UnknownValueWarning, match=r"^Found plan=no such plan in a series; .* Known: plan 0, plan 1"):
        misspelt = of((T0, "plan", "no such plan"))
    assert of((T0, "plan", None)) == misspelt != of()
    untimed = replace(engine, model=without_time(log))
    assert untimed.reads_time and not untimed.model.config.uses_time
    with pytest.raises(DataError, match="reads time"):
        untimed.rank([1, 2], [4])


def without_time(log: Dataset) -> Model:
    config = {"kind": "recommender", "width": 8, "window": 6, "layout": "fused", "feedback": {}, "next_item": None}
    built = saved_model.parse(config | {"encoder": {"kind": "gru"}}).build(Catalogue.of(log), seed=3)
    return built


@pytest.mark.parametrize("until", [None, T0 + MINUTE * 450])
def test_stored_changes_keep_their_codes(log: Dataset, until: int | None) -> None:
    stored, fields = log.series, log.manifest.series_fields
    assert stored is not None
    for user in range(USERS):
        found = encoded(history_of(log, user, until=until), log.item_rows, log.manifest, InputSpec(series=True)).series
        span = slice(int(stored.offsets[user]), int(stored.offsets[user + 1]))
        kept = np.asarray(stored.time[span]) <= (2**62 if until is None else until)
        assert found is not None and (kept.any() or not user % 4)
        for name in ("time", "field", "value"):
            assert np.array_equal(getattr(found, name), getattr(stored, name)[span][kept]), (user, name)
    one = Field(name="level", kind="numeric", dtype="f64", boundaries=(0.1, 3.0))
    assert raw_codes(one, raw_of_codes(one, np.arange(4))).tolist() == [0, 1, 2, 3]
    assert {int(code) for code in stored.value[stored.field == [f.name for f in fields].index("level")]} >= {1, 2, 5}


def test_a_new_item_is_known_by_its_features(log: Dataset) -> None:
    """Items 8 and 2 share their genre; 8 was never trained on, so no number of its own is read."""
    engine = artifact(log)
    tower = engine.model.embedder.item  # type: ignore[union-attr]

    def of() -> dict[object, float]:
        found = engine.rank(History([]), [8, 2], at=T0)
        return dict(zip(found.ids[0], found.scores["click"][0], strict=True))

    before = of()
    with torch.no_grad():
        tower.ids.weight.mul_(-3)  # type: ignore[union-attr]
        assert of()[8] == before[8] and of()[2] != before[2]
        tower.ids.weight.copy_(tower.unknown.expand_as(tower.ids.weight))  # type: ignore[union-attr]
        assert of()[8] == pytest.approx(of()[2])  # an unknown item of its genre


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_that_reads_fields_recommends_as_it_is_evaluated(log: Dataset, layout: str) -> None:
    engine = artifact(log, layout, joint=True)
    window = engine.model.window_of_requests  # the candidates of a model that ranks, too, stand among the events
    users, times = np.array([11, 3, 7]), T0 + MINUTE * np.array([5000, 5000, 6000])
    ends, none = np.array([12, 4, 8]), np.zeros(4, dtype=np.int64)
    spec = engine.model.inputs
    evaluated = request_batch(log, Requests(users, ends, times, none, none[:0]), slice(0, 3), window, spec)
    histories = [encoded(history_of(log, int(user)), log.item_rows, log.manifest, spec) for user in users]
    made = request(histories, times.tolist(), window)
    assert set(made.events.fields) == {"tab", "click", "stars", "seconds"} and set(made.user) == {"city", "since"}
    for name, column in made.events.fields.items():
        assert torch.equal(column, evaluated.events.fields[name]), name
    for name, column in made.user.items():
        assert torch.equal(column, evaluated.user[name]), name
    assert made.lists is not None and evaluated.lists is not None
    for name in ("offsets", "which", "item"):
        assert torch.equal(getattr(made.lists, name), getattr(evaluated.lists, name)), name
    assert made.series is not None and evaluated.series is not None and len(made.series.time)  # type: ignore[arg-type]
    for name in ("offsets", "field", "value", "time", "after"):
        assert torch.equal(getattr(made.series, name), getattr(evaluated.series, name)), name
    scores = engine.model.catalogue_scores(evaluated).dense()[0]  # type: ignore[union-attr]
    answer = engine.recommend(history_of(log, 11), 3, at=int(times[0]), exclude="nothing")
    assert answer.scores[0] == pytest.approx(scores[:8].topk(3).values.tolist(), abs=1e-5)


def test_a_card_shows_all_that_the_model_reads_and_speaks_of_what_it_does(log: Dataset) -> None:
    ranker, joint = (card.text(artifact(log, joint=joint)) for joint in (False, True))
    (code,) = re.findall(r"^```python\n(.*?)^```", ranker, re.MULTILINE | re.DOTALL)
    history, rank = (node.value for node in ast.parse(code).body[-2:])  # type: ignore[attr-defined]
    given = {one.arg: ast.literal_eval(one.value) for one in (*history.keywords, *rank.keywords) if one.arg != "at"}
    assert list(given["fields"]) == ["tab", "click", "stars", "seconds"] and list(given["context"]) == ["tab"]
    assert set(given["user"]) == {"city", "since", "before"}
    assert [name for _, name, _ in given["series"]] == ["plan", "level"]
    assert "\nA ranker of kind `recommender`" in ranker and "\nA recommender and ranker of kind" in joint
    assert "never recommended" in joint and "recommended" not in ranker
    assert "artifact.recommend(history" in joint and "artifact.rank(history" in joint


@pytest.mark.parametrize(
    ("asking", "sentence"),
    [
        ({"candidates": "12"}, r"candidates '12'; expected a list of item ids"),
        ({"candidates": [1, [2]]}, "1 lists of candidates beside item ids for 1 histories"),
        ({"candidates": [[1], [2]]}, "2 lists of candidates for 1 histories"),
        ({"candidates": ["1"]}, "'1' of type str"),
        ({"by": "like"}, "by = 'like'; expected what this artifact predicts"),
        ({"by": {}}, "by = {}"),
        ({"by": {"click": "much"}}, "by = {'click': 'much'}"),
        ({"by": ["click"]}, r"by = \['click'\]"),
        ({"context": {"click": 1}}, "'click' among the context of a request; .* has: tab"),
        ({"context": {"tab": [1]}}, r"\[1\] for 'tab', which is categorical; expected a text"),
        ({"context": [{}, {}]}, "for 1 histories"),
        ({"history": History([1], [T0], {"clik": [1]})}, "'clik' among the fields of a history"),
        ({"history": History([1], [T0], {"click": [1, 0]})}, "1 items and 2 values of 'click'"),
        ({"history": History([1], [T0], {"click": [2]})}, "2 for 'click', which is binary"),
        ({"history": History([1], [T0], {"stars": ["good"]})}, "'good' for 'stars', which is ordinal"),
        ({"history": History([1], [T0], user={"town": "Ulm"})}, "'town' among the facts of a user"),
        ({"history": History([1], [T0], user={"before": "12"})}, "'12'; expected a list of item ids"),
        ({"history": History([1], [T0], series=[(T0, "town", "Ulm")])}, "'town' among the changing facts of a user"),
        ({"history": History([1], [T0], series=[(T0, "plan", 1.5j)])}, "'plan', which is categorical"),
        ({"history": History([1], [T0], series=[("plan", "plan 1")])}, r"\('plan', 'plan 1'\) in the series"),
        ({"at": None, "history": History([1], [T0])}, "reads time"),
    ],
)
def test_what_cannot_be_ranked_is_a_sentence(log: Dataset, asking: dict[str, object], sentence: str) -> None:
    with pytest.raises((DataError, ConfigError), match=sentence):
        artifact(log).rank(**{"history": [], "candidates": [1], "at": T0 + 1, **asking})  # type: ignore[arg-type]


def test_an_artifact_without_feedback_ranks_no_candidates(log: Dataset) -> None:
    engine = artifact(log)
    config = {"kind": "popularity"}
    popular = replace(engine, model=saved_model.parse(config).build(Catalogue.of(log)))
    with pytest.raises(ConfigError, match="scores no feedback"):
        popular.rank([1], [2])


def test_raw_values_and_stored_ones_have_the_same_codes(log: Dataset) -> None:
    frame = {field.name: field for field in log.manifest.fields}
    for name, field in frame.items():
        stored = log.fields[name]
        there = raw_values(field, stored)
        assert None in there
        found = raw_codes(field, there)
        assert np.array_equal(found, codes(field, stored)) and 0 in found
    assert raw_codes(frame["seconds"], [0.0, 0.1, 0.7, 3.0, np.inf, np.float32(0.7)]).tolist() == [1, 2, 3, 4, 0, 3]
    assert raw_codes(frame["stars"], [1, 2.5, 3, 4, 9]).tolist() == [1, 2, 0, 3, 0]
    assert raw_codes(frame["click"], [True, 0, None]).tolist() == [2, 1, 0]
    numbered = Field(name="tab", kind="categorical", dtype="int8", categories=("1", "10", "true"))
    assert raw_codes(numbered, [1, 1.0, "10", True, None, "2", float("nan")]).tolist() == [1, 1, 2, 3, 0, 0, 0]
    assert from_text(numbered, "1") == "1" and from_text(frame["click"], "1") == 1.0
    with pytest.raises(DataError, match="'yes' for 'click', which is binary; expected 0, 1 or nothing"):
        from_text(frame["click"], "yes")
