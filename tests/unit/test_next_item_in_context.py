"""The next item given the context of its event: in training, evaluation and requests, on a world where it decides."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

import facta
from facta.cli import app
from facta.data.batches.dataset_requests import request_batch, told
from facta.data.batches.spec import InputSpec
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.codes import codes
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import leave_one_out, leave_one_out_test, temporal_test
from facta.errors import ConfigError, DataError
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.objectives.next_item import NextItemConfig
from facta.testing.batches import batch, catalogue
from facta.testing.case import rows
from facta.training.log import Log
from facta.types import Negatives
from tests import worlds

CONTEXT = {"model.next_item.late": ["context"]}
SETTINGS = {
    "protocol.mask": "nothing",
    "training.epochs": 25,
    "model.window": 6,
    "training.patience": None,
    "training.alarm_after": None,
}
SURFACES = 6


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    frame = worlds.surfaces(surfaces=SURFACES)
    return facta.prepare(frame, tmp_path_factory.mktemp("log") / "d", fields={"surface": "context"})


def trained(log: Dataset, out: Path, **settings: object) -> facta.Artifact:
    return facta.train(log, "debug/hstu", out, {**SETTINGS, **settings}, log=Log("quiet"))


@pytest.fixture(scope="module")
def fused(log: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fused") / "a"
    trained(log, out, **{"model.layout": "fused", **CONTEXT})
    return out


def first(artifact: facta.Artifact, log: Dataset) -> float:
    return facta.evaluate(artifact, log, ks=(1,)).means["HR@1"]


def test_the_context_decides_and_without_it_there_is_a_chance_of_one_in_six(
    log: Dataset, fused: Path, tmp_path: Path
) -> None:
    assert first(facta.load(fused), log) >= 0.95
    without = trained(log, tmp_path / "without", **{"model.layout": "fused"})
    assert first(without, log) <= 1.8 / SURFACES


def test_a_layout_whose_tokens_show_no_context_is_given_it_too(log: Dataset, tmp_path: Path) -> None:
    assert first(trained(log, tmp_path / "item", **CONTEXT), log) >= 0.95


def test_a_request_says_its_context(log: Dataset, fused: Path) -> None:
    artifact = facta.load(fused)
    history = facta.histories_of(log, [4, 5])
    at = worlds_end(log)
    for surface in range(SURFACES):
        said = artifact.recommend(history, 1, at=at, context={"surface": f"s{surface}"}, exclude="nothing")
        assert said.ids == [[2 * surface], [2 * surface + 1]]
    each = artifact.recommend(history, 1, at=at, context=[{"surface": "s3"}, {"surface": "s0"}], exclude="nothing")
    assert each.ids == [[6], [1]]
    unsaid = artifact.recommend(history, SURFACES, at=at, exclude="nothing")  # hidden now and then: it was learned
    assert [set(ids) for ids in unsaid.ids] == [{2 * n for n in range(SURFACES)}, {2 * n + 1 for n in range(SURFACES)}]
    assert unsaid.ids == artifact.recommend(history, SURFACES, at=at, context=[{}, {}], exclude="nothing").ids


def worlds_end(log: Dataset) -> int:
    assert log.timestamp is not None
    return int(log.timestamp.max()) + worlds.DAY


def test_evaluation_is_what_recommend_answers_in_the_context_of_the_held_out_event(log: Dataset, fused: Path) -> None:
    artifact, found = facta.load(fused), facta.evaluate(fused, log, ks=(5,))
    assert found.told == ("surface",) and found.summary()["told"] == ["surface"]
    assert log.timestamp is not None
    for user in range(0, log.num_users, 7):
        whole = facta.history_of(log, user)
        past = facta.History(whole.items[:-1], whole.times[:-1], {"surface": whole.fields["surface"][:-1]})  # type: ignore[index]
        context = {"surface": whole.fields["surface"][-1]}
        answer = artifact.recommend(past, 5, at=whole.times[-1], context=context, exclude="nothing")  # type: ignore[index]
        assert answer.ids[0] == log.items["item_id"].gather(found.lists[user]).to_list()


def test_a_saved_result_says_what_requests_were_told(log: Dataset, fused: Path, tmp_path: Path) -> None:
    found = facta.evaluate(fused, log, ks=(5,))
    found.save(tmp_path / "r.json")
    assert facta.Result.load(tmp_path / "r.json").told == ("surface",)


def test_lists_of_many_users_in_a_context_are_those_of_one_at_a_time(log: Dataset, fused: Path, tmp_path: Path) -> None:
    artifact, at, context = facta.load(fused), worlds_end(log), {"surface": "s2"}
    found = artifact.recommend_users(log, 3, users=[1, 2], at=at, context=context, exclude="nothing")
    one = [
        artifact.recommend(facta.history_of(log, user), 3, at=at, context=context, exclude="nothing").ids[0]
        for user in (1, 2)
    ]
    assert found["item_id"].to_list() == [*one[0], *one[1]] and one[0][0] == 5 and one[1][0] == 4
    other = {"surface": "s1"}
    out = tmp_path / "lists.parquet"
    for said in (context, other):  # a file of another context is another file
        artifact.recommend_users(log, 1, users=[1], at=at, context=said, exclude="nothing", out=out, overwrite=True)
    assert pl.read_parquet(out)["item_id"].to_list() == [3]


def test_the_command_says_the_context(log: Dataset, fused: Path) -> None:
    common = ["recommend", str(fused), "--user", "3", "--data", str(log.path), "--at", "2030-01-01", "-k", "1"]
    found = CliRunner().invoke(app, [*common, "--context", "surface=s4", "--exclude", "nothing", "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["items"][0]["id"] == 9 and said["context"] == {"surface": "s4"}


def test_context_is_refused_where_it_makes_no_difference_and_unknown_fields_always(
    log: Dataset, fused: Path, tmp_path: Path
) -> None:
    plain = trained(log, tmp_path / "plain", **{"training.epochs": 1})
    with pytest.raises(ConfigError, match=r"the same items in every context.*model\.next_item\.late"):
        plain.recommend([1, 3], 1, at=worlds_end(log), context={"surface": "s1"})
    with pytest.raises(DataError, match="tab"):
        facta.load(fused).recommend(facta.history_of(log, 3), 1, at=worlds_end(log), context={"tab": "s1"})


def test_the_card_and_the_config_say_it(fused: Path) -> None:
    artifact = facta.load(fused)
    text = (fused / "README.md").read_text()
    assert "recommend(history, k=10, at='2030-01-01T12:00', context={'surface': ...})" in text
    assert artifact.config["model"]["next_item"]["late"] == ["context"]


def test_requests_say_the_context_of_the_event_that_is_asked_for(log: Dataset) -> None:
    """Blind ties move the end of what is visible, and not the event."""
    spec, stored = InputSpec(("surface",), told=("surface",)), log.manifest.fields[0]
    rolling = temporal_test(log, test_from=worlds.DAY * 5 + 1_600_000_000_000, state="rolling")
    for requests in (leave_one_out_test(log), leave_one_out_test(log, ties="blind"), rolling):
        assert requests.place is not None
        event = log.offsets[requests.user] + requests.place
        assert np.array_equal(log.item[event], requests.item)
        expected = codes(stored, log.fields["surface"][event])
        assert np.array_equal(told(log, requests, spec)["surface"], expected)
        made = request_batch(log, requests, np.array([2, 0]), 5, spec, context=told(log, requests, spec))
        assert made.targets.events.fields["surface"].tolist() == expected[[2, 0]].tolist()
    frozen = temporal_test(log, test_from=worlds.DAY * 5 + 1_600_000_000_000)
    assert frozen.place is None and told(log, frozen, spec) == {}
    sample = leave_one_out(log).validation.sample(5)
    assert sample.place is not None and np.array_equal(log.item[log.offsets[sample.user] + sample.place], sample.item)


def made(**changes: object) -> Recommender:
    config = RecommenderConfig.parse(
        {"window": 10, "width": 8, "layout": "fused", "next_item": {"late": ["context"]}, **changes}
    )
    return Recommender(config, catalogue(users=False, series=False, described=False), 3)


def test_in_training_a_share_of_the_targets_hides_its_context_by_key() -> None:
    model = made(next_item={"late": ["context"], "hidden_context": 0.4})
    assert model.next_item is not None
    given = batch(rows(3, 200, length=None), users=False, series=False)
    context = given.targets.events.fields["surface"]
    assert torch.equal(model.eval().next_item.late_source(given).targets.events.fields["surface"], context)  # type: ignore[union-attr]
    said = model.train().next_item.late_source(given).targets.events.fields["surface"]  # type: ignore[union-attr]
    hidden = (said == 0) & (context > 0)
    assert 0.35 < float(hidden.sum() / (context > 0).sum()) < 0.45 and torch.equal(said[~hidden], context[~hidden])
    half = batch(rows(3, 200, length=None)[100:], users=False, series=False)
    again = model.next_item.late_source(half).targets.events.fields["surface"]
    assert torch.equal(again, said[-len(again) :])  # a draw belongs to its target, not to a place in the batch


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"next_item": {"late": ["item"]}}, r"next_item\.late item; expected facts .* have not seen: context"),
        ({"next_item": {"late": ["feedback"]}}, r"next_item\.late feedback"),
        (
            {"layout": "item", "embedding": {"calendar": True}, "next_item": {}},
            "Found embedding.calendar, which is context",
        ),
    ],
)
def test_what_cannot_be_given_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(**changes)


def test_a_dataset_without_context_is_refused_and_the_calendar_is_context() -> None:
    config = RecommenderConfig.parse({"width": 8, "next_item": {"late": ["context"]}})
    with pytest.raises(ConfigError, match="for a dataset without context fields"):
        Recommender(config, Catalogue(5))
    Recommender(config.change(embedding={"calendar": True}), Catalogue(5))


def test_weights_between_objectives_multiply_the_losses() -> None:
    given = batch(rows(4, 3), users=False, series=False)

    def losses(**weights: float) -> dict[str, float]:
        next_item = {"late": [], "weight": weights.get("next_item", 1.0)}
        model = made(next_item=next_item, feedback={"weight": weights.get("feedback", 1.0), "weights": {"click": 0.5}})
        return {name: loss.mean().item() for name, loss in model.train()(given, Negatives(each=3)).items()}

    plain, other = losses(), losses(next_item=2.0, feedback=4.0)
    assert plain.keys() == {"next_item", "click", "rating", "watched"}
    for name, value in plain.items():
        assert other[name] == pytest.approx(value * (2 if name == "next_item" else 4), rel=1e-6)
    assert NextItemConfig().weight == FeedbackConfig().weight == 1.0


def test_a_field_called_next_item_does_not_take_the_place_of_that_loss(tmp_path: Path) -> None:
    frame = worlds.colours(users=20, length=8).rename({"click": "next_item"})
    log = facta.prepare(frame, tmp_path / "d", fields={"next_item": {}, "tab": "context"})
    model = Recommender(
        RecommenderConfig(window=6, width=8, layout="interleaved", feedback=FeedbackConfig()), Catalogue.of(log)
    )
    batch = TrainingBatches(log, leave_one_out(log), window=6, batch_size=8, spec=model.inputs).batch(0, 0)
    found = model.train()(batch, Negatives(each=3))
    assert [*found] == ["next_item", "feedback.next_item"] == [*model.loss_weights(batch, None)]
    alone = Recommender(RecommenderConfig(window=6, width=8, layout="interleaved"), Catalogue.of(log))
    assert [*alone.train()(batch, Negatives(each=3))] == ["next_item"]
