"""exposure_*: a model of the next *positive* item ranks by exposure x liking, not by liking.

    python -m benchmarks.exposure [--seeds 1]

The simulated service knows both for every item: how probably it comes next (`exposure`: its popularity, its policies,
what the user chooses) and how probably it is clicked when it comes (`liking`), given the exact belief over the user's
taste behind the last event. HSTU is trained on the next item where that was clicked (∅ targets otherwise), and for 500
users its list of all items is compared, by Spearman's correlation in the mean over users, with each of the two and with
their product; items born in the last eight days aside, most of which the model never saw. Who wants a list by liking
takes the ranker's probability of a click instead (`facta rank`), which is asked what follows *if* the item is shown.
"""

from __future__ import annotations

import argparse

import numpy as np

import facta
from benchmarks.figures import committed, record
from benchmarks.runs import SEEDS, artifact
from benchmarks.simulator import USERS, log
from facta.arrays import Floats, Ints
from facta.data.floor import floor
from facta.data.simulator import DAY, SURFACES, Events, SimulatorConfig, World, chunks, sigmoid
from facta.infer.history import history_of

SIZE, ASKED = "1m", 500
CHANGES = [
    "model.layout=fused",
    "model.feedback=null",
    'model.next_item={"positive": "click", "loss": {"kind": "softmax"}}',
    "training.metric=NDCG@10",
    "training.patience=null",
]


def likely(world: World, events: Events, belief: Floats, user: int, known: Ints) -> dict[str, Floats]:
    """[V'] exposure, liking and their product for the `known` items behind a user's last event."""
    config, own = world.config, slice(events.steps.offsets[user], events.steps.offsets[user + 1])
    popular = world.weight[known] / world.weight[known].sum()
    chosen = world.weight[known] * np.exp(config.choice * world.liking[:, known])  # [Z, V']
    chosen = chosen / chosen.sum(axis=1, keepdims=True)
    clicked = events.item[own][events.click[own]]
    near = popular * (world.category[known] == world.category[clicked[-1]]) if len(clicked) else popular
    similar = config.similar * near / max(near.sum(), 1e-12) + (1 - config.similar) * popular
    shares = dict(zip(SURFACES, config.surfaces, strict=True))
    exposure = shares["organic"] * chosen + (shares["popular"] * popular + shares["similar"] * similar)
    click = sigmoid(config.click + world.bias[known] + world.liking[:, known])
    return {
        "exposure": belief @ exposure,
        "liking": belief @ click,
        "product": belief @ (exposure * click),
    }


def correlation(a: Floats, b: Floats) -> float:
    """Spearman's, of values without many ties."""
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def agreement(trained: facta.Artifact) -> dict[str, float]:
    """Correlation of the model's list with each of the three, in the mean over users."""
    world, data = World(SimulatorConfig()), log(SIZE)
    _, events = next(chunks(world, 0, USERS[SIZE]))
    belief = floor(world, events).belief
    known = np.flatnonzero(world.birth < (world.config.days - 8) * DAY)
    end = int(np.asarray(data.timestamp).max())
    found: dict[str, list[float]] = {}
    for user in range(ASKED):
        answer = trained.recommend(history_of(data, user), data.num_items, at=end, exclude="nothing")
        rank = np.full(world.config.items, np.inf)
        rank[answer.ids[0]] = np.arange(len(answer.ids[0]))
        listed = known[np.isfinite(rank[known])]
        for name, values in likely(world, events, belief[user], user, listed).items():
            found.setdefault(name, []).append(correlation(-rank[listed], values))
    return {name: float(np.mean(values)) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Exposure and liking in a list of next positive items.")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    seeds = SEEDS[: parser.parse_args().seeds]
    committed()
    found = []
    for seed in seeds:
        found.append(agreement(artifact("simulator/gr-ranking", log(SIZE), CHANGES, seed)))
        print(f"seed {seed}: {found[-1]}", flush=True)
    for name in found[0]:
        values = [one[name] for one in found]
        record(f"exposure_spearman_{name}", float(np.mean(values)), raw=values, seeds=seeds, note=f"{ASKED} users")


if __name__ == "__main__":
    main()
