"""The measurement of the synthetic streaming task: its batches, its hit rates, and a run that is not done twice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from benchmarks.quality import synthetic
from torch import Tensor

from facta.data.synthetic.dirichlet import DirichletConfig, DirichletWorld
from facta.types import SequenceBatch

WORLD = DirichletWorld(DirichletConfig(items=400, categories=8, records=2000, length=16))


def test_a_record_is_a_row_with_a_target_behind_every_event() -> None:
    batches = synthetic.StreamBatches(WORLD, 70, 32)
    assert batches.steps(0) == 3
    for step, rows in enumerate((32, 32, 6)):
        batch, item = batches.batch(0, step), WORLD.records(32 * step, 32 * step + rows).item
        assert batch.offsets.tolist() == [15 * row for row in range(rows + 1)]
        assert batch.events.item.tolist() == item[:, :-1].ravel().tolist()
        assert batch.targets.events.item.tolist() == item[:, 1:].ravel().tolist()
        assert batch.targets.input_index[:15].tolist() == [*range(1, 15), -1]
    keys = torch.cat([side.key for step in range(3) for batch in [batches.batch(0, step)]
                      for side in (batch.events, batch.targets.events)])  # fmt: skip
    assert keys.unique().numel() == keys.numel()


class Counting:
    """A model that knows all categories, and counts: scores are counts over sizes, and a little to break ties."""

    def __init__(self, world: DirichletWorld) -> None:
        self.kind = torch.nn.functional.one_hot(torch.from_numpy(world.category)).double()

    def eval(self) -> None: ...

    def item_vectors(self) -> Tensor:
        little = torch.rand(len(self.kind), 1, generator=torch.Generator().manual_seed(0)) * 3e-5
        return torch.cat([(self.kind / self.kind.sum(0)).float(), little], dim=1)

    def queries(self, batch: SequenceBatch) -> Tensor:
        rows = self.kind[batch.events.item].view(len(batch.offsets) - 1, -1, self.kind.shape[1])
        counts = rows.cumsum(1).flatten(0, 1).float()
        return torch.cat([counts, torch.ones(len(counts), 1)], dim=1)


def test_a_model_that_counts_reaches_what_counting_can() -> None:
    world = DirichletWorld(DirichletConfig(items=800, categories=8, records=2000, length=16, released=1))
    hits = synthetic.measure(Counting(world), world, 1000, 2000)  # type: ignore[arg-type]
    for k in synthetic.KS:
        assert hits.expected[k].mean() == pytest.approx(hits.counting[k].mean(), rel=0.005)  # ties of categories aside
        assert hits.fraction(k) == pytest.approx(hits.expected[k].mean() / hits.oracle[k].mean())
        luck = (hits.found[k] - hits.expected[k]).std() / len(hits.found[k]) ** 0.5
        assert hits.found[k].mean() == pytest.approx(hits.expected[k].mean(), abs=5 * luck)
        assert 0 < hits.error(k) < 0.01


def test_a_finished_run_is_not_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = synthetic.run("hstu", 1e-3, WORLD, 1000, tmp_path)
    assert "Trained" in capsys.readouterr().err
    again = synthetic.run("hstu", 1e-3, WORLD, 1000, tmp_path)
    assert "Going on from step 29" in capsys.readouterr().err
    assert str(first) == str(again)
