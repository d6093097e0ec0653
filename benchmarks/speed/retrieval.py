"""What an answer and a start cost beside the work that none can avoid.

    python -m benchmarks.speed.retrieval            measure and record
    python -m benchmarks.speed.retrieval --look     measure and print only

recommend_1m_vs_product: `recommend` for one history of 50 events among 1,000,000 items x 64, k 10, of which one item
has no training event, against a bare product of one query with the same vectors and top-k. retrieve_1m_vs_gemm: of the
same items the best 100 for 32 requests, 100 masked for each, against `torch.mm` of these shapes with its output
written. load_300k_vs_read: `facta.load` of an artifact with 300,000 items, text ids and titles, against reading its
files and their checksums. Each pair runs in this process, in turns, after a first time of both; a figure is the median
of the ratios. HSTU of two layers, untrained: weights change no time.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file
from torch import Tensor

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta import durable
from facta.artifact import files
from facta.artifact.model import restored, state_of
from facta.data.dataset.catalogue import Catalogue
from facta.models.recommender import RecommenderConfig
from facta.retrieval.item_sets import ItemSets
from facta.types import FactoredScores

FIGURES: dict[str, Figure] = {
    "recommend_1m_vs_product": Figure(
        "<= 1.6", "x", module("retrieval"), "one request over 1,000,000 items x 64, over a bare product and top-k"
    ),
    "retrieve_1m_vs_gemm": Figure(
        ">= 0.7",
        "x",
        module("retrieval"),
        "top 100 of 1,000,000 items x 64 for 32 requests: the bare product's time, its output written, over ours",
    ),
    "load_300k_vs_read": Figure(
        "<= 3",
        "x",
        module("retrieval"),
        "loading an artifact of 300,000 items, over reading its files with checksums",
    ),
}

ITEMS, STORED, WIDTH, LENGTH, K, TURNS = 1_000_000, 300_000, 64, 50, 10, 11
REQUESTS, LISTED = 32, 100
CONFIG = RecommenderConfig.parse(
    {"window": LENGTH, "width": WIDTH, "encoder": {"kind": "hstu", "layers": 2, "bias": "position"}}
)
SCHEMA = {"events": 0, "users": 0, "content_hash": "00", "order": "user, input row"}


def artifact(items: int) -> facta.Artifact:
    """A model with random item vectors, and one item without a training event."""
    state = state_of(CONFIG.build(Catalogue(8)))
    state["embedder.item.weight"] = 0.02 * torch.randn(items, WIDTH, generator=torch.Generator().manual_seed(0))
    rows = np.arange(items)
    catalogue = pl.DataFrame({"row": rows, "training_events": np.where(rows == items // 2, 0, 1 + rows % 97)})
    number = pl.col("row").cast(pl.String).str.zfill(8)
    catalogue = catalogue.with_columns(item_id="item-" + number, title="Title " + number)
    config = {"name": "benchmark", "model": CONFIG.model_dump(mode="json"), "protocol": {}}
    return facta.Artifact(config, SCHEMA, catalogue, restored(CONFIG, Catalogue(items), state))


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def ratios(ours: Callable[[], object], bare: Callable[[], object], what: str, turns: int = TURNS) -> list[float]:
    """Ours over the bare work, once a turn, after a first time of both."""
    first = seconds(ours)
    bare()
    found = []
    for turn in range(turns):
        order = (ours, bare) if turn % 2 else (bare, ours)
        taken = {work: seconds(work) for work in order}
        found.append(taken[ours] / taken[bare])
        print(f"{what} {turn}: {1000 * taken[ours]:.1f} ms, bare {1000 * taken[bare]:.1f} ms", flush=True)
    print(f"{what}: median {statistics.median(found):.2f}; the first time took {first:.2f} s", flush=True)
    return found


def recommend_ratios(items: int = ITEMS, turns: int = TURNS) -> list[float]:
    """One request over the product of its query with the same vectors, and top-k."""
    asked = artifact(items)
    history = asked.catalogue["item_id"].gather(np.random.default_rng(0).integers(0, items, LENGTH)).to_list()
    trained = np.flatnonzero(asked.catalogue["training_events"].to_numpy() > 0)
    with torch.inference_mode():
        vectors = asked.model.item_vectors(torch.from_numpy(trained)).contiguous()  # type: ignore[operator]
        query = torch.nn.functional.normalize(torch.randn(1, WIDTH))

    def product() -> Tensor:
        with torch.inference_mode():
            return torch.topk(query @ vectors.T, K).indices

    return ratios(lambda: asked.recommend(history, K), product, "recommend", turns)


def retrieve_ratios(items: int = ITEMS, turns: int = TURNS) -> list[float]:
    """The bare product of 32 queries and all vectors, written out, over the best 100 of each without 100 of its own."""
    lists = artifact(items).verbs.lists
    vectors, random = lists.index.vectors, np.random.default_rng(0)
    assert vectors is not None
    queries = torch.nn.functional.normalize(torch.randn(REQUESTS, WIDTH, generator=torch.Generator().manual_seed(1)))
    hidden = np.sort(random.integers(0, items, (REQUESTS, LISTED)), axis=1)
    masked = ItemSets(np.arange(REQUESTS + 1) * LISTED, hidden.ravel())
    none = ItemSets(np.zeros(REQUESTS + 1, dtype=np.int64), np.zeros(0, dtype=np.int64))
    scores, out = FactoredScores(queries, vectors), torch.empty(REQUESTS, len(vectors))

    def ours() -> object:
        with torch.inference_mode():
            return lists.index.rank(scores, none, masked, LISTED)

    found = ratios(ours, lambda: torch.mm(queries, vectors.T, out=out), "retrieve", turns)
    return [1 / one for one in found]


def read(folder: Path) -> list[object]:
    """Every file of an artifact and its checksum, and nothing made of it."""
    found: list[object] = [durable.sha256(file) for file in sorted(folder.iterdir())]
    found += [json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")]
    return [*found, pl.read_parquet(folder / "items.parquet"), load_file(folder / "model.safetensors")]


def load_ratios(folder: Path, items: int = STORED, turns: int = TURNS) -> list[float]:
    files.save(artifact(items), folder)
    return ratios(lambda: facta.load(folder), lambda: read(folder), "load", turns)


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as place:
        loaded = load_ratios(Path(place) / "artifact")
    asked, retrieved = recommend_ratios(), retrieve_ratios()
    print(f"retrieve_1m_vs_gemm {statistics.median(retrieved):.2f}")
    if not look:
        note = f"{torch.get_num_threads()} threads"
        record("load_300k_vs_read", statistics.median(loaded), raw=loaded, note=note)
        record("recommend_1m_vs_product", statistics.median(asked), raw=asked, note=note)
        record("retrieve_1m_vs_gemm", statistics.median(retrieved), raw=retrieved, note=note)


if __name__ == "__main__":
    main()
