"""Faults that would train without a word: each test fails with the fault that it names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import facta
from facta import jagged, ops
from facta.data.batches.negatives import NegativesConfig, draw
from facta.data.batches.spec import InputSpec
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.schema import Field
from facta.data.split.splits import leave_one_out, training_events
from facta.encoders.hstu import HSTUConfig
from facta.encoders.transformer import SASRecBlock, Transformer, TransformerConfig, rotate
from facta.eval.fitting import Fitting
from facta.layers.embedding import EmbeddingConfig
from facta.layers.rates import SmoothedRates
from facta.models.rates import RateRegression, RatesConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.items import Items
from facta.objectives.losses import (
    BCEConfig,
    Contrast,
    GBCEConfig,
    SampledSoftmaxConfig,
    generalised_bce,
    sampled_softmax,
)
from facta.objectives.next_item import NextItem, NextItemConfig
from facta.objectives.readout import ReadOut
from facta.recipes import fit
from facta.training.log import Log
from facta.training.step import take_step
from facta.types import Events, Lists, LossSum, Negatives, SequenceBatch, Targets, TokenBatch
from tests import worlds
from tests.toy_training import ToyBatches, toy_config, toy_trainer

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
ITEMS = 12


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> facta.Dataset:
    return facta.prepare(worlds.checkerboard(), tmp_path_factory.mktemp("data") / "log")


def events(items: list[int], minutes: list[int], **fields: list[int]) -> Events:
    time = torch.tensor(minutes, dtype=torch.int64) * MINUTE
    columns = {name: torch.tensor(codes) for name, codes in fields.items()}
    return Events(torch.tensor(items), time, torch.arange(len(items)) + 100, columns)


def one_row(items: list[int], minutes: list[int], *, after: list[int]) -> SequenceBatch:
    """One history; a target for each of `after`, which sees so many of its events."""
    given = events(items, minutes)
    asked = events([items[place] if place < len(items) else 0 for place in after], [minutes[-1]] * len(after))
    targets = Targets(
        torch.tensor([0, len(after)]), asked, torch.tensor(after), torch.full((len(after),), -1), torch.ones(len(after))
    )
    return SequenceBatch(torch.tensor([0, len(items)]), given, torch.arange(len(items)), given.time, targets, key=7)


def tokens_of(length: int) -> TokenBatch:
    place = torch.arange(length)
    return TokenBatch(
        torch.tensor([0, length]), place * 0, place, place * MINUTE, place * MINUTE, place, place, place + 50, {}
    )


def seeded(config: RecommenderConfig, seed: int = 3) -> Recommender:
    return Recommender(config, Catalogue(ITEMS), seed)


# Steps, seeds and draws


class Plain(nn.Module):
    """Loss 3·w₀ + 4·w₁: its gradient has the length 5."""

    negatives = None

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))

    def forward(self, batch: SequenceBatch, negatives: Negatives | None) -> dict[str, LossSum]:
        return {"loss": LossSum((self.weight * torch.tensor([3.0, 4.0])).sum(), torch.ones(()))}


def test_a_step_moves_by_the_clipped_gradient() -> None:
    """Fault: the gradient is clipped after the step."""
    model: Any = Plain()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    batch = ToyBatches().batch(0, 0)
    step = take_step(model, optimiser, [(batch, Negatives())], 1, clip_norm=1.0)
    assert model.weight.tolist() == pytest.approx([-0.6, -0.8]) and step.gradient_norm == pytest.approx(5)


def test_every_seed_begins_with_weights_of_its_own(log: facta.Dataset) -> None:
    """Fault: all seeds begin with the same weights."""
    recipe = facta.find_recipe("debug/hstu")
    models = [fit._untrained(recipe.override({"training.seed": seed}), log) for seed in (0, 1, 0)]
    states = [torch.cat([value.flatten().float() for value in model.state_dict().values()]) for model in models]
    assert torch.equal(states[0], states[2]) and not torch.equal(states[0], states[1])


def test_every_seed_and_every_epoch_has_batches_and_draws_of_its_own(log: facta.Dataset) -> None:
    """Faults: all seeds see the same batches and draws; every epoch has the batches of the first, in the same order."""

    def seen(seed: int, epoch: int) -> tuple[list[list[int]], list[int], list[int]]:
        recipe = facta.find_recipe("debug/hstu", {"training.seed": seed, "training.batch_size": 16})
        assert recipe.training is not None
        fitting = Fitting(log, recipe.protocol, leave_one_out(log))
        made: Any = fit._batches(recipe.training, seeded(recipe.model), fitting)  # type: ignore[arg-type]
        batches = [made.batch(epoch, step) for step in range(made.steps(epoch))]
        first = [batch.events.item[batch.offsets[:-1]].tolist() for batch in batches]
        users = [batch.targets.events.time[:3].tolist() for batch in batches]
        keys = [key for batch in batches for key in batch.events.key.tolist()]  # of everybody: batches hold others
        return first + users, keys, [batch.key for batch in batches]

    one, other, later, again = seen(0, 0), seen(1, 0), seen(0, 1), seen(0, 0)
    assert one == again
    for different in (other, later):
        assert all(a != b for a, b in zip(one, different, strict=True))
        assert not set(one[1]) & set(different[1]) and not set(one[2]) & set(different[2])


def test_every_seed_draws_negatives_of_its_own(tmp_path: Path) -> None:
    """Fault: the negatives that a step shares are the same for all seeds, epochs or steps."""
    from tests.toy_training import ToyModel

    model: Any = ToyModel()
    model.negatives = NegativesConfig(kind="mixed", count=40)
    drawn = []
    for seed, epoch, step in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)):
        trainer = toy_trainer(tmp_path / f"{seed}", toy_config(seed=seed), model=model)
        shared = trainer._build(epoch, step)[1].shared
        assert shared is not None
        drawn.append(tuple(shared[-40:].tolist()))
    assert len(set(drawn)) == 4


def test_a_target_draws_other_negatives_than_the_event_before_it(log: facta.Dataset) -> None:
    """Fault: targets share the draws of the event before them, so that dropout and negatives are no longer apart."""
    for spec in (InputSpec(), InputSpec(targets_are_inputs=True)):
        batch = TrainingBatches(log, leave_one_out(log), window=50, batch_size=40, spec=spec).batch(0, 0)
        assert not set(batch.targets.events.key.tolist()) & set(batch.events.key.tolist())
        assert len(set(batch.targets.events.key.tolist())) == len(batch.targets.events.key)


def test_the_table_drops_other_entries_in_every_step() -> None:
    """Fault: table dropout drops the same entries in every step."""
    model = seeded(RecommenderConfig(width=16, embedding=EmbeddingConfig(table_dropout=0.5))).train()
    tables = [model.embedder.item.dropped(key) == 0 for key in (1, 2, 1)]
    assert torch.equal(tables[0], tables[2]) and not torch.equal(tables[0], tables[1])
    batch = one_row([1, 2, 3], [0, 1, 2], after=[3])
    model.embedder.dropout.p = 0.0  # type: ignore[union-attr]
    tokens = model.layout.tokens(batch, ("item",))
    x = [model.embedder.tokens(replace(batch, key=key), tokens) for key in (1, 2, 1)]
    assert torch.equal(x[0], x[2]) and not torch.equal(x[0], x[1])


@pytest.mark.parametrize("backend", [ops.backend.available()[0], ops.backend.REFERENCE])
def test_every_layer_of_hstu_drops_channels_of_its_own(backend: str) -> None:
    """Fault: every HSTU layer drops the same channels. Two layers with the same weights see the same input."""
    model = seeded(RecommenderConfig(width=32, encoder=HSTUConfig(layers=2, dropout=0.5))).train()
    first, second = model.encoder.layers  # type: ignore[union-attr,misc]
    second.load_state_dict(first.state_dict())
    x, tokens = torch.randn(6, 32, generator=torch.Generator().manual_seed(1)), tokens_of(6)
    with ops.backend.use(backend):
        outputs = [layer(x, tokens, ops.Geometry(tokens)) for layer in (first, second, first)]
        assert torch.equal(outputs[0], outputs[2])
        assert not torch.allclose(outputs[0], outputs[1])


# Losses


@pytest.mark.parametrize(
    "loss",
    [
        SampledSoftmaxConfig(negatives=NegativesConfig(count=7)),
        BCEConfig(negatives=NegativesConfig(count=7)),
        GBCEConfig(negatives=NegativesConfig(count=7), calibration=0.75),
        GBCEConfig(negatives=NegativesConfig(count=7), calibration=0.2),
    ],
    ids=lambda loss: f"{loss.kind}-{getattr(loss, 'calibration', '')}",
)
def test_the_compiled_loss_is_the_one_of_the_recipe(loss: Any) -> None:
    """Faults: the compiled path trains a sampled softmax where the recipe says gBCE, or ignores its calibration."""
    rng = torch.Generator().manual_seed(2)
    states, table = torch.randn(5, 8, generator=rng), torch.randn(ITEMS, 8, generator=rng)
    head = NextItem(NextItemConfig(loss=loss), 8)
    asked, weight = events([1, 2, 3, 4, 5], [0] * 5), torch.tensor([1.0, 0.5, 2.0, 1.0, 0.0])
    read = ReadOut(states, asked, weight)
    found = []
    for backend in (ops.backend.available()[0], ops.backend.REFERENCE):
        with ops.backend.use(backend):
            found.append(head.losses(read, Items.of(table), Negatives(each=7))["next_item"].total.item())
    queries, items = head.similarity.queries(states), head.similarity.items(table)
    given: Any = queries, Items.of(items), asked.item, weight, Negatives(each=7), asked.key
    if isinstance(loss, SampledSoftmaxConfig):
        expected = sampled_softmax(Contrast(*given)).total.item()
    else:
        expected = generalised_bce(Contrast(*given), calibration=getattr(loss, "calibration", 0.0)).total.item()
    assert found == pytest.approx([expected] * 2, rel=1e-4)


def test_log_q_is_of_the_targets_that_have_a_state() -> None:
    """Fault: logQ of the wrong positives where a target has no state to read (its history is empty)."""
    negatives = NegativesConfig(kind="in-batch", correction="all")
    config = RecommenderConfig(width=8, next_item=NextItemConfig(loss=SampledSoftmaxConfig(negatives=negatives)))
    model = seeded(config).eval()
    counts = torch.tensor([50.0, 1, 9, 30, 4, 2, 7, 1, 1, 1, 1, 1])
    with_empty, without = (one_row([1, 3, 4], [0, 5, 9], after=after) for after in ([0, 1, 2], [1, 2]))
    drawn = draw(negatives, with_empty, counts, 0)
    assert drawn.log_q_positive is not None
    same = Negatives(drawn.shared, drawn.log_q, drawn.log_q_positive[1:])
    for part in (with_empty, without):
        assert part.targets.events.item.tolist()[-2:] == [3, 4]
    one, other = (model(*given)["next_item"] for given in ((with_empty, drawn), (without, same)))
    torch.testing.assert_close(one.total, other.total)
    assert one.weight == other.weight == 2


def test_negatives_and_log_q_are_counted_on_training_events(
    log: facta.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fault: logQ counts of the whole log, held-out events included."""
    given: dict[str, Tensor] = {}

    class Stopped(Exception):
        pass

    def trainer(*_: Any, counts: Tensor, **__: Any) -> None:
        given["counts"] = counts
        raise Stopped

    monkeypatch.setattr(fit, "Trainer", trainer)
    split = leave_one_out(log)
    with pytest.raises(Stopped):
        fit.train_model(
            facta.find_recipe("debug/hstu"), Fitting(log, facta.ProtocolConfig(), split), tmp_path / "run", Log("quiet")
        )
    expected = np.bincount(log.item[training_events(log, split)], minlength=log.num_items)
    assert given["counts"].tolist() == expected.tolist()
    assert given["counts"].sum() < log.num_events


