"""Worlds whose right answer is known: every two of an encoder, a loss and a world are met together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from facta import draws, jagged
from facta.data.batches.cloze import ClozeConfig
from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.negatives import NegativesConfig, draw
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.splits import Split, leave_one_out, leave_one_out_test
from facta.encoders.encoder import EncoderConfig
from facta.encoders.fuxi import FuXiLinearConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.ligr import LiGRConfig
from facta.encoders.transformer import TransformerConfig
from facta.layers.embedding import EmbeddingConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.losses import BCEConfig, GBCEConfig, LossConfig, SampledSoftmaxConfig, SoftmaxConfig
from facta.objectives.next_item import NextItemConfig
from facta.similarity.inner import InnerProductConfig
from facta.types import SequenceBatch
from tests import worlds

WINDOW = 4  # shorter than the histories: a test must not meet a position that training never saw
CLOZE = ClozeConfig(share=0.25)
WORLDS = {"cycle": worlds.cycle, "copy-last": worlds.copy_last, "checkerboard": worlds.checkerboard}
ENCODERS = {
    "hstu": HSTUConfig(dropout=0.0),
    "sasrec": TransformerConfig(dropout=0.0),
    "modern": TransformerConfig(preset="modern", dropout=0.0),
    "ligr": LiGRConfig(dropout=0.0),
    "fuxi": FuXiLinearConfig(dropout=0.0, second_residual=True),  # without it BCE has .83 of copy-last in 300 steps
    "gru": GRUConfig(dropout=0.0),
}
LOSSES: dict[str, LossConfig] = {
    "softmax": SoftmaxConfig(),
    "uniform": SampledSoftmaxConfig(negatives=NegativesConfig(count=8)),
    "in-batch": SampledSoftmaxConfig(negatives=NegativesConfig(kind="in-batch")),
    "mixed-logq": SampledSoftmaxConfig(negatives=NegativesConfig(kind="mixed", count=4, correction="negatives")),
    "in-batch-logq": SampledSoftmaxConfig(negatives=NegativesConfig(kind="in-batch", correction="negatives")),
    "bce": BCEConfig(),
    "gbce": GBCEConfig(negatives=NegativesConfig(count=3)),
}
SHARED: dict[str, LossConfig] = {  # every item is a negative of every target: right, but slow to learn from
    "bce": BCEConfig(negatives=NegativesConfig(kind="mixed", count=4)),
    "gbce": GBCEConfig(negatives=NegativesConfig(kind="in-batch")),
}


@pytest.fixture(scope="module", params=WORLDS)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Dataset, Split]:
    frame: pl.DataFrame = WORLDS[request.param]()
    path: Path = tmp_path_factory.mktemp("world") / request.param
    dataset = prepare(frame, path)
    return request.param, dataset, leave_one_out(dataset, validation=False)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("world", ["cycle"], indirect=True)
def test_every_encoder_learns_by_every_loss(world: tuple[str, Dataset, Split], encoder: str, loss: str) -> None:
    is_solved(world, encoder, loss)


@pytest.mark.parametrize("loss", ["softmax", "uniform"])
@pytest.mark.parametrize("encoder", [name for name in ENCODERS if name != "hstu"])
@pytest.mark.parametrize("world", ["copy-last", "checkerboard"], indirect=True)
def test_every_encoder_solves_every_world(world: tuple[str, Dataset, Split], encoder: str, loss: str) -> None:
    is_solved(world, encoder, loss)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("world", ["copy-last", "checkerboard"], indirect=True)
def test_every_world_is_solved_by_every_loss(world: tuple[str, Dataset, Split], loss: str) -> None:
    is_solved(world, "hstu", loss)


def is_solved(world: tuple[str, Dataset, Split], encoder: str, loss: str) -> None:
    binary = "bce" in loss
    steps, rate = (300, 0.02) if binary else (100, 0.01)
    assert solved(world, ENCODERS[encoder], LOSSES[loss], steps, rate) >= 0.95


@pytest.mark.parametrize("loss", SHARED)
def test_the_world_is_solved_with_shared_negatives(world: tuple[str, Dataset, Split], loss: str) -> None:
    assert solved(world, ENCODERS["hstu"], SHARED[loss], steps=400, rate=0.01) >= 0.95


@pytest.mark.parametrize(
    ("world", "encoder", "loss", "steps", "rate"),
    [
        ("cycle", "hstu", "softmax", 200, 0.01),
        ("cycle", "sasrec", "softmax", 400, 0.01),
        ("copy-last", "sasrec", "softmax", 100, 0.01),
        ("checkerboard", "sasrec", "softmax", 100, 0.01),
        ("cycle", "hstu", "uniform", 250, 0.01),
        ("cycle", "hstu", "gbce", 500, 0.01),
    ],
    indirect=["world"],
)
def test_worlds_are_solved_by_predicting_hidden_events(
    world: tuple[str, Dataset, Split], encoder: str, loss: str, steps: int, rate: float
) -> None:
    """A step learns a quarter of the events."""
    both_ways = HSTUConfig(dropout=0.0, bias="none") if encoder == "hstu" else ENCODERS[encoder]
    assert solved(world, both_ways, LOSSES[loss], steps, rate, CLOZE) >= 0.95


def test_a_hidden_event_is_told_by_what_came_after_it(tmp_path: Path) -> None:
    """Openings are drawn at random, and the event behind one tells it. What is asked for at the end is a partner, which
    the event before it tells, or another opening, which nobody can know."""
    dataset = prepare(worlds.pairs(), tmp_path / "pairs")
    split, items = leave_one_out(dataset, validation=False), dataset.items["item_id"].to_numpy()
    model = recommender(dataset, ENCODERS["modern"], LOSSES["softmax"], CLOZE)
    train(model, dataset, split, steps=250, rate=0.01)
    test = leave_one_out_test(dataset)
    right = answered(model, request_batch(dataset, test, slice(None), model.window), test.item)
    partner = items[test.item] >= 6
    assert right[partner].mean() >= 0.95 and right[~partner].mean() < 0.4  # one in six
    batch = TrainingBatches(dataset, split, window=model.window, batch_size=500, spec=model.inputs).batch(99, 0)
    right = answered(model, batch, batch.targets.events.item.numpy())
    assert batch.targets.index is not None
    inputs = {*zip(jagged.rows(batch.offsets).tolist(), batch.index.tolist(), strict=True)}
    behind = zip(jagged.rows(batch.targets.offsets).tolist(), (batch.targets.index + 1).tolist(), strict=True)
    opening, told = items[batch.targets.events.item] < 6, np.array([one in inputs for one in behind])
    assert (opening & told).sum() > 20 and (opening & ~told).sum() > 20
    assert right[opening & told].mean() >= 0.95 and right[opening & ~told].mean() < 0.5


def answered(model: Recommender, batch: SequenceBatch, items: np.ndarray) -> np.ndarray:
    """Which targets' items [S] are recommended first."""
    with torch.no_grad():
        found: np.ndarray = model.eval().catalogue_scores(batch).dense().argmax(dim=1).numpy() == items
    return found


