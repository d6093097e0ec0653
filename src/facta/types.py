"""The types that the parts of facta exchange: batches, tokens, reads, losses and scores.

Letters: B users, E input events, S targets, T tokens, V catalogue items, P width of a query. A jagged field is values
beside `offsets [B+1]`. Facts of an event become known in the order time < context < item < feedback; a prediction of
a fact may depend on earlier facts and on nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast

import torch
from torch import Tensor

Fact = Literal["time", "context", "item", "feedback"]
"""The facts of one event, in the order in which they become known."""

HIDDEN, LIST, PREFIX, SERIES = -4, -3, -2, -1
"""Kinds of tokens that are not of an event; tokens of an event count 0 … m - 1."""


@dataclass(frozen=True)
class Events:
    """E events, field by field."""

    item: Tensor  # [E] int64 catalogue row; -1: not given (a request asks for it)
    time: Tensor | None  # [E] int64 milliseconds; None: the data has only an order
    key: Tensor  # [E] int64, of (seed, epoch, user, place): all random draws of the event derive from it
    fields: Mapping[str, Tensor] = field(default_factory=dict)  # [E] context and feedback columns


@dataclass(frozen=True)
class Targets:
    """S events to be predicted; each sees `num_visible` input events of its row (`data/split/visibility.py`)."""

    offsets: Tensor  # [B+1]
    events: Events  # [S]; a request gives no item and no feedback
    num_visible: Tensor  # [S] visible input events of the row, 0..n
    input_index: Tensor  # [S] place of the target among its row's input events; -1: not an input
    weight: Tensor  # [S] float32; 0: no loss (the papers' ∅)
    sees: Tensor | None = None  # [S] it may see events with `index` below this; None: all of these are inputs
    until: Tensor | None = None  # [S] ms: changes of the user's facts from then on are hidden; None: from its own time
    index: Tensor | None = None  # [S] its place in the user's window; None: after the newest event that it sees


@dataclass(frozen=True)
class Series:
    """Slowly changing facts of the users, only where they change: A entries, each row's in the order of time."""

    offsets: Tensor  # [B+1]
    field: Tensor  # [A] which series
    value: Tensor  # [A] its new value
    time: Tensor | None  # [A] int64 ms
    after: Tensor  # [A] input events of the row before the change; a change at an event's instant comes after it
    key: Tensor  # [A] int64


@dataclass(frozen=True)
class Lists:
    """Earlier histories without times: for every row, lists of items in order, one after the other."""

    offsets: Tensor  # [B+1]
    which: Tensor  # [L] which list
    item: Tensor  # [L] catalogue rows; -1: not in the catalogue


@dataclass(frozen=True)
class SequenceBatch:
    """Histories and targets: the one batch type of training, evaluation and requests."""

    offsets: Tensor  # [B+1] of the input events, oldest first
    events: Events  # [E]
    index: Tensor  # [E] place in the user's window; gaps keep their true distance
    next_time: Tensor | None  # [E] int64 ms: time of the true successor; of the request for the newest event
    targets: Targets
    key: int = 0  # int64, of (seed, epoch, step): the draws that all rows of a training step share derive from it
    series: Series | None = None
    user: Mapping[str, Tensor] = field(default_factory=dict)  # [B] constant facts of the users
    lists: Lists | None = None
    dropped: int = 0  # input events that Stochastic Length left out


@dataclass(frozen=True)
class Read:
    """Which state is read for which target: state[j] predicts target[j]. A target without a state has no entry."""

    state: Tensor  # [S'] index into the T tokens
    target: Tensor  # [S'] index into the S targets
    late: tuple[Fact, ...] = ()  # earlier facts that this state has not seen and the objective may add


@dataclass(frozen=True)
class TokenBatch:
    """Structure of T tokens for the encoder; their vectors are passed beside it."""

    offsets: Tensor  # [B+1]
    kind: Tensor  # [T] which token of an event, 0 and up; below 0: of a hidden event, of the prefix, of a series
    source: Tensor  # [T] its source: an input event, E + s for a standalone target s, or an entry of prefix or series
    time: Tensor | None  # [T] int64 ms, its own time: the key side
    query_time: Tensor | None  # [T] int64 ms, the time it looks back from: the query side
    position: Tensor  # [T] `index` of its event
    sees: Tensor  # [T] it attends to this many leading tokens of its row, and to itself
    key: Tensor  # [T] int64: the token's random draws derive from it
    reads: Mapping[Fact, Read]


class LossSum(NamedTuple):
    """A loss as (Σ weight · loss, Σ weight). Only the trainer divides, after it has added up micro-steps."""

    total: Tensor
    weight: Tensor

    def mean(self) -> Tensor:
        return self.total / self.weight.clamp_min(1e-12)


@dataclass(frozen=True)
class Negatives:
    """Negative items of a loss, drawn by `data/batches/negatives.py`."""

    shared: Tensor | None = None  # [R] rows used by every target
    log_q: Tensor | None = None  # [R] log of the expected appearances of each shared row: lowers its logit
    log_q_positive: Tensor | None = None  # [S] the same correction of the positives' logits; None: not corrected
    each: int = 0  # uniform draws per target, a function of the target's key alone


@dataclass(frozen=True)
class FactoredScores:
    """Scores of every item in factored form: scores = queries @ items.T."""

    queries: Tensor  # [S, P]
    items: Tensor  # [V, P]

    def dense(self) -> Tensor:
        return self.queries @ self.items.T


CatalogueScores = FactoredScores | Tensor
"""Scores of S requests over the whole catalogue: factored, or dense [S, V]."""


class Ranker(Protocol):
    """The interface of models and baselines for evaluation and recommendation."""

    def catalogue_scores(self, batch: SequenceBatch) -> CatalogueScores:
        """One row of scores over the catalogue per target of the batch; higher is better."""
        ...


@dataclass(frozen=True)
class Cost:
    """What a model costs, stated by the model itself; operations are of the forward pass, multiply and add two."""

    parameters: Mapping[str, int]  # by group
    flops_per_token: float
    activation_bytes_per_token: float  # activations for the backward pass in the backend in use, float32
    cache_bytes_per_token: float = 0.0  # cache (keys and values) per token
    flops_per_target: float = 0.0  # heads and losses in training
    table_bytes: int = 0  # item vectors, and the tables that map items to them


Moved = TypeVar("Moved")


def to_device(value: Moved, device: torch.device | str) -> Moved:
    """The same batch (or part of one) with every tensor on `device`."""
    moved: Any = value
    if isinstance(value, Tensor):
        moved = value.to(device)
    elif isinstance(value, Mapping):
        moved = {name: to_device(item, device) for name, item in value.items()}
    elif is_dataclass(value) and not isinstance(value, type):
        moved = replace(value, **{f.name: to_device(getattr(value, f.name), device) for f in fields(value)})
    return cast(Moved, moved)
