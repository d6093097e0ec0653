"""A world that only old events tell about: who searches finds them, who reads the newest events is left to chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn import functional as F

from facta.data.batches.rows import Rows
from facta.data.batches.training import TrainingBatches, prediction_batches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.log.prepare import prepare
from facta.data.split.splits import Split, temporal
from facta.models.dlrm import DLRM, DLRMConfig
from facta.models.history import DINConfig, HistoryConfig
from facta.models.sim import SIMConfig
from facta.models.transact import HOUR_MS
from facta.models.twin import TWINConfig

CATEGORIES, FILLERS, USERS, ASKED = 8, 16, 300, 40
EVENTS = 2 * CATEGORIES + FILLERS


def interests() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Everybody is shown an item of each of eight categories, then sixteen others, then of each category one again, and
    clicks on those of liked categories both times. Coins say which are liked, and what is clicked in between.
    """
    rng = np.random.default_rng(0)
    log = []
    for user in range(USERS):
        likes = rng.random(CATEGORIES) < 0.5
        between = np.full(FILLERS, CATEGORIES)
        kinds = np.concatenate([rng.permutation(CATEGORIES), between, rng.permutation(CATEGORIES)])
        for place, kind in enumerate(kinds):
            click = likes[kind] if kind < CATEGORIES else rng.random() < 0.5
            item = 6 * kind + rng.integers(6)
            log.append((user, item, 1_600_000_000_000 + place * HOUR_MS, int(click)))
    items = pl.DataFrame({"item_id": range(6 * CATEGORIES + 6)}).with_columns(
        category=pl.format("c{}", pl.col("item_id") // 6)
    )
    return pl.DataFrame(log, schema=["user_id", "item_id", "timestamp", "click"], orient="row"), items


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    log, items = interests()
    out = tmp_path_factory.mktemp("data") / "interests"
    return prepare(log, out, items=items, fields={"click": "feedback"}, item_fields={"category": "categorical"})


def entropy_of_the_last(world: Dataset, history: HistoryConfig, window: int, steps: int = 150) -> float:
    """NE of the last eight events of people who were not trained on; 1 is chance."""
    small = {"width": 16, "features": "gr", "crosses": 1, "experts": 1, "expert_width": 16, "dropout": 0.0}
    config = DLRMConfig.parse({**small, "window": window, "history": history, "feedback": {"hidden": 16}})
    model = DLRM(config.change(hidden_ids=0.5), Catalogue.of(world), seed=1)
    length = np.where(np.arange(USERS) < USERS - ASKED, EVENTS, 0)
    split: Split = replace(temporal(world, test_from=1 << 60), train_end=length)
    batches = TrainingBatches(world, split, window=model.window, batch_size=20, spec=model.inputs)
    optimiser = torch.optim.Adam(model.parameters())
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1e-2 * (1 - step / steps)
        epoch, place = divmod(step, batches.steps(0))
        loss = model(batches.batch(epoch, place % batches.steps(epoch)), None)
        optimiser.zero_grad()
        torch.stack([one.mean() for one in loss.values()]).sum().backward()
        optimiser.step()
    user, ends = np.arange(USERS - ASKED, USERS), np.full(ASKED, EVENTS)
    rows = Rows(user, ends * 0, ends, ends - CATEGORIES, ends)
    found = []
    for _, given in prediction_batches(world, rows, window=model.window, spec=model.inputs):
        with torch.no_grad():
            p = model.eval().scores(given)["click"].clamp(1e-6, 1 - 1e-6)
        found.append(F.binary_cross_entropy(p, (given.targets.events.fields["click"] == 2).float(), reduction="none"))
    return float(torch.cat(found).mean()) / float(np.log(2))


FINDERS = {
    "sim": SIMConfig(long=EVENTS, found=4),
    "sim-soft": SIMConfig(search="soft", long=EVENTS, found=8),
    "twin": TWINConfig(long=EVENTS, found=8, heads=2),
}


@pytest.mark.parametrize("name", FINDERS)
def test_a_search_finds_the_old_events_that_tell_the_click(world: Dataset, name: str) -> None:
    steps = 150 if name == "sim" else 400  # a search that learns finds at first by chance
    assert entropy_of_the_last(world, FINDERS[name], CATEGORIES, steps) < 0.5


def test_attention_to_the_newest_events_alone_is_left_to_chance(world: Dataset) -> None:
    assert entropy_of_the_last(world, DINConfig(), CATEGORIES) > 0.97
