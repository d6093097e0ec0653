"""Facts of users beside their events: constant facts, and lists of earlier items.

Letters: B rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from facta import jagged
from facta.arrays import Ints
from facta.data.batches.spec import InputSpec
from facta.data.dataset.dataset import Dataset
from facta.types import Lists


def facts(dataset: Dataset, user: Ints, spec: InputSpec) -> dict[str, Tensor]:
    """[B] constant facts of the users, in codes."""
    return {name: dataset.user_facts[name].values[torch.from_numpy(user)] for name in spec.users}


def lists(dataset: Dataset, user: Ints, spec: InputSpec) -> Lists | None:
    """Earlier histories of the users, list after list in each row."""
    if not spec.lists:
        return None
    users, parts = torch.from_numpy(user), [dataset.user_facts[name] for name in spec.lists]
    lengths = torch.stack([jagged.lengths(part.offsets)[users] for part in parts if part.offsets is not None], dim=1)
    first = torch.stack([part.offsets[users] for part in parts if part.offsets is not None], dim=1)
    at = jagged.spans(first.flatten(), lengths.flatten())
    which = torch.arange(len(parts)).repeat(len(users)).repeat_interleave(lengths.flatten())
    rows = torch.empty_like(at)
    for number, part in enumerate(parts):
        own = which == number
        rows[own] = part.values[at[own]] - 1
    return Lists(jagged.offsets_of(lengths.sum(dim=1)), which, rows)
