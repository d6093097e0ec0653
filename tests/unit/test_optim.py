"""Learning rates worked by hand, groups, and sums over micro-steps."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from facta.errors import ConfigError
from facta.training.optim import OptimiserConfig, adamw, learning_rate
from facta.training.step import NonFinite, take_step
from facta.types import LossSum, Negatives, SequenceBatch
from tests.toy_training import ToyBatches, ToyModel

BATCHES = ToyBatches(count=4, size=6)


def test_warm_up_is_linear_and_then_constant() -> None:
    config = OptimiserConfig(learning_rate=0.4, warmup_steps=4)
    assert [learning_rate(config, step, 0.0) for step in range(6)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_cosine_falls_from_the_full_rate_over_half_to_nothing() -> None:
    config = OptimiserConfig(learning_rate=0.4, schedule="cosine")
    assert [learning_rate(config, 0, done) for done in (0.0, 0.5, 1.0)] == pytest.approx([0.4, 0.2, 0.0])


def test_weight_decay_falls_on_the_named_group_alone() -> None:
    model = ToyModel()
    optimiser = adamw(model.parameter_groups(), OptimiserConfig(learning_rate=0.1, weight_decay={"head": 0.5}))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    assert torch.equal(model.table, before["table"])
    assert torch.allclose(model.out, before["out"] * (1 - 0.1 * 0.5))


def test_an_unknown_group_is_named_beside_the_valid_ones() -> None:
    with pytest.raises(ConfigError, match=r"'backbon'.*table, backbone, head"):
        adamw(ToyModel().parameter_groups(), OptimiserConfig(weight_decay={"backbon": 0.1}))


def joined(batches: list[SequenceBatch]) -> SequenceBatch:
    """The batches as one; the toy reads nothing but items, keys and weights."""
    whole = ToyBatches(count=1, size=len(batches) * BATCHES.size).batch(0, 0)
    assert torch.equal(whole.events.item, torch.cat([batch.events.item for batch in batches]))
    return whole


@pytest.mark.parametrize("objectives", [1, 2])
def test_micro_steps_add_up_to_the_numbers_of_one_big_batch(objectives: int) -> None:
    small = [BATCHES.batch(0, place) for place in range(4)]
    small[1].targets.weight[:7] = 0.0  # unequal weights: a mean of means would differ
    big = joined(small)
    big.targets.weight[:] = torch.cat([batch.targets.weight for batch in small])

    def run(batches: list[SequenceBatch]) -> tuple[ToyModel, float]:
        model = ToyModel(objectives, torch.float64)
        optimiser = adamw(model.parameter_groups(), OptimiserConfig())
        step = take_step(model, optimiser, ((batch, Negatives()) for batch in batches), len(batches), clip_norm=1e-2)
        return model, step.loss

    (many, loss_of_many), (one, loss_of_one) = run(small), run([big])
    assert loss_of_many == pytest.approx(loss_of_one, rel=1e-12)
    for name, parameter in one.named_parameters():
        other = many.get_parameter(name)
        assert parameter.grad is not None and other.grad is not None and parameter.grad.abs().max() > 0
        assert torch.allclose(parameter.grad, other.grad, rtol=0, atol=1e-12)
        assert torch.allclose(parameter, other, rtol=0, atol=1e-12)


class Counting(ToyModel):
    """Backward passes are counted where the gradient leaves the first layer."""

    passes = 0

    def forward(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, LossSum]:
        losses = super().forward(batch, negatives)
        total = sum(loss.total for loss in losses.values())
        assert isinstance(total, Tensor)
        shared = self.table.sum() * 0  # one node that all losses go through
        shared.register_hook(self._count)
        return {name: LossSum(loss.total + shared, loss.weight) for name, loss in losses.items()}

    def _count(self, _: Tensor) -> None:
        self.passes += 1


def batches_of_unequal_weight(count: int) -> list[tuple[SequenceBatch, Negatives]]:
    small = [BATCHES.batch(0, place) for place in range(count)]
    small[1].targets.weight[:7] = 0.0
    return [(batch, Negatives()) for batch in small]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("objectives", [1, 2])
def test_one_backward_pass_of_a_micro_step_serves_all_objectives(objectives: int, count: int) -> None:
    model = Counting(objectives)
    optimiser = adamw(model.parameter_groups(), OptimiserConfig())
    take_step(model, optimiser, batches_of_unequal_weight(3)[:count], count, clip_norm=None)
    assert model.passes == count


def slow_gradients(model: ToyModel, micro_steps: list[tuple[SequenceBatch, Negatives]]) -> list[Tensor]:
    """A backward pass for each objective of each micro-step; each objective is divided by its weight at the end."""
    parameters, collected, weights = list(model.parameters()), {}, {}  # type: ignore[var-annotated]
    for one in micro_steps:
        for name, loss in model(*one).items():
            new = torch.autograd.grad(loss.total, parameters, retain_graph=True, allow_unused=True)
            old = collected.setdefault(name, [None] * len(parameters))
            collected[name] = [b if a is None else a if b is None else a + b for a, b in zip(old, new, strict=True)]
            weights[name] = weights.get(name, 0.0) + loss.weight.item()
    shares = [[None if g is None else g / weights[name] for g in each] for name, each in collected.items()]
    return [sum(g for g in of if g is not None) for of in zip(*shares, strict=True)]  # type: ignore[misc]


@pytest.mark.parametrize("objectives", [1, 2])
def test_it_leaves_the_gradients_of_a_pass_for_each_objective(objectives: int) -> None:
    """One objective: the same bits. Two: to rounding."""
    model, micro_steps = ToyModel(objectives), batches_of_unequal_weight(4)
    optimiser = adamw(model.parameter_groups(), OptimiserConfig(learning_rate=1e-30))
    expected = slow_gradients(model, micro_steps)
    take_step(model, optimiser, micro_steps, 4, clip_norm=None)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        assert parameter.grad is not None
        if objectives == 1:
            assert torch.equal(parameter.grad, gradient)
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-8)


def test_weights_of_losses_that_were_not_told_are_a_mistake_of_the_model() -> None:
    class Silent(ToyModel):
        def loss_weights(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, Tensor]:
            return {"next_item": batch.targets.weight.sum()}

    model = Silent(2)
    with pytest.raises(AssertionError, match=r"weights of .* were told"):
        take_step(
            model, adamw(model.parameter_groups(), OptimiserConfig()), batches_of_unequal_weight(2), 2, clip_norm=None
        )


def test_clipping_scales_the_gradient_to_the_given_length_and_reports_the_one_before() -> None:
    model = ToyModel()
    optimiser = adamw(model.parameter_groups(), OptimiserConfig())
    step = take_step(model, optimiser, iter([(BATCHES.batch(0, 0), Negatives())]), 1, clip_norm=0.01)
    length = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
    assert step.gradient_norm > 0.1
    assert length == pytest.approx(0.01, rel=1e-4)


class Exploding(ToyModel):
    """A finite loss whose gradient is not."""

    def forward(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, LossSum]:
        return {"next_item": LossSum((self.table * 0).abs().sqrt().sum(), torch.ones(()))}


@pytest.mark.parametrize("model", [Exploding(), ToyModel()])
def test_a_bad_step_leaves_weights_and_optimiser_untouched(model: ToyModel) -> None:
    optimiser = adamw(model.parameter_groups(), OptimiserConfig())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = BATCHES.batch(0, 0)
    batch.targets.weight[0] = torch.inf

    def micro_steps() -> Iterator[tuple[SequenceBatch, Negatives]]:
        yield BATCHES.batch(0, 1), Negatives()
        yield batch, Negatives()

    with pytest.raises(NonFinite) as caught:
        take_step(model, optimiser, micro_steps(), 2, clip_norm=None)
    assert caught.value.place == (None if isinstance(model, Exploding) else 1)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not optimiser.state


def test_a_batch_without_anything_to_learn_moves_nothing() -> None:
    class Empty(ToyModel):
        def forward(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, LossSum]:
            return {"next_item": LossSum(torch.zeros(()), torch.zeros(()))}

    model = Empty()
    step = take_step(
        model,
        adamw(model.parameter_groups(), OptimiserConfig()),
        [(BATCHES.batch(0, 0), Negatives())],
        1,
        clip_norm=1.0,
    )
    assert (step.loss, step.gradient_norm) == (0.0, 0.0)
    assert torch.equal(model.table, ToyModel().table)
