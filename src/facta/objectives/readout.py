"""What an objective is given: the states read for its targets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from facta.types import Events


@dataclass(frozen=True)
class ReadOut:
    """S' targets, and the state read for each."""

    states: Tensor  # [S', D]
    events: Events  # [S']
    weight: Tensor  # [S']
    late: Tensor | None = None  # [S', D · facts] of the targets that the states have not seen
    target: Tensor | None = None  # [S'] which of the batch's S targets these are; None: all, in order
