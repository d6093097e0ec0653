"""exposure_*: a model of the next *positive* item ranks by exposure x liking, not by liking.

    python -m benchmarks.quality.exposure [--seeds 1]

The simulated service knows both for every item, given the exact belief over the user's taste behind the last event:
how probably it comes next (`exposure`: its popularity, what the policies show, what the user chooses) and how probably
it is clicked when it comes (`liking`). HSTU is trained on the next item where that was clicked (∅ targets otherwise),
and for 500 users its list of all items is compared, by Spearman's correlation in the mean over users, with each of the
two and with the probability of both (`product`); items born in the last eight days aside, most of which the model never
saw. Who wants a list by liking takes the ranker's probability of a click instead (`facta rank`), which is asked what
follows *if* the item is shown.
"""

from __future__ import annotations

import argparse

import numpy as np

import facta
from benchmarks.figure import Figure, module
from benchmarks.quality.simulator import USERS, known, log
from benchmarks.record import committed, record
from benchmarks.runs import SEEDS, artifact
from facta.arrays import Floats, Ints
from facta.data.synthetic.floor import floor
from facta.data.synthetic.simulator import DAY, FATIGUE_EVENTS, HOUR, Events, SimulatorConfig, World, chunks, sigmoid
from facta.eval.bootstrap import bootstrap_means, interval
from facta.infer.history_of import history_of

FIGURES: dict[str, Figure] = {
    **{
        f"exposure_spearman_{name}": Figure(
            bar, "", module("exposure"), f"simulator, a list of next clicked items: its correlation with {what}"
        )
        for name, bar, what in (
            ("product", "> exposure_spearman_exposure", "exposure x liking"),
            ("exposure", "> exposure_spearman_liking", "exposure alone"),
            ("liking", "", "liking alone"),
        )
    },
}

SIZE, ASKED = "1m", 500
CHANGES = [
    "model.layout=fused",
    "model.feedback=null",
    'model.next_item={"positive": "click", "loss": {"kind": "softmax"}}',
    "training.metric=NDCG@10",
    "training.patience=null",
]


def likely(world: World, events: Events, belief: Floats, user: int, items: Ints, hour: int) -> dict[str, Floats]:
    """[V'] exposure, liking and the chance of both, for some items, at a visit behind a user's last event."""
    config, own = world.config, slice(events.steps.offsets[user], events.steps.offsets[user + 1])
    taste = (1 - config.switch_visit) * belief + config.switch_visit * world.taste
    weight, clicked = world.weight[items], events.item[own][events.click[own]]
    popular = weight / weight.sum()
    chosen = weight * np.exp(config.choice * world.liking[:, items])  # [Z, V']
    near = weight * (world.category[items] == world.category[clicked[-1]]) if len(clicked) else popular
    similar = config.similar * near / max(near.sum(), 1e-12) + (1 - config.similar) * popular
    shown = [chosen / chosen.sum(axis=1, keepdims=True), popular[None], similar[None]]
    seen = world.category[events.item[own][-FATIGUE_EVENTS:]]
    tired = (world.category[items][:, None] == seen).sum(axis=1)
    evening = np.full(len(items), hour >= 18)
    exposure, both = np.zeros(len(items)), np.zeros(len(items))
    for surface, share in enumerate(config.surfaces):
        click = sigmoid(world.click_logit(np.full(len(items), surface), evening, tired, items) + world.liking[:, items])
        exposure += share * (taste[:, None] * shown[surface]).sum(axis=0)
        both += share * (taste[:, None] * shown[surface] * click).sum(axis=0)
    return {"product": both, "exposure": exposure, "liking": both / exposure}


def correlation(a: Floats, b: Floats) -> float:
    """Spearman's, of values without many ties."""
    first, second = (np.argsort(np.argsort(values)).astype(float) for values in (a, b))
    return float(np.corrcoef(first, second)[0, 1])


def agreement(trained: facta.Artifact) -> dict[str, Floats]:
    """[500] correlation of the model's list with each of the three."""
    world, data = World(SimulatorConfig()), log(SIZE)
    known(SIZE)  # refuses a dataset of another simulation
    _, events = next(chunks(world, 0, USERS[SIZE]))
    belief = floor(world, events).belief
    old = np.flatnonzero(world.birth < (world.config.days - 8) * DAY)
    end = int(np.asarray(data.timestamp).max())
    found: dict[str, list[float]] = {}
    for user in range(ASKED):
        answer = trained.recommend(history_of(data, user), data.num_items, at=end, exclude="nothing")
        rank = np.full(world.config.items, np.inf)
        rank[answer.ids[0]] = np.arange(len(answer.ids[0]))
        listed = old[np.isfinite(rank[old])]
        for name, values in likely(world, events, belief[user], user, listed, end // HOUR % 24).items():
            found.setdefault(name, []).append(correlation(-rank[listed], values))
    return {name: np.array(values) for name, values in found.items()}


def apart(a: Floats, b: Floats) -> str:
    """Mean of a minus b and its 95 % interval over users, paired."""
    low, high = interval(bootstrap_means((a - b)[:, None])[:, 0])
    return f"{(a - b).mean():+.3f} [{low:+.3f}, {high:+.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="Exposure and liking in a list of next positive items.")
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many")
    seeds = SEEDS[: parser.parse_args().seeds]
    committed()
    found = []
    for seed in seeds:
        found.append(agreement(artifact("simulator/gr-ranking", log(SIZE), CHANGES, seed)))
        said = ", ".join(f"{name} {values.mean():.4f}" for name, values in found[-1].items())
        print(f"seed {seed}: {said}", flush=True)
    mean = {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}
    more, less = apart(mean["product"], mean["exposure"]), apart(mean["exposure"], mean["liking"])
    note = f"{ASKED} users; product minus exposure {more}, exposure minus liking {less}"
    print(note)
    for name in mean:
        values = [float(one[name].mean()) for one in found]
        record(f"exposure_spearman_{name}", float(np.mean(values)), raw=values, seeds=seeds, note=note)


if __name__ == "__main__":
    main()
