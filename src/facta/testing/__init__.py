"""The contract of parts and models, for tests of your own: `check_encoder(MyEncoderConfig())`.

Every function raises AssertionError if the contract is broken.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from facta.data.batches.cloze import ClozeConfig
from facta.encoders.encoder import EncoderConfig
from facta.encoders.hstu import HSTUConfig
from facta.layers.embedding import EmbeddingConfig
from facta.layouts.layout import LAYOUTS, named
from facta.models.model import ModelConfig
from facta.models.recommender import RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.objectives.next_item import NextItemConfig
from facta.similarity.similarity import SimilarityConfig
from facta.testing.case import Case
from facta.testing.contract import CHECKS, check

__all__ = ["CHECKS", "Case", "cases", "check", "check_encoder", "check_layout", "check_model", "check_similarity"]

TASKS = {
    "next-item": (NextItemConfig(), None),
    "feedback": (None, FeedbackConfig()),
    "joint": (NextItemConfig(), FeedbackConfig()),
}


def cases(
    encoder: EncoderConfig, layouts: tuple[str, ...] = tuple(LAYOUTS), *, rates: bool = False, gaps: bool = False
) -> dict[str, Case]:
    """Cases of an encoder in every layout and task that it supports, by "layout-task"."""
    embedding = EmbeddingConfig(gaps=gaps, features=True, hidden_ids=0.3)
    found = _hiding(encoder, [layout for layout in layouts if named(layout).both_ways])
    for layout in (layout for layout in layouts if not named(layout).both_ways):
        for task, (next_item, feedback) in TASKS.items():
            if feedback is not None and "feedback" not in {fact for token in named(layout).shows for fact in token}:
                continue
            config = RecommenderConfig(
                window=10, width=8, layout=layout, encoder=encoder,
                embedding=embedding.change(rates=5.0) if rates and feedback is not None else embedding,
                next_item=next_item, feedback=feedback,
            )  # fmt: skip
            found[f"{layout}-{task}"] = Case(config, looks_back=bool(encoder.settings_without_time), gaps=gaps)
    return found


def _hiding(encoder: EncoderConfig, layouts: Sequence[str]) -> dict[str, Case]:
    """Cases of layouts with masked events, for encoders that see both ways and read no times."""
    if not encoder.both_ways or encoder.settings_without_time:
        return {}
    model = RecommenderConfig(
        window=10, width=8, layout="cloze", cloze=ClozeConfig(), encoder=encoder,
        embedding=EmbeddingConfig(features=True, hidden_ids=0.3),
    )  # fmt: skip
    return {f"{layout}-next-item": Case(model.change(layout=layout), aside=False) for layout in layouts}


def check_encoder(config: EncoderConfig, *, sees_all: bool = True) -> None:
    """Check an encoder under every layout and objective. `sees_all=False`: it may ignore earlier events."""
    for case in cases(config).values():
        check(_as(case, sees_all))


def check_layout(name: str) -> None:
    """Check a layout, by its name or `module:NAME`, under every objective that it supports."""
    bias: Literal["position", "both"] = "position" if named(name).both_ways else "both"
    for case in cases(HSTUConfig(heads=2, bias=bias), (name,)).values():
        check(case)


def check_similarity(config: SimilarityConfig) -> None:
    """Check a similarity with the full softmax and with drawn negatives."""
    for loss in ({"kind": "softmax"}, {"kind": "sampled-softmax"}, {"kind": "bce"}):
        next_item = NextItemConfig.parse({"similarity": config, "loss": loss})
        model = RecommenderConfig(window=10, width=8, encoder=HSTUConfig(heads=2), next_item=next_item)
        check(Case(model, looks_back=True))


def check_model(config: ModelConfig, **facts: bool) -> None:
    """Check a whole model; `facts`: those that it reads (`Case`)."""
    check(Case(config, **facts))


def _as(case: Case, sees_all: bool) -> Case:
    return Case(**{**vars(case), "sees_all": sees_all})
