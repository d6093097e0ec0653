"""The learning alarm: if a model does not beat popularity after some validations, the run says where to look.

Popularity ignores the history. A model that still ranks no better has most often a wrong input (time unit, order, ids)
or a wrong learning rate, and more epochs do not help.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from facta import jagged
from facta.types import Negatives, SequenceBatch

SHORT_GAP_MS, LONG_GAP_MS = 1_000, 10 * 365 * 86_400_000
MANY_TIES_SHARE = 0.2
FLAT_LOSS_SHARE = 0.02
FEW_NEGATIVES = 64


@dataclass(frozen=True)
class Evidence:
    """The measurements that the advice is based on."""

    epoch_losses: Sequence[float]
    learning_rate: float
    batch: SequenceBatch  # any batch of the run
    negatives: Negatives
    num_items: int


def is_behind(values: Sequence[float], popularity: float, after: int) -> bool:
    """True once, at validation number `after`, if none so far beat popularity."""
    return len(values) == after and max(values) <= popularity


def advice(evidence: Evidence) -> list[str]:
    """Sentences on possible causes, most suspicious first, each with its measured number."""
    findings = [_time_unit(evidence.batch), _learning_rate(evidence), _negatives(evidence), _ties(evidence.batch)]
    known = [finding for finding in findings if finding is not None]
    return [text for _, text in sorted(known, key=lambda finding: not finding[0])]


Finding = tuple[bool, str]
"""Suspicious, sentence."""


def _gaps(batch: SequenceBatch) -> torch.Tensor | None:
    """Milliseconds between consecutive events of a user."""
    if batch.events.time is None:
        return None
    row = jagged.rows(batch.offsets)
    return batch.events.time.diff()[row[1:] == row[:-1]]


def _time_unit(batch: SequenceBatch) -> Finding | None:
    gaps = _gaps(batch)
    if gaps is None or not bool((gaps > 0).any()):
        return None
    median = int(gaps[gaps > 0].median())
    strange = not SHORT_GAP_MS <= median <= LONG_GAP_MS
    return strange, (
        f"Time unit: the median gap between a user's events is {_duration(median)}"
        + ("; that is unlikely, so name the unit when preparing the data." if strange else ", which looks right.")
    )


def _learning_rate(evidence: Evidence) -> Finding:
    first, last = evidence.epoch_losses[0], evidence.epoch_losses[-1]
    flat = last > first * (1 - FLAT_LOSS_SHARE)
    text = f"learning rate {evidence.learning_rate:g}, epoch loss {first:.4g} → {last:.4g}"
    if flat:
        return True, f"Learning rate: the loss is flat or rises ({text}); try ten times more and ten times less."
    return (
        False,
        f"Learning rate: the loss falls ({text}); if validation does not follow, try less of it or more dropout.",
    )


def _negatives(evidence: Evidence) -> Finding:
    shared = 0 if evidence.negatives.shared is None else evidence.negatives.shared.numel()
    drawn = shared + evidence.negatives.each
    if drawn == 0:
        return (
            False,
            f"Negatives: none are drawn, so the loss must compare with all {evidence.num_items:,} items itself.",
        )
    few = drawn < min(FEW_NEGATIVES, evidence.num_items)
    return few, (
        f"Negatives: {drawn:,} a target for {evidence.num_items:,} items"
        + ("; more of them, or the full softmax, rank better." if few else ".")
    )


def _ties(batch: SequenceBatch) -> Finding | None:
    gaps = _gaps(batch)
    if gaps is None or not gaps.numel():
        return None
    share = float((gaps == 0).double().mean())
    many = share > MANY_TIES_SHARE
    return many, (
        f"Ties: {share:.0%} of neighbouring events share a timestamp"
        + ("; their order is that of the input, and may be nothing to learn from." if many else ".")
    )


def _duration(ms: float) -> str:
    for unit, size in (("years", 365 * 86_400_000), ("days", 86_400_000), ("hours", 3_600_000), ("minutes", 60_000)):
        if ms >= 2 * size:
            return f"{ms / size:.3g} {unit}"
    return f"{ms / 1000:.3g} seconds"