# Encoders and embeddings


def test_the_sasrec_block_is_the_authors() -> None:
    """Fault: another residual. The authors' code adds attention to the normalised input, and the feed-forward part to
    what that was normalised to."""
    torch.manual_seed(0)
    block, x, tokens = SASRecBlock(TransformerConfig(), 8, 1).eval(), torch.randn(5, 8), tokens_of(5)
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=0.5)
    part = block.attention
    q, (k, v) = part.q(block.norm_attention(x)), part.kv(x).chunk(2, dim=1)
    logits = (q @ k.T / 8**0.5).masked_fill(torch.ones(5, 5).triu(1) > 0, -torch.inf)
    y = block.norm_feed(block.norm_attention(x) + part.out(torch.softmax(logits, dim=1) @ v))
    expected = y + block.outer(torch.relu(block.inner(y)))
    torch.testing.assert_close(block(x, tokens, ops.Geometry(tokens)), expected, atol=1e-5, rtol=1e-4)


def test_rotary_positions_turn_queries_and_keys() -> None:
    """Fault: queries are not turned. Then a shift of all positions would change the states."""
    torch.manual_seed(0)
    model, x = Transformer(TransformerConfig(preset="modern", layers=1), 8).eval(), torch.randn(6, 8)
    tokens = tokens_of(6)
    shifted = replace(tokens, position=tokens.position + 17)
    stretched = replace(tokens, position=tokens.position * 3)
    torch.testing.assert_close(model(x, tokens), model(x, shifted), atol=1e-5, rtol=1e-4)
    assert not torch.allclose(model(x, tokens), model(x, stretched), atol=1e-3)
    q, k = torch.randn(1, 1, 8), torch.randn(1, 1, 8)
    product = [(rotate(q, torch.tensor([a])) * rotate(k, torch.tensor([b]))).sum() for a, b in ((2, 5), (12, 15))]
    torch.testing.assert_close(*product)


