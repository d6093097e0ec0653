"""The deep rankers: slow twins of their parts, who may see what, and a world that only a history tells about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from facta import api, jagged
from facta.config import Config
from facta.data.batches.rows import Rows, one_row_per_target
from facta.data.batches.training import TrainingBatches, prediction_batches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.statistics import Statistics
from facta.errors import ConfigError
from facta.eval.protocol import ProtocolConfig
from facta.infer.artifact import Artifact
from facta.infer.history import History
from facta.infer.history_of import history_of
from facta.layers.crosses import Crosses, Experts
from facta.layers.recent import AGES, Recent, in_force, recent
from facta.layers.target_attention import TargetAttention
from facta.models import dlrm
from facta.models.dlrm import DLRM, DLRMConfig
from facta.models.history import BSTConfig
from facta.models.rates import RateRegression, RatesConfig
from facta.models.sim import SIMConfig
from facta.models.transact import TransActConfig
from facta.models.twin import TWINConfig
from facta.objectives.feedback import Feedback, FeedbackConfig
from facta.ops import backend
from facta.recipes.recipe import RecipeConfig
from facta.testing.batches import catalogue
from facta.training.log import Log
from facta.training.trainer import TrainingConfig
from facta.types import Events, Lists, Negatives, SequenceBatch
from tests import worlds

PROTOCOL = ProtocolConfig(split="temporal", train_end="60%", validation_end="80%")
SMALL = DLRMConfig(
    window=8, width=8, code_width=4, rank=6, experts=3, expert_width=8, feedback=FeedbackConfig(hidden=8)
)
SIM = SIMConfig(by="kind", long=8, found=3, score_width=4, age_width=4, hidden=8)
CONFIGS: dict[str, Config] = {
    "din": SMALL,
    "gr": SMALL.change(features="gr"),
    "no-history": SMALL.change(features="no-history"),
    "bst": SMALL.change(history=BSTConfig(layers=2, heads=2)),
    "sim": SMALL.change(window=3, history=SIM),
    "sim-soft": SMALL.change(window=3, history=SIM.change(search="soft")),
    "twin": SMALL.change(window=3, history=TWINConfig(long=8, found=4, heads=2)),
    "transact": SMALL.change(window=3, history=TransActConfig(actions=8, action_width=4, hidden=8, newest=2)),
    "rates": RatesConfig(window=8),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The colours, with facts of items and users, earlier histories, and facts that change at some of the events."""
    items = pl.DataFrame({"item_id": range(12), "kind": [f"k{i % 2}" for i in range(12)], "tags": ["a|b", "c", ""] * 4})
    users = pl.DataFrame(
        {"user_id": range(150), "land": ["x", "y", "z"] * 50, "before": [[u % 5, 3] for u in range(150)]}
    )
    log = worlds.colours()
    moments = log.sample(900, seed=2).with_columns(timestamp=pl.col("timestamp") - pl.Series([0, 1, 500] * 300))
    rng = np.random.default_rng(4)
    series = moments.select("user_id", "timestamp").with_columns(
        field=pl.Series(rng.choice(["mood", "plan"], 900)), value=pl.Series(rng.choice(["p", "q", "r"], 900))
    )
    return prepare(
        log, tmp_path_factory.mktemp("data") / "colours", items=items, users=users,
        series=series.unique(["user_id", "timestamp", "field"], maintain_order=True),
        series_fields={"mood": "categorical", "plan": "categorical"},
        fields={"click": {"kind": "binary"}, "tab": {"role": "context", "kind": "categorical"}},
        item_fields={"kind": "categorical", "tags": "multi"}, user_fields={"land": "categorical", "before": "items"},
    )  # fmt: skip


def made(name: str, world: Dataset) -> DLRM | RateRegression:
    model = CONFIGS[name].build(Catalogue.of(world), seed=1)  # type: ignore[arg-type]
    assert isinstance(model, (DLRM, RateRegression))
    model.fit_statistics(Statistics(world, PROTOCOL.cut(world)))
    torch.manual_seed(0)
    for parameter in model.parameters():  # as if it were trained: nothing is zero
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model.eval()


def batch_of(world: Dataset, model: DLRM | RateRegression, rows: Rows) -> SequenceBatch:
    return next(iter(prediction_batches(world, rows, window=model.window, spec=model.inputs)))[1]


def rows_of(world: Dataset, model: DLRM | RateRegression, users: list[int], first: int = 0) -> Rows:
    """All events of users from a place on, one row each, as long as it takes."""
    length = np.diff(world.offsets)[users]
    return Rows(np.array(users), np.zeros_like(length), length, np.full_like(length, first), length)


