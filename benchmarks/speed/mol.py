"""What a search in two stages costs and finds, where a score is a mixture of logits.

    python -m benchmarks.speed.mol            measure and record
    python -m benchmarks.speed.mol --look     measure and print only

HSTU with MoL, trained on MovieLens 1M (seed 0 of `benchmarks.quality.ml1m hstu-mol`, trained here where it is not
there: an hour on one core). Its 3,706 item vectors become 1,000,000: each is a mixture of two of them, in a share that
is drawn evenly. The best 100 for 32 people of the test, by all scores and by `recommend(shortlist=10000)`, in turns.

mol_recall_100: the share of the exact 100 that the search finds, mean of people. mol_speedup: the time of all scores
over that of the search, median of the turns; both make the queries, which costs the same.
"""

from __future__ import annotations

import statistics

import numpy as np
import polars as pl
import torch

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from benchmarks.runs import artifact, dataset
from benchmarks.speed.retrieval import ratios
from facta.artifact.model import restored, state_of
from facta.data.dataset.catalogue import Catalogue
from facta.models.recommender import RecommenderConfig

FIGURES: dict[str, Figure] = {
    "mol_recall_100": Figure(
        ">= 0.95", "share", module("mol"), "MoL over 1,000,000 items: the exact 100 best that two stages find"
    ),
    "mol_speedup": Figure(
        ">= 10", "x", module("mol"), "MoL over 1,000,000 items, 32 people: time of all scores over that of two stages"
    ),
}

ITEMS, PEOPLE, LISTED, SHORTLIST, TURNS = 1_000_000, 32, 100, 10_000, 5


def enlarged(trained: facta.Artifact, items: int = ITEMS) -> facta.Artifact:
    """The same model over more items, the trained ones first."""
    config = RecommenderConfig.parse(trained.config["model"])
    state, name = state_of(trained.model), "embedder.item.weight"
    vectors, random = state[name], torch.Generator().manual_seed(0)
    of = torch.randint(len(vectors), (2, items - len(vectors)), generator=random)
    share = torch.rand(of.shape[1], 1, generator=random)
    state[name] = torch.cat([vectors, share * vectors[of[0]] + (1 - share) * vectors[of[1]]])
    rows = np.arange(items)
    catalogue = pl.DataFrame({"row": rows, "training_events": np.ones(items, np.int64), "item_id": rows})
    schema = {"events": 0, "users": 0, "content_hash": "00", "order": "user, time, input row"}
    return facta.Artifact(
        {"name": "benchmark", "model": config.model_dump(mode="json"), "protocol": {}},
        schema,
        catalogue,
        restored(config, Catalogue(items), state),
    )


def people(data: facta.Dataset, count: int = PEOPLE) -> tuple[list[facta.History], list[int]]:
    """What some people did but for their newest event, which is when they are asked about; evenly over all of them."""
    histories, at, time = [], [], data.timestamp
    assert time is not None
    for user in np.linspace(0, data.num_users - 1, count).astype(int):
        events = slice(data.offsets[user], data.offsets[user + 1])
        items, times = data.item[events].tolist(), time[events].tolist()
        histories.append(facta.History(items[:-1], times[:-1]))
        at.append(times[-1])
    return histories, at


def main() -> None:
    look = looking(__doc__)
    data = dataset("movielens-1m")
    large = enlarged(artifact("movielens-1m/hstu-mol", data, [], 0))
    asked, at = people(data)
    exact = large.recommend(asked, LISTED, at=at).ids
    found = large.recommend(asked, LISTED, at=at, shortlist=SHORTLIST).ids
    shares = [len(set(ours) & set(theirs)) / LISTED for ours, theirs in zip(found, exact, strict=True)]
    times = ratios(
        lambda: large.recommend(asked, LISTED, at=at),
        lambda: large.recommend(asked, LISTED, at=at, shortlist=SHORTLIST),
        "all scores, two stages",
        TURNS,
    )
    note = f"shortlist {SHORTLIST:,}; {torch.get_num_threads()} threads; least share of a person {min(shares):.2f}"
    print(f"mol_recall_100 {np.mean(shares):.4f}, mol_speedup {statistics.median(times):.1f}; {note}")
    if not look:
        record("mol_recall_100", float(np.mean(shares)), raw=shares, note=note)
        record("mol_speedup", statistics.median(times), raw=times, note=note)


if __name__ == "__main__":
    main()