def test_gaps_are_square_roots_of_minutes() -> None:
    """Fault: gaps in hours."""
    model = seeded(RecommenderConfig(width=4, embedding=EmbeddingConfig(gaps=True, positions="none"))).eval()
    minutes = [0, 1, 5, 105, 10_105]
    batch = one_row([1] * 5, minutes, after=[5])
    tokens = model.layout.tokens(batch, ("item",))
    assert model.embedder.gap is not None
    x = model.embedder.tokens(batch, tokens)
    added = x - model.embedder.gap(torch.tensor([0, 1, 2, 10, 100]))
    torch.testing.assert_close(added, added[:1].expand_as(added), atol=1e-6, rtol=0)


# Rates and the logistic regression

STARS = Field(name="stars", kind="ordinal", dtype="int8", levels=(1.0, 2.0, 3.0, 4.0, 5.0), positive=(4, 5))


def test_every_code_of_success_counts() -> None:
    """Fault: rates count the highest code alone as success, or an undefined value as failure."""
    rates = SmoothedRates(Catalogue(3, fields=(STARS,)), [STARS], 1.0, history=False)
    label = rates.labels(events([0] * 6, [0] * 6, stars=[0, 1, 3, 4, 5, 5]))
    assert label[:, 0].tolist() == [[0, 0], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1]]