# --- parts


def test_ids_are_hidden_where_features_show_the_item_and_weights_are_of_their_own_fields() -> None:
    feedback = FeedbackConfig(fields=("click", "rating"), weights={"rating": 3.0})
    for described in (False, True):
        known = catalogue(users=False, series=False, described=described)
        model = DLRM(SMALL.change(feedback=feedback, hidden_ids=0.4), known)
        assert getattr(model.item, "hidden", None) == (0.4 if described else None)
        assert [head.weights for head in model.heads] == [{}, {"rating": 3.0}]


def test_a_head_is_made_for_each_field_and_none_to_be_thrown_away(
    world: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[Feedback] = []

    class Noted(Feedback):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            heads.append(self)

    monkeypatch.setattr(dlrm, "Feedback", Noted)
    model = SMALL.build(Catalogue.of(world))
    assert isinstance(model, DLRM) and list(model.heads) == heads


def test_target_attention_is_the_sum_over_a_loop() -> None:
    torch.manual_seed(0)
    width, hidden, events, targets = 4, 5, 7, 3
    unit = TargetAttention(width, hidden, std=0.5)
    unit.of_age.data.normal_()
    h, t = torch.randn(events, width), torch.randn(targets, width)
    seen = [[0, 1, 2], [], [6, 2, 4, 5]]
    pairs = Recent(
        torch.tensor([event for one in seen for event in one]),
        torch.tensor([s for s, one in enumerate(seen) for _ in one]),
        jagged.offsets_of(torch.tensor([len(one) for one in seen])),
    )
    age = torch.randint(0, AGES, (7,))
    found = unit(h, t, pairs, age, age)
    difference = torch.randn(hidden, width)  # as the paper writes it: h - t has weights of its own
    matrix = torch.cat(
        [unit.of_source.weight - difference, unit.of_target.weight + difference, difference, unit.of_product.weight], 1
    )
    place = 0
    for s, one in enumerate(seen):
        expected = torch.zeros(width)
        for event in one:
            x = torch.cat([h[event], t[s], h[event] - t[s], h[event] * t[s]])
            inner = F.silu(matrix @ x + unit.of_source.bias + unit.of_age[age[place]])
            weight = torch.sigmoid(unit.weigh(inner))
            expected = expected + weight * (h[event] + unit.age[age[place]])
            place += 1
        torch.testing.assert_close(found[s], expected)


@pytest.mark.parametrize("rank", [None, 2])
def test_crosses_by_their_formula(rank: int | None) -> None:
    torch.manual_seed(0)
    crosses, x0 = Crosses(4, layers=2, rank=rank), torch.randn(3, 4)
    x = x0
    for layer in crosses.layers:
        w = layer.weight if rank is None else layer[1].weight @ layer[0].weight  # type: ignore[index, union-attr]
        b = layer.bias if rank is None else layer[1].bias  # type: ignore[index, union-attr]
        x = torch.stack([x0[i] * (w @ x[i] + b) + x[i] for i in range(3)])  # type: ignore[operator]
    torch.testing.assert_close(crosses(x0), x)


def test_experts_by_their_formula() -> None:
    torch.manual_seed(0)
    experts, x = Experts(4, experts=3, out=5, tasks=2), torch.randn(6, 4)
    found = experts(x)
    assert found.shape == (2, 6, 5)
    gates = zip(experts.gates.weight.split(3), experts.gates.bias.split(3), strict=True)
    said = [
        F.silu(F.linear(x, weight, bias))
        for weight, bias in zip(experts.experts.weight.split(5), experts.experts.bias.split(5), strict=True)
    ]
    for task, (weight, bias) in enumerate(gates):
        gate = torch.softmax(F.linear(x, weight, bias), dim=1)
        torch.testing.assert_close(found[task], sum(gate[:, e, None] * said[e] for e in range(3)))


@pytest.mark.parametrize("most", [1, 3, 4, 1000])
def test_pieces_are_whole_targets_and_all_of_them(most: int) -> None:
    lengths = torch.tensor([0, 3, 0, 0, 5, 1, 2, 0])
    offsets = jagged.offsets_of(lengths)
    pairs = Recent(torch.arange(11), jagged.rows(offsets), offsets)
    parts = list(pairs.pieces(most))
    assert torch.cat([part.source for part in parts]).tolist() == list(range(11))
    assert torch.cat([jagged.lengths(part.offsets) for part in parts]).tolist() == lengths.tolist()
    assert all(part.target.tolist() == jagged.rows(part.offsets).tolist() for part in parts)
    assert all(len(part.source) < most + 5 for part in parts)  # a mark may fall into the longest target


def test_a_target_looks_back_at_its_lists_and_the_newest_events_before_it(world: Dataset) -> None:
    model = made("din", world)
    batch = batch_of(world, model, rows_of(world, model, [4, 9]))
    pairs = recent(batch, 3, lists=1)
    events, target = len(batch.events.item), 24 + 5  # the second row's sixth event
    own = pairs.source[pairs.target == target].tolist()
    assert own == [events + 2, events + 3, 24 + 2, 24 + 3, 24 + 4]
    assert pairs.source[pairs.target == 24].tolist() == [events + 2, events + 3]
    short = recent(batch, 1, lists=1)
    assert short.source[short.target == target].tolist() == [events + 3, 24 + 4]
    three = replace(batch, lists=Lists(torch.tensor([0, 2, 7]), torch.tensor([0, 2, 0, 0, 1, 1, 1]), torch.arange(7)))
    pairs = recent(three, 2, lists=3)
    assert pairs.source[pairs.target == 1].tolist() == [events, events + 1, 0]
    assert pairs.source[pairs.target == 24].tolist() == [events + 2, events + 3, events + 5, events + 6]


def test_what_a_history_is_read_by_costs_nothing_where_none_is_read(world: Dataset) -> None:
    none, bst = CONFIGS["no-history"], CONFIGS["bst"]
    kinds = (none, none.change(history=BSTConfig(layers=2, heads=2)), bst)
    plain, unread, read = (DLRM(DLRMConfig.parse(one.model_dump()), Catalogue.of(world)).cost(50) for one in kinds)
    assert plain == unread and plain.flops_per_token < read.flops_per_token


# --- who sees what


@pytest.mark.parametrize("name", CONFIGS)
def test_a_score_changes_with_what_came_before_and_with_nothing_else(world: Dataset, name: str) -> None:
    model, place = made(name, world), 10
    batch = batch_of(world, model, rows_of(world, model, [7]))
    before = model.scores(batch)["click"]
    for field in ("click", "tab"):
        moved = model.scores(_changed(batch, place, field))["click"]
        unchanged = torch.isclose(before, moved, atol=1e-6)
        first = place + (field == "click")  # its own feedback is told to those behind it alone
        assert unchanged[:first].all()
        if name != "no-history":
            assert not unchanged[first : first + 5].all()
        assert unchanged[place + model.window // 2 + 1 :].all()
    later = model.scores(_changed(batch, place, "item"))["click"]
    assert torch.isclose(before, later, atol=1e-6)[:place].all() and not torch.isclose(before[place], later[place])


def _changed(batch: SequenceBatch, place: int, field: str) -> SequenceBatch:
    """The event at a place of the only row is another one, as input and as target."""

    def other(events: Events) -> Events:
        at = torch.zeros(len(events.item), dtype=torch.bool)
        at[place] = True
        if field == "item":
            return replace(events, item=torch.where(at, (events.item + 1) % 12, events.item))
        column = events.fields[field]
        return replace(events, fields={**events.fields, field: torch.where(at, 3 - column, column)})

    targets = replace(batch.targets, events=other(batch.targets.events))
    return replace(batch, events=other(batch.events), targets=targets)


def test_facts_in_force_equal_a_slow_twin(world: Dataset) -> None:
    model = made("din", world)
    names = [one.name for one in world.manifest.series_fields]
    stored, users = world.series, list(range(0, 150, 7))
    assert stored is not None and names == ["mood", "plan"] and world.timestamp is not None
    batch = batch_of(world, model, rows_of(world, model, users))
    found, expected = in_force(batch, names), {name: [] for name in names}  # type: ignore[var-annotated]
    for user in users:
        changes = range(int(stored.offsets[user]), int(stored.offsets[user + 1]))
        for time in world.timestamp[world.offsets[user] : world.offsets[user + 1]]:
            for number, name in enumerate(names):
                own = [one for one in changes if stored.field[one] == number and stored.time[one] < time]
                expected[name].append(int(stored.value[own[-1]]) if own else 0)
    assert {name: codes.tolist() for name, codes in found.items()} == expected
    assert all(len(set(codes)) == 4 for codes in expected.values())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_change_is_told_to_later_targets_alone(world: Dataset, name: str) -> None:
    model = made(name, world)
    batch = batch_of(world, model, rows_of(world, model, [7, 9]))
    assert batch.series is not None and batch.series.time is not None and batch.targets.events.time is not None
    at = int((batch.series.after > 15).nonzero()[0])
    value = batch.series.value.clone()
    value[at] = value[at] % 3 + 1
    other = replace(batch, series=replace(batch.series, value=value))
    before, moved = (model.scores(one)["click"] for one in (batch, other))
    row = jagged.rows(batch.targets.offsets)
    told = (row == int(jagged.rows(batch.series.offsets)[at])) & (batch.targets.events.time > batch.series.time[at])
    unchanged = torch.isclose(before, moved, atol=1e-6)
    assert unchanged[~told].all() and not unchanged[told].all()


@pytest.mark.parametrize("name", CONFIGS)
def test_targets_aside_in_line_and_in_rows_of_their_own_score_alike(world: Dataset, name: str) -> None:
    model = made(name, world)
    together = batch_of(world, model, rows_of(world, model, [3, 5, 8]))
    scores = model.scores(together)["click"]
    aside = replace(
        together, targets=replace(together.targets, input_index=torch.full_like(together.targets.input_index, -1))
    )
    torch.testing.assert_close(model.scores(aside)["click"], scores)
    for place, user in enumerate([3, 5, 8]):
        alone = batch_of(world, model, rows_of(world, model, [user]))
        torch.testing.assert_close(model.scores(alone)["click"], scores[24 * place : 24 * place + 24])
    user = np.array([8])
    each = one_row_per_target(user, np.array([0]), np.array([24]), model.window)
    found = torch.empty(24)
    for rows, batch in prediction_batches(world, each, window=model.window, spec=model.inputs, events=40):
        found[torch.from_numpy(rows)] = model.scores(batch)["click"].detach()
    torch.testing.assert_close(found, scores[48:].detach())


@pytest.mark.parametrize("name", CONFIGS)
def test_the_loss_of_a_batch_is_the_sum_of_its_rows(world: Dataset, name: str) -> None:
    """While training: the draws of dropout and of hidden ids are the rows' own."""
    model = made(name, world).train()

    def batches(size: int) -> TrainingBatches:
        return TrainingBatches(world, PROTOCOL.cut(world), window=model.window, batch_size=size, spec=model.inputs)

    whole, alone = model(batches(1000).batch(0, 0), Negatives())["click"], batches(1)
    parts = [model(alone.batch(0, step), Negatives())["click"] for step in range(alone.steps(0))]
    torch.testing.assert_close(torch.stack([part.total for part in parts]).sum(), whole.total)
    assert sum(float(part.weight) for part in parts) == float(whole.weight) == alone.events


NAMES = ["forward", "type", "a.b"]  # torch gives no part of a module such a name


@pytest.mark.parametrize("name", ["din", "rates"])
def test_columns_may_have_any_name(tmp_path: Path, name: str) -> None:
    log = worlds.colours(users=10).rename({"click": NAMES[0]}).with_columns(pl.col("tab").alias(n) for n in NAMES[1:])
    features = {f"{kind}.{n}": kind for n in NAMES for kind in ("categorical", "multi")}
    items = pl.DataFrame({"item_id": range(12)} | {n: [f"k{i % 2}" for i in range(12)] for n in features})
    fields = {n: {"role": "context", "kind": "categorical"} if n == "type" else {"kind": "binary"} for n in NAMES}
    data = prepare(log, tmp_path / "d", items=items, fields=fields, item_fields=features)
    model = made(name, data)
    found = model.scores(batch_of(data, model, rows_of(data, model, [3])))
    assert list(found) == model.predicted == model.successes and set(found) == {"forward", "a.b"}


# --- the whole


def recipe(config: Config, epochs: int, rate: float) -> RecipeConfig:
    training = TrainingConfig(
        epochs=epochs, batch_size=10, learning_rate=rate, schedule="cosine", metric="NE(click)", patience=None
    )
    return RecipeConfig(name="test/x", model=config, training=training, protocol=PROTOCOL)  # type: ignore[arg-type]


def trained(config: Config, world: Dataset, out: Path, epochs: int = 20, rate: float = 2e-2) -> Artifact:
    return api.train(world, recipe(config, epochs, rate), out, log=Log("quiet"))


# Without counts a rate of .02 leaves some seeds at the base rate; which ones depends on the processor.
@pytest.mark.parametrize(
    ("name", "epochs", "rate"),
    [
        *(("din", 20, 2e-2), ("gr", 40, 5e-3), ("bst", 20, 2e-2), ("rates", 20, 2e-2)),
        *(("sim", 20, 2e-2), ("sim-soft", 40, 5e-3), ("twin", 20, 2e-2), ("transact", 40, 5e-3)),
    ],
)
def test_a_history_tells_what_is_clicked(world: Dataset, tmp_path: Path, name: str, epochs: int, rate: float) -> None:
    artifact = trained(CONFIGS[name], world, tmp_path / "artifact", epochs, rate)
    found = api.predict(artifact, world)
    assert found.means["NE(click)"] < 0.75 and found.means["GAUC(click)"] > 0.8  # the best: .469 and .9
    again = api.predict(Artifact.load(tmp_path / "artifact"), world)
    assert np.array_equal(again.p["click"], found.p["click"])
    assert artifact.model.tasks == ("feedback",)
    with pytest.raises(ConfigError, match="predicts feedback alone"):
        artifact.recommend(History([3, 4], ["2020-01-01", "2020-01-02"]), 2, at="2020-01-03")


@pytest.mark.parametrize("name", CONFIGS)
def test_candidates_score_as_events_do(world: Dataset, name: str) -> None:
    model, user = made(name, world), 11
    seen = batch_of(world, model, rows_of(world, model, [user]))
    expected = model.scores(seen)["click"][-1].detach()
    schema = world.manifest.model_dump(mode="json")
    protocol = {"protocol": PROTOCOL.model_dump(mode="json")}
    items = world.items.with_columns(training_events=pl.lit(1))
    artifact = Artifact(config=protocol, schema=schema, catalogue=items, model=model)
    at, place = int(world.timestamp[world.offsets[user + 1] - 1]), int(world.offsets[user + 1]) - 1  # type: ignore[index]
    tab = int(world.fields["tab"][place])
    found = artifact.rank(
        history_of(world, user, until=at - 1), [0, int(world.item[place])], at=at, context={"tab": tab}, by="click"
    )
    best = found.ids[0].index(int(world.item[place]))
    assert found.scores["click"][0][best] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_training_again_gives_the_same_bits(world: Dataset, tmp_path: Path, name: str) -> None:
    first = trained(CONFIGS[name], world, tmp_path / "first", 1)
    torch.rand(3)  # whatever was drawn before
    assert trained(CONFIGS[name], world, tmp_path / "again", 1).fingerprint == first.fingerprint


def test_without_a_history_nothing_is_told(world: Dataset, tmp_path: Path) -> None:
    artifact = trained(CONFIGS["no-history"], world, tmp_path / "artifact")
    assert api.predict(artifact, world).means["NE(click)"] > 0.95


# --- what they cost


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The colours alone."""
    fields = {"click": {"kind": "binary"}, "tab": {"role": "context", "kind": "categorical"}}
    return prepare(worlds.colours(), tmp_path_factory.mktemp("data") / "plain", fields=fields)


@pytest.fixture(scope="module")
def alike(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The colours, all items of one kind."""
    fields = {"click": {"kind": "binary"}, "tab": {"role": "context", "kind": "categorical"}}
    items = pl.DataFrame({"item_id": range(12), "kind": ["k"] * 12})
    out = tmp_path_factory.mktemp("data") / "alike"
    return prepare(worlds.colours(), out, items=items, fields=fields, item_fields={"kind": "categorical"})


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "rates"])
@pytest.mark.parametrize("length", [0, 5, 8])
def test_operations_are_those_that_torch_counts(name: str, length: int, plain: Dataset, alike: Dataset) -> None:
    config, plain = CONFIGS[name], alike if name == "sim" else plain
    if name == "bst":  # with dropout both of attention's products are written out for the counter
        config = SMALL.change(history=BSTConfig(layers=2, heads=2, hidden=12, attention_dropout=0.5))
    if name == "transact":  # it would see less in training
        config = SMALL.change(history=CONFIGS[name].history.change(hidden_hours=0.0))  # type: ignore[attr-defined]
    model = config.build(Catalogue.of(plain), seed=1)  # type: ignore[arg-type]
    assert isinstance(model, DLRM)
    model.fit_statistics(Statistics(plain, PROTOCOL.cut(plain)))
    user, end = np.array([3]), np.array([length])
    batch = batch_of(plain, model, Rows(user, np.zeros_like(user), end, end, end + 1))
    assert batch.targets.num_visible.tolist() == [length]
    with FlopCounterMode(display=False) as counter, backend.use(backend.REFERENCE), torch.no_grad():
        model.train()(batch, None)
    assert model.cost(length).flops_per_token == counter.get_total_flops()


def test_operations_of_rates_by_hand(plain: Dataset) -> None:
    """Keys: item, tab. For each a rate and a count; of the person the same and both over all: 2 · 2 + 2 · 3 numbers."""
    model = made("rates", plain)
    assert model.cost(5).flops_per_token == 2 * 10 + 5 * 2 * 2 * 2  # a product and a sum; two sums a key and event
    assert model.cost(100).flops_per_token == 2 * 10 + 8 * 2 * 2 * 2
