"""A model, batches and validation small enough to train in milliseconds, for the tests of the trainer.

As a script it trains into a folder, so that a test can kill it: `python toy_training.py OUT [SECONDS_PER_BATCH]`.
"""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor, nn

from facta import draws, jagged
from facta.data.batches.negatives import NegativesConfig
from facta.training.log import Log
from facta.training.trainer import Trainer, TrainingConfig
from facta.types import Events, LossSum, Negatives, SequenceBatch, Targets

ITEMS, WIDTH, SEED = 13, 8, 5


def seeded(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


class ToyModel(nn.Module):
    """The next item from the last one: two tables, keyed dropout, one vector under two names."""

    negatives = NegativesConfig(count=3)

    def __init__(self, objectives: int = 1, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.table = nn.Parameter(seeded(ITEMS, WIDTH, seed=1).to(dtype))
        self.out = nn.Parameter(seeded(ITEMS, WIDTH, seed=2).to(dtype))
        self.bias = nn.Parameter(torch.zeros(ITEMS, dtype=dtype))
        self.tied = self.bias
        self.register_buffer("scale", torch.ones((), dtype=dtype))
        self.objectives = objectives

    def forward(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, LossSum]:
        assert self.training and torch.is_grad_enabled()
        x = self.table[batch.events.item]  # a gather whose gradient adds up rows: the order of the sum matters
        x = draws.dropout(x, 0.2, batch.events.key, 1)
        each = nn.functional.cross_entropy(self.logits(x), batch.targets.events.item, reduction="none")
        losses = {"next_item": LossSum((each * batch.targets.weight).sum(), batch.targets.weight.sum())}
        if self.objectives == 2:
            even = (batch.targets.events.item % 2 == 0).to(x.dtype)
            losses["even"] = LossSum((x.square().mean(1) * even).sum(), even.sum())
        return losses

    def loss_weights(self, batch: SequenceBatch, negatives: Negatives) -> dict[str, Tensor]:
        even = (batch.targets.events.item % 2 == 0).to(self.table.dtype)
        weights = {"next_item": batch.targets.weight.sum(), "even": even.sum()}
        return dict(list(weights.items())[: self.objectives])

    def logits(self, x: Tensor) -> Tensor:
        return self.scale * x @ self.out.T + self.bias

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        return {"table": [self.table], "backbone": [], "head": [self.out, self.bias]}


class ToyBatches:
    """Each user walks the ring of items by steps of one; `size` users in each of `count` batches."""

    def __init__(self, count: int = 6, size: int = 8, length: int = 5, pause: float = 0.0) -> None:
        self.count, self.size, self.length, self.pause = count, size, length, pause
        self.poisoned: tuple[int, int] | None = None

    def steps(self, epoch: int) -> int:
        return self.count

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        time.sleep(self.pause)
        users = torch.arange(step * self.size, (step + 1) * self.size)
        start = draws.below(draws.mix(users, draws.mix_int(SEED, epoch)), ITEMS)
        offsets = torch.arange(self.size + 1) * self.length
        place = jagged.places(offsets)
        item = (torch.repeat_interleave(start, self.length) + place) % ITEMS
        key = draws.mix(torch.repeat_interleave(draws.mix(users, epoch), self.length), place)
        time_ms = place * 3_600_000
        weight = torch.ones(item.numel())
        if self.poisoned == (epoch, step):
            weight[0] = torch.nan
        return SequenceBatch(
            offsets,
            Events(item, time_ms, key),
            place,
            time_ms + 3_600_000,
            Targets(offsets, Events((item + 1) % ITEMS, time_ms, key), place + 1, place + 1, weight),
        )


class Accuracy:
    """Validation: the share of items whose successor is ranked first."""

    def __init__(self, model: ToyModel) -> None:
        self.model, self.calls = model, 0

    def __call__(self, _: int) -> dict[str, float]:
        assert not self.model.training and not torch.is_grad_enabled()
        self.calls += 1
        logits = self.model.logits(self.model.table)
        wanted = (torch.arange(ITEMS) + 1) % ITEMS
        better = (logits > logits.gather(1, wanted[:, None])).sum(1)
        return {"HR@1": float((better == 0).double().mean()), "MRR": float((1 / (1.0 + better)).mean())}


def toy_config(**changes: object) -> TrainingConfig:
    plain = {"epochs": 4, "learning_rate": 0.01, "metric": "MRR"}
    return TrainingConfig.parse({**plain, "checkpoint_every": 4, **changes})


def toy_trainer(out: Path, config: TrainingConfig | None = None, **changes: object) -> Trainer:
    """Everything of the toy, one part or another replaced."""
    model = changes.pop("model", None) or ToyModel()
    parts = {"batches": ToyBatches(), "validate": Accuracy(model), "log": Log("quiet"), **changes}  # type: ignore[arg-type]
    return Trainer(model, config=config or toy_config(), out=out, counts=torch.ones(ITEMS), **parts)  # type: ignore[arg-type]


def script_run(out: Path, pause: float = 0.0) -> None:
    """What tests kill: 36 steps, a checkpoint every 4 and after each epoch of 6."""
    toy_trainer(out, toy_config(epochs=6), batches=ToyBatches(pause=pause), log=Log("plain")).fit()


if __name__ == "__main__":
    script_run(Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 0.0)