@pytest.mark.parametrize("midnight", [0, 16, 5])
def test_days_begin_at_the_hour_given(midnight: int) -> None:
    """Fault: days begin at the wrong hour."""
    rates = SmoothedRates(Catalogue(3, fields=(STARS,)), [STARS], 1.0, history=False, midnight=midnight)
    start = 10 * DAY + midnight * HOUR
    minutes = [(start + shift) // MINUTE for shift in (-MINUTE, 0, DAY - MINUTE, DAY)]
    assert rates.periods.dates(events([0] * 4, minutes)).tolist() == [9, 10, 10, 11]


def test_the_logistic_regression_learns_nothing_of_undefined_feedback() -> None:
    """Fault: undefined feedback is learned as failure."""
    model = RateRegression(RatesConfig(history=False), Catalogue(3, fields=(STARS,)))
    batch = one_row([0, 1, 2], [0, 1, 2], after=[0, 1, 2])
    asked = events([0, 1, 2], [0, 1, 2], stars=[5, 0, 1])
    batch = replace(batch, targets=replace(batch.targets, events=asked, weight=torch.tensor([1.0, 1.0, 3.0])))
    nn.init.constant_(model.linear.bias, 1.5)
    total, weight = model(batch, None)["stars"]
    success, failure = np.log1p(np.exp(-1.5)), np.log1p(np.exp(1.5))
    assert weight == 4 and total.item() == pytest.approx(success + 3 * failure)


def test_the_logistic_regression_counts_lists_by_user_and_list() -> None:
    """Fault: the counts of lists are transposed. Two users with two lists each, of 1, 2, 3 and 4 items."""
    users = tuple(Field(name=name, role="user", kind="items", dtype="list") for name in ("old", "new"))
    model = RateRegression(RatesConfig(history=False), Catalogue(3, fields=(STARS,), users=users))
    lengths, which = [1 + 2, 3 + 4], [0, 1, 1, 0, 0, 0, 1, 1, 1, 1]
    lists = Lists(jagged.offsets_of(torch.tensor(lengths)), torch.tensor(which), torch.zeros(10, dtype=torch.int64))
    one = one_row([0, 1], [0, 1], after=[1, 1])
    targets = replace(one.targets, offsets=torch.tensor([0, 1, 2]))
    batch = replace(one, offsets=torch.tensor([0, 1, 2]), targets=targets, lists=lists)
    found = model._listed(batch, torch.tensor([0, 1]))[0]
    torch.testing.assert_close(found, torch.log1p(torch.tensor([[1.0, 2.0], [3.0, 4.0]])) / 5)
