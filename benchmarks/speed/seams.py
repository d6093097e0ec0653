"""files_touched_new_model and cached_states_max_error: what the middle floor promises.

    python -m benchmarks.speed.seams            measure and record
    python -m benchmarks.speed.seams --look     measure and print only

A new encoder and a new model are put into a copy of the package and used by every verb; counted are the files of facta
that had to change for one of them. Then every encoder that remembers walks through random histories under every layout
and objective, in float64: the largest difference between predictions with a memory and without.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from tests import worlds
from tests.new_parts import touched

import facta
from benchmarks.figure import Figure, module
from benchmarks.record import looking, record
from facta.encoders.encoder import EncoderConfig
from facta.encoders.fuxi import FuXiLinearConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.ligr import LiGRConfig
from facta.encoders.production import HSTUProductionConfig
from facta.encoders.transformer import TransformerConfig
from facta.models.recommender import Recommender
from facta.testing import cases
from facta.testing.contract import memory_error

FIGURES: dict[str, Figure] = {
    "files_touched_new_model": Figure(
        "<= 1", "files", module("seams"), "files of facta that a new encoder or model touches beside its own"
    ),
    "cached_states_max_error": Figure(
        "<= 1e-11",
        "",
        module("seams"),
        "predictions with a memory against without, float64, all layouts and encoders",
    ),
}

ENCODERS: tuple[EncoderConfig, ...] = (
    HSTUConfig(heads=2, bias="both"),
    HSTUProductionConfig(heads=2),
    FuXiLinearConfig(heads=2),
    TransformerConfig(heads=2),
    TransformerConfig(heads=2, preset="modern"),
    LiGRConfig(heads=2),
    GRUConfig(),
)
SEEDS = range(5)


def walked() -> dict[str, float]:
    """Encoder and case -> the largest difference over some walks."""
    found = {}
    for encoder in ENCODERS:
        for name, case in cases(encoder).items():
            if case.hides:  # nothing is kept of rows that see both ways
                continue
            if isinstance(encoder, GRUConfig):  # recurrence has no prefix that sees itself, and no target aside
                case = replace(case, users=False, aside="next" in name or not case.layout.tokens_before("feedback"))  # type: ignore[union-attr]
            model = case.build().eval()
            assert isinstance(model, Recommender)
            found[f"{encoder.kind} {name}"] = max(memory_error(case, model, seed) for seed in SEEDS)  # type: ignore[attr-defined]
    return found


def main() -> None:
    look = looking(__doc__)
    with tempfile.TemporaryDirectory() as place:
        files = touched(Path(place) / "copy", facta.prepare(worlds.cycle(), Path(place) / "log"))
    errors = walked()
    worst = max(errors, key=lambda name: errors[name])
    said = f"{len(errors)} models, {len(SEEDS)} walks of each; the largest of {worst}"
    print(f"files_touched_new_model {files}; cached_states_max_error {errors[worst]:.1e}; {said}")
    if not look:
        record("files_touched_new_model", files)
        record("cached_states_max_error", errors[worst], note=said)


if __name__ == "__main__":
    main()
