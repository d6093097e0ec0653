"""synthetic_*: the streaming task of the HSTU paper (Zhai et al. 2024, appendix C), in fractions of its Bayes oracle.

    python -m benchmarks.quality.synthetic ARM               hstu, hstu-softmax or transformer: sweep, one pass, record
    python -m benchmarks.quality.synthetic ARM --look 10000  one pass over the first records only, printed only

One pass in the order of the stream: the first 90 % of records are learned, the last 10 % measured. The learning rate is
the best of RATES on the first SWEEP records, which are cut in the same way. Targets are all events of a record but the
first, which has no history; measured on BLOCKS blocks of records spread evenly over the test. Only released items are
ranked. A figure is the hit rate that the lists can expect, over what the oracle can (`data/synthetic/dirichlet.py`):
the same in the mean as counted hits, which the note has, without the luck of each draw.

All arms have two layers of one head, learned positions and the loss of the MovieLens recipes (cosine / .05 against 128
uniform items); none has a relative bias, or dropout, for nothing is seen twice. One thread an arm, about half an hour
on an idle core; killed and started again with the same code it goes on.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from benchmarks.figure import Figure, module
from benchmarks.record import ROOT, code, record
from facta import draws
from facta.arrays import Floats, Ints
from facta.data.dataset.catalogue import Catalogue
from facta.data.synthetic.dirichlet import DirichletConfig, DirichletWorld, Records, counting, oracle, probability
from facta.draws import Purpose
from facta.encoders.hstu import HSTUConfig
from facta.encoders.transformer import TransformerConfig
from facta.layers.embedding import EmbeddingConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.retrieval.exact import ItemSets, rank_catalogue
from facta.training.trainer import Trainer, TrainingConfig
from facta.types import Events, FactoredScores, SequenceBatch, Targets

SYNTHETIC = ("hstu", "hstu_softmax", "transformer")
"""The arms of `synthetic.py`, in the order that Zhai et al. (2024, table 2) found, the best first."""


def _synthetic() -> dict[str, Figure]:
    """Hit rates of every arm; the bars are the published order."""
    behind = dict(pairwise(SYNTHETIC))
    return {
        f"synthetic_{arm}_hr{k}_of_oracle": Figure(
            f"> synthetic_{behind[arm]}_hr{k}_of_oracle" if arm in behind else "",
            "",
            module(f"synthetic {arm.replace('_', '-')}"),
            f"synthetic streaming task: {arm.replace('_', ' ')}, HR@{k} over the Bayes oracle's",
        )
        for arm in SYNTHETIC
        for k in (10, 50)
    }


FIGURES: dict[str, Figure] = _synthetic()

WORLD = DirichletConfig()
ARMS: dict[str, HSTUConfig | TransformerConfig] = {
    "hstu": HSTUConfig(bias="none", dropout=0.0),
    "hstu-softmax": HSTUConfig(bias="none", attention="softmax", dropout=0.0),
    "transformer": TransformerConfig(preset="sasrec", dropout=0.0),
}
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
LOOK = 2e-3
WIDTH, BATCH = 64, 32
SWEEP, TRAINED = 100_000, 0.9
BLOCKS, BLOCK = 100, 20  # 2,000 test records
KS = (10, 50)


class StreamBatches:
    """The first `count` records in their order, `size` a batch; a target behind every event but the last."""

    def __init__(self, world: DirichletWorld, count: int, size: int) -> None:
        self.world, self.count, self.size = world, count, size

    def steps(self, epoch: int) -> int:
        return -(-self.count // self.size)

    def batch(self, epoch: int, step: int) -> SequenceBatch:
        first = step * self.size
        return batch_of(self.world.records(first, min(first + self.size, self.count)))


def batch_of(records: Records) -> SequenceBatch:
    """Every record a row: all events but the newest are inputs, all but the first targets."""
    rows, length = records.item.shape[0], records.item.shape[1] - 1
    item, place = torch.from_numpy(records.item), torch.arange(length).repeat(rows)
    key = draws.mix(torch.from_numpy(records.number).repeat_interleave(length), place)
    slot = torch.where(place + 1 < length, place + 1, -1)
    offsets = torch.arange(rows + 1) * length
    following = Events(item[:, 1:].flatten(), None, draws.mix(key, Purpose.TARGET))
    return SequenceBatch(
        offsets=offsets,
        events=Events(item[:, :-1].flatten(), None, draws.mix(key, Purpose.EVENT)),
        index=place,
        next_time=None,
        targets=Targets(offsets, following, place + 1, slot, torch.ones(len(place))),
        key=draws.mix_int(Purpose.STEP, int(records.number[0])),
    )


@dataclass(frozen=True)
class Hits:
    """k -> [B] mean over the targets of each record."""

    found: dict[int, Floats]  # by the model
    expected: dict[int, Floats]  # of the model's lists, without the luck of the draw
    oracle: dict[int, Floats]  # the same of the oracle's
    counting: dict[int, Floats]  # and of one's who counts categories

    def fraction(self, k: int) -> float:
        return float(self.expected[k].mean() / self.oracle[k].mean())

    def error(self, k: int) -> float:
        """Standard error of the fraction, records being independent."""
        left = self.expected[k] - self.fraction(k) * self.oracle[k]
        return float(left.std(ddof=1) / np.sqrt(len(left)) / self.oracle[k].mean())

    def __str__(self) -> str:
        each = (
            f"HR@{k} {self.found[k].mean():.4f}, expected {self.expected[k].mean():.4f}, the oracle's "
            f"{self.oracle[k].mean():.4f}, by counting categories {self.counting[k].mean():.4f}"
            for k in KS
        )
        return "; ".join(each)


def ranked(model: Recommender, records: Records) -> tuple[Ints, Ints]:
    """[B, N - 1] the rank of every next item among the items released by then; [B, N - 1, k] the best of them."""
    batch = batch_of(records)
    with torch.no_grad():
        queries, items = model.queries(batch), model.item_vectors()
    wanted = batch.targets.events.item.numpy()
    ranks, lists = np.empty(len(wanted), np.int64), np.empty((len(wanted), KS[-1]), np.int64)
    released = np.repeat(records.released, records.item.shape[1] - 1)
    for count in np.unique(released):
        at = np.flatnonzero(released == count)
        targets = ItemSets(np.arange(len(at) + 1), wanted[at])
        nothing = ItemSets(np.zeros(len(at) + 1, np.int64), np.zeros(0, np.int64))
        part = FactoredScores(queries[torch.from_numpy(at)], items[: int(count)])
        ranks[at], lists[at], _ = rank_catalogue(part, targets, nothing, KS[-1])
    shape = (len(records.item), -1)
    return ranks.reshape(shape), lists.reshape(*shape, KS[-1])


def measure(model: Recommender, world: DirichletWorld, start: int, stop: int) -> Hits:
    """On blocks of records spread evenly over [start, stop)."""
    model.eval()
    blocks = []
    for first in np.linspace(start, stop - BLOCK, BLOCKS, dtype=int):
        records = world.records(first, first + BLOCK)
        ranks, lists = ranked(model, records)
        listed = np.cumsum(probability(world, records, lists), axis=2)
        known = [best(world, records, KS) for best in (oracle, counting)]
        found = {k: (ranks <= k, listed[:, :, k - 1], *(one[k][:, 1:] for one in known)) for k in KS}
        blocks.append(Hits(*({k: found[k][kind].mean(axis=1) for k in KS} for kind in range(4))))
    return Hits(
        *({k: np.concatenate([getattr(block, one.name)[k] for block in blocks]) for k in KS} for one in fields(Hits))
    )


def run(arm: str, rate: float, world: DirichletWorld, records: int, folder: Path) -> Hits:
    """One pass over the first `records` of the stream."""
    trained = round(TRAINED * records)
    config = RecommenderConfig(
        window=world.config.length - 1, width=WIDTH, embedding=EmbeddingConfig(dropout=0.0), encoder=ARMS[arm]
    )
    training = TrainingConfig(
        epochs=1, batch_size=BATCH, learning_rate=rate, warmup_steps=100, patience=None, checkpoint_every=2000
    )
    parts = {"world": world.config, "model": config, "training": training}
    model = Recommender(config, Catalogue(world.config.items), training.seed)
    Trainer(
        model,
        StreamBatches(world, trained, training.batch_size),
        training,
        folder / f"{arm}-{records}-{rate:g}",
        counts=torch.ones(world.config.items),
        recipe={"records": trained, **{name: part.model_dump(mode="json") for name, part in parts.items()}},
    ).fit()
    hits = measure(model, world, trained, records)
    fractions = " and ".join(f"{hits.fraction(k):.3f}" for k in KS)
    print(f"{arm}, {records:,} records, learning rate {rate:g}: {fractions} of the oracle's; {hits}", flush=True)
    return hits


def measured(arm: str, world: DirichletWorld, folder: Path) -> None:
    """Record both figures of an arm."""
    tried = {rate: run(arm, rate, world, SWEEP, folder).fraction(KS[0]) for rate in RATES}
    rate = max(tried, key=lambda one: tried[one])
    hits = run(arm, rate, world, WORLD.records, folder)
    swept = ", ".join(f"{one:g}: {fraction:.3f}" for one, fraction in tried.items())
    note = (
        f"{hits}; learning rate {rate:g}, by HR@{KS[0]} of the oracle's on {SWEEP:,} records: {swept}; "
        f"± is over {BLOCKS * BLOCK:,} test records"
    )
    for k in KS:
        name = f"synthetic_{arm.replace('-', '_')}_hr{k}_of_oracle"
        record(name, hits.fraction(k), spread=hits.error(k), seeds=(0,), note=note)


def main() -> None:
    parser = argparse.ArgumentParser(description="The synthetic streaming task.")
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--look", type=int, metavar="RECORDS", help="one pass over so few; record nothing")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.look:
        with tempfile.TemporaryDirectory() as folder:
            run(given.arm, LOOK, DirichletWorld(WORLD), given.look, Path(folder))
        return
    measured(given.arm, DirichletWorld(WORLD), ROOT / "runs" / "figures" / code()[:12] / "synthetic")


if __name__ == "__main__":
    main()
