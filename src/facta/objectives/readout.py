"""The read-out of an objective: the states of its targets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from facta.types import Events, Fact, SequenceBatch, TokenBatch


@dataclass(frozen=True)
class ReadOut:
    """S' targets, and the state read for each."""

    states: Tensor  # [S', D]
    events: Events  # [S']
    weight: Tensor  # [S']
    late: Tensor | None = None  # [S', D · facts] late facts of the targets
    target: Tensor | None = None  # [S'] index of each target among the batch's S; None: all, in order


def targets_read(
    batch: SequenceBatch, tokens: TokenBatch, fact: Fact, *, all_targets: bool
) -> tuple[Events, Tensor, Tensor | None]:
    """The S' targets of an objective, their weights, and their indices among all S; None: all of them."""
    targets, read = batch.targets, tokens.reads[fact].target
    if all_targets:
        return targets.events, targets.weight, None
    return _pick(targets.events, read), targets.weight[read], read


def _pick(events: Events, chosen: Tensor) -> Events:
    return Events(
        item=events.item[chosen],
        time=None if events.time is None else events.time[chosen],
        key=events.key[chosen],
        fields={name: column[chosen] for name, column in events.fields.items()},
    )
