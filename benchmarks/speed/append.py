"""linear_append_vs_hstu: one more event of a long history that is remembered, FuXi-Linear against HSTU.

    python -m benchmarks.speed.append            measure and record
    python -m benchmarks.speed.append --look     measure and print only

A person has 8,192 events, and a memory of them; then comes one more and the next item is asked for:
`model.queries(batch, memory)`, which makes the tokens, computes those that the memory does not hold (the newest two:
the event that came closes the one before it) and brings the memory up to date. Both models have 4 layers of width 128
and 4 heads, FuXi-Linear's published size for long histories, and are untrained: weights change no time. The figure is
the median of the whole call's ratios, in turns; the note has the encoders alone, and what a whole call spends on the
integers of all 8,193 tokens.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta import draws
from facta.data.dataset.catalogue import Catalogue
from facta.encoders.encoder import EncoderConfig
from facta.encoders.fuxi import FuXiLinearConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.memory import Memory
from facta.models.recommender import Recommender, RecommenderConfig
from facta.types import Events, SequenceBatch, Targets

FIGURES: dict[str, Figure] = {
    "linear_append_vs_hstu": Figure(
        ">= 10", "x", module("append"), "one more of 8,192 remembered events: HSTU's time over FuXi-Linear's"
    ),
}

EVENTS, ITEMS, WIDTH, TURNS = 8192, 10_000, 128, 31
ENCODERS: dict[str, EncoderConfig] = {
    "hstu": HSTUConfig(layers=4, heads=4, bias="both"),
    "fuxi-linear": FuXiLinearConfig(layers=4, heads=4),
}
PARTS = ("whole call", "encoder", "tokens")


def history(events: int) -> SequenceBatch:
    """One person's first events, an hour apart in the mean, and a request an hour later."""
    random = torch.Generator().manual_seed(0)
    item = torch.randint(0, ITEMS, (events,), generator=random)
    gap = (torch.rand(EVENTS + 2, generator=random, dtype=torch.float64) * 7_200_000).long()
    when = (1_700_000_000_000 + gap.cumsum(0))[: events + 1]
    place = torch.arange(events)
    asked = Events(torch.tensor([-1]), when[-1:], torch.tensor([7]))
    return SequenceBatch(
        offsets=torch.tensor([0, events]),
        events=Events(item, when[:-1], draws.mix(place, 1)),
        index=place,
        next_time=when[1:],
        targets=Targets(torch.tensor([0, 1]), asked, torch.tensor([events]), torch.tensor([-1]), torch.ones(1)),
    )


@dataclass(frozen=True)
class Appending:
    """A model with a memory of all events but one, and what is timed of the next one."""

    model: Recommender
    batch: SequenceBatch
    kept: Memory

    @classmethod
    def of(cls, encoder: EncoderConfig, events: int) -> Appending:
        config = RecommenderConfig(window=events + 1, width=WIDTH, encoder=encoder)
        model, memory = Recommender(config, Catalogue(ITEMS), seed=0).eval(), Memory([None])
        with torch.inference_mode():
            model.queries(history(events), memory)
        return cls(model, history(events + 1), memory)

    def parts(self) -> dict[str, Callable[[], object]]:
        model, batch = self.model, self.batch
        tokens = model.layout.tokens(batch, ("item",), self.kept.cached)
        with torch.inference_mode():
            x = model.embedder.tokens(batch, tokens)

        def memory() -> Memory:
            """As it was before the event, with room for it: what grows twice out of one memory is copied."""
            found = Memory([None if row is None else row.copy() for row in self.kept.rows])
            found.kept = model.layout.closed(batch)
            return found

        with torch.inference_mode():
            ready = [memory() for _ in range(2 * (TURNS + 1))]
        return {
            "whole call": lambda: model.queries(batch, ready.pop()),
            "encoder": lambda: model.encoder(x, tokens, ready.pop()),
            "tokens": lambda: (model.layout.tokens(batch, ("item",), self.kept.cached), model.layout.closed(batch)),
        }


def milliseconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        work()
    return 1000 * (time.perf_counter() - began)


def measured(events: int = EVENTS, turns: int = TURNS) -> dict[str, dict[str, list[float]]]:
    """Encoder -> part -> milliseconds, once a turn after a first time of each."""
    made = {name: Appending.of(encoder, events).parts() for name, encoder in ENCODERS.items()}
    found = {name: {part: [] for part in PARTS} for name in made}
    for turn in range(turns + 1):
        for name, parts in made.items() if turn % 2 else reversed(made.items()):
            for part, work in parts.items():
                taken = milliseconds(work)
                if turn:
                    found[name][part].append(taken)
    return found


def ratios(found: Mapping[str, Mapping[str, list[float]]], part: str) -> list[float]:
    """HSTU's time over FuXi-Linear's, once a turn."""
    return [one / other for one, other in zip(found["hstu"][part], found["fuxi-linear"][part], strict=True)]


def main() -> None:
    look = looking(__doc__)
    found = measured()
    said = [
        f"{part} {statistics.median(ratios(found, part)):.2f} x: HSTU {statistics.median(found['hstu'][part]):.2f} ms, "
        f"FuXi-Linear {statistics.median(found['fuxi-linear'][part]):.2f} ms"
        for part in PARTS
    ]
    print("\n".join(said))
    if not look:
        values = ratios(found, PARTS[0])
        note = "; ".join([f"{torch.get_num_threads()} threads", *said])
        record("linear_append_vs_hstu", statistics.median(values), raw=values, note=note)


if __name__ == "__main__":
    main()
