"""Row-sparse gradients of the item table, and the optimisers that move rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from facta import draws
from facta.data.batches.negatives import NegativesConfig, draw
from facta.data.dataset.catalogue import Catalogue
from facta.errors import ConfigError
from facta.layers.embedding import EmbeddingConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.losses import BCEConfig, LossConfig, SampledSoftmaxConfig, SoftmaxConfig
from facta.objectives.next_item import NextItemConfig
from facta.ops import backend
from facta.similarity.inner import InnerProductConfig
from facta.training.checkpoint import optimiser_tensors
from facta.training.optim import OptimiserConfig, adamw
from facta.training.step import take_step
from facta.types import Negatives, SequenceBatch
from tests.toy_training import ToyBatches, ToyModel, toy_config, toy_trainer
from tests.worlds import batch_of

V = 5000
LOSSES: dict[str, LossConfig] = {
    "in-batch": SampledSoftmaxConfig(negatives=NegativesConfig(kind="in-batch")),
    "mixed": SampledSoftmaxConfig(negatives=NegativesConfig(kind="mixed", count=9, correction="negatives")),
    "uniform": SampledSoftmaxConfig(negatives=NegativesConfig(count=7)),
    "bce": BCEConfig(),
}


def model_of(loss: LossConfig, *, cosine: bool = True, table_dropout: float = 0.0) -> Recommender:
    similarity = InnerProductConfig() if cosine else InnerProductConfig(kind="dot", temperature=1.0)
    config = RecommenderConfig(
        window=6,
        width=8,
        embedding=EmbeddingConfig(table_dropout=table_dropout),
        next_item=NextItemConfig(similarity=similarity, loss=loss),
    )
    return Recommender(config, Catalogue(V))


def drawn(model: Recommender, seed: int = 0) -> tuple[SequenceBatch, Negatives]:
    items = draws.below(draws.mix(torch.arange(20), seed), V).view(4, 5).tolist()
    batch = batch_of(items, [[0, 10, 200, 3000, 40_000]] * 4)
    given = draw(model.negatives, batch, torch.ones(V), seed) if model.negatives is not None else Negatives()
    return batch, given


PER_TARGET = ("uniform", "bce")  # row-sparse in the compiled kernels, and where the whole table is not dropped out


@pytest.mark.parametrize("table_dropout", [0.0, 0.2])
@pytest.mark.parametrize("cosine", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_few_rows_leave_a_row_sparse_gradient_that_is_the_dense_one(
    name: str, cosine: bool, table_dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_of(LOSSES[name], cosine=cosine, table_dropout=table_dropout)
    table = model.embedder.item.weight

    def gradient() -> Tensor:
        loss = model(*drawn(model))["next_item"]
        return torch.autograd.grad(loss.total, table)[0]

    found = gradient()
    assert found.is_sparse != (name in PER_TARGET and (table_dropout > 0 or backend.current() == backend.REFERENCE))
    if found.is_sparse:
        assert found.coalesce().values().numel() < table.numel() / 10
    monkeypatch.setattr("facta.layers.tables.SPARSE_ROW_FACTOR", V)  # no rows are few
    monkeypatch.setattr("facta.ops.loss.SPARSE_ROW_FACTOR", V)
    dense = gradient()
    assert not dense.is_sparse
    torch.testing.assert_close(found.to_dense(), dense, rtol=1e-5, atol=1e-7)


def test_the_full_softmax_is_dense() -> None:
    model = model_of(SoftmaxConfig())
    loss = model(*drawn(model))["next_item"]
    assert not torch.autograd.grad(loss.total, model.embedder.item.weight)[0].is_sparse


@pytest.mark.parametrize("clip", [None, 1e-3])
@pytest.mark.parametrize("kind", ["adam", "lazy-adam", "row-wise-adam"])
@pytest.mark.parametrize("micro_steps", [1, 3])
def test_it_makes_no_difference_how_a_gradient_is_stored(
    kind: str, clip: float | None, micro_steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = OptimiserConfig(table=kind, weight_decay={"table": 0.1})  # type: ignore[arg-type]

    def trained() -> Recommender:
        model = model_of(LOSSES["mixed"])
        optimiser = adamw(model.parameter_groups(), config)
        for step in range(3):
            parts = [drawn(model, seed=10 * step + place) for place in range(micro_steps)]
            take_step(model, optimiser, parts, micro_steps, clip_norm=clip)
        return model

    sparse = trained().embedder.item.weight
    monkeypatch.setattr("facta.layers.tables.SPARSE_ROW_FACTOR", V)
    torch.testing.assert_close(sparse, trained().embedder.item.weight, rtol=1e-5, atol=1e-6)


def slow(kind: str, table: Tensor, gradients: list[Tensor], config: OptimiserConfig) -> Tensor:
    """The definition, one number after the other."""
    (b1, b2), lr, rate = config.betas, config.learning_rate, 1 - config.learning_rate * config.weight_decay["table"]
    out, first, second = table.clone(), torch.zeros_like(table), torch.zeros_like(table)
    for count, gradient in enumerate(gradients, 1):
        for row in range(len(table)):
            if not gradient[row].any():
                continue
            square = gradient[row] ** 2
            if kind == "row-wise-adam":
                square = square.mean().expand_as(square)
            first[row] = b1 * first[row] + (1 - b1) * gradient[row]
            second[row] = b2 * second[row] + (1 - b2) * square
            spread = (second[row] / (1 - b2**count)).sqrt() + config.epsilon
            out[row] = out[row] * rate - lr * first[row] / (1 - b1**count) / spread
    return out


@pytest.mark.parametrize("kind", ["lazy-adam", "row-wise-adam"])
def test_rows_move_as_defined_and_others_stay(kind: str) -> None:
    config = OptimiserConfig(table=kind, learning_rate=0.05, weight_decay={"table": 0.3})  # type: ignore[arg-type]
    random = torch.Generator().manual_seed(0)
    start = torch.randn(6, 4, dtype=torch.float64, generator=random)
    table = torch.nn.Parameter(start.clone())
    optimiser = adamw({"table": [table]}, config)
    gradients = []
    for step in range(4):
        gradient = torch.randn(6, 4, dtype=torch.float64, generator=random)
        gradient[[0, 1 + step]] = 0  # row 0 never has one
        gradients.append(gradient)
        table.grad = gradient.to_sparse(1) if step % 2 else gradient.clone()
        optimiser.step()
    assert torch.equal(table[0], start[0])
    torch.testing.assert_close(table.detach(), slow(kind, start, gradients, config))


def test_row_wise_adam_keeps_one_second_moment_a_row() -> None:
    def size(kind: str) -> Mapping[str, Any]:
        model = ToyModel()
        optimiser = adamw(model.parameter_groups(), OptimiserConfig(table=kind))  # type: ignore[arg-type]
        take_step(model, optimiser, [(ToyBatches().batch(0, 0), Negatives())], 1, clip_norm=None)
        return {name: tuple(x.shape) for name, x in optimiser_tensors(optimiser, model).items()}

    assert size("row-wise-adam")["exp_avg_sq.table"] == (13,)
    assert size("lazy-adam")["exp_avg_sq.table"] == size("adam")["exp_avg_sq.table"] == (13, 8)


def test_a_model_without_a_table_cannot_move_it_by_rows() -> None:
    head = torch.nn.Parameter(torch.ones(2))
    with pytest.raises(ConfigError, match="for a model without a table; set it to adam"):
        adamw({"head": [head]}, OptimiserConfig(table="lazy-adam"))


class Torn(ToyBatches):
    """Breaks down between two checkpoints."""

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        if (epoch, step) == (1, 1):
            raise RuntimeError("the power is gone")
        return super().batch(epoch, step)


@pytest.mark.parametrize("kind", ["lazy-adam", "row-wise-adam"])
def test_a_run_that_breaks_down_and_goes_on_ends_in_the_same_bits(kind: str, tmp_path: Path) -> None:
    def run(out: str, batches: ToyBatches) -> ToyModel:
        model = ToyModel()
        toy_trainer(tmp_path / out, toy_config(table=kind), model=model, batches=batches).fit()
        return model

    whole = run("whole", ToyBatches())
    with pytest.raises(RuntimeError, match="the power is gone"):
        run("torn", Torn())
    again = run("torn", ToyBatches())
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))