def solved(
    world: tuple[str, Dataset, Split],
    encoder: EncoderConfig,
    loss: LossConfig,
    steps: int,
    rate: float,
    cloze: ClozeConfig | None = None,
) -> float:
    """Share of right answers after training."""
    name, dataset, split = world
    model = recommender(dataset, encoder, loss, cloze)
    train(model, dataset, split, steps, rate)
    return right_answers(model, dataset, split, masked=name == "checkerboard")


def recommender(
    dataset: Dataset, encoder: EncoderConfig, loss: LossConfig, cloze: ClozeConfig | None = None
) -> Recommender:
    """Initial weights."""
    binary = isinstance(loss, (BCEConfig, GBCEConfig))
    config = RecommenderConfig(
        window=WINDOW,
        width=16,
        layout="item" if cloze is None else "cloze",
        cloze=cloze,
        embedding=EmbeddingConfig(dropout=0.1),
        encoder=encoder,
        next_item=NextItemConfig(
            similarity=InnerProductConfig(kind="dot", temperature=1.0)
            if binary
            else InnerProductConfig(temperature=0.2),
            loss=loss,
        ),
    )
    return Recommender(config, Catalogue.of(dataset), seed=1)


def train(model: Recommender, dataset: Dataset, split: Split, steps: int, rate: float) -> None:
    batches = TrainingBatches(dataset, split, window=model.window, batch_size=24, spec=model.inputs)
    counts = torch.bincount(torch.from_numpy(dataset.item.astype(np.int64)), minlength=dataset.num_items)
    optimiser = torch.optim.Adam(model.parameters(), lr=rate)
    place = [(epoch, step) for epoch in range(steps) for step in range(batches.steps(epoch))]
    for done, (epoch, step) in enumerate(place[:steps]):
        optimiser.param_groups[0]["lr"] = rate * (1 - done / steps)  # at a constant rate the end is a matter of luck
        batch = batches.batch(epoch, step)
        negatives = model.negatives and draw(model.negatives, batch, counts, draws.mix_int(epoch, step))
        loss = model(batch, negatives or None)["next_item"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


def right_answers(model: Recommender, dataset: Dataset, split: Split, masked: bool) -> float:
    """Share of users whose first recommendation is the held-out item."""
    model.eval()
    batch = request_batch(dataset, leave_one_out_test(dataset), slice(None), model.window)
    with torch.no_grad():
        scores = model.catalogue_scores(batch).dense()
    if masked:
        whole = request_batch(dataset, leave_one_out_test(dataset), slice(None), window=100)
        scores[jagged.rows(whole.offsets), whole.events.item] = -torch.inf
    return float((scores.argmax(dim=1).numpy() == leave_one_out_test(dataset).item).mean())
