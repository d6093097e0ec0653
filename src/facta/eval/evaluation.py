"""Evaluation: a ranker answers every request of a protocol over the full catalogue; results are stored per user.

Letters: Q requests, U users among them, V items, k the longest list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

import numpy as np
import torch
from torch import nn

from facta import arrays
from facta.arrays import Bools, Ints
from facta.data.batches.dataset_requests import request_batch, told
from facta.data.batches.spec import InputSpec
from facta.data.batches.windows import window_length
from facta.data.dataset.dataset import Dataset
from facta.data.split.known import known_part
from facta.data.split.splits import Requests
from facta.errors import ConfigError, ProtocolError
from facta.eval.experiment import Experiment
from facta.eval.fitting import Fitting
from facta.eval.metrics import coverage, mean_per_user, ranking_metrics
from facta.eval.protocol import ProtocolConfig, Stage, check_order
from facta.eval.result import Result
from facta.retrieval.exact import UNREACHABLE
from facta.retrieval.index import Index
from facta.retrieval.item_sets import ItemSets, keep, take
from facta.types import Ranker, to_device

KS = (1, 5, 10, 20)


class HistoryRanker(Ranker, Protocol):
    """A ranker that states its inputs."""

    @property
    def window_of_requests(self) -> int:
        """The most events of a history in a request."""
        ...

    @property
    def inputs(self) -> InputSpec:
        """Its inputs beside items and times, and the context of the held-out event that requests give (none if a
        request is for several events).
        """
        ...


def evaluate(
    ranker: HistoryRanker,
    experiment: Experiment,
    *,
    stage: Stage = "test",
    ks: Sequence[int] = KS,
    batch_size: int = 256,
    counts: Ints | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Every metric of every user of a stage; no user with a visible history is sampled, capped or dropped.

    `counts` [V]: training events of each item of the ranker's catalogue. Histories without trained items then get the
    popularity fallback, as in `recommend`, without the ranker. If the dataset has more items (rows from V on), their
    events are left out of histories, as in `recommend`, and as targets they are misses. `progress` is called with
    (requests done, requests in all). Raises ProtocolError if the protocol is undefined for this dataset.
    """
    dataset, protocol = experiment.dataset, experiment.protocol
    check_order(dataset)
    asking = _Asking(dataset, protocol, stage, experiment.requests(stage), experiment.ranked_items, counts)
    return asking.measure(ranker, ks, batch_size, progress)


def validate(ranker: HistoryRanker, fitting: Fitting, *, ks: Sequence[int] = KS) -> Result:
    """`evaluate` on the validation requests, with the counts of training: the only evaluation for fitting."""
    dataset, counts = fitting.dataset, fitting.statistics.counts.numpy()
    check_order(dataset)
    requests = fitting.split.validation
    asking = _Asking(dataset, fitting.protocol, "validation", requests, fitting.ranked_items, counts)
    return asking.measure(ranker, ks)


@dataclass(frozen=True)
class _Asking:
    """The requests and items of an evaluation, shared by `evaluate` and `validate`."""

    dataset: Dataset
    protocol: ProtocolConfig
    stage: Stage
    requests: Requests
    ranked: Ints  # [V']
    counts: Ints | None

    def measure(
        self,
        ranker: HistoryRanker,
        ks: Sequence[int],
        batch_size: int = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        if not ks or min(ks) < 1:
            raise ConfigError(f"Found ks {tuple(ks)}; expected at least one list length, each at least 1.")
        dataset, requests, counts = self.dataset, self.requests, self.counts
        items = dataset.num_items if counts is None else len(counts)
        targets, ranked = _distinct(requests, dataset.num_items), self.ranked[self.ranked < items]
        known = targets.items < items
        reachable, at = keep(targets, known), np.flatnonzero(known)
        seen, visible = known_part(dataset, requests, items)
        context = told(dataset, requests, ranker.inputs)
        ranks = np.full(len(targets.items), UNREACHABLE)
        lists = np.empty((len(requests), max(ks)), dtype=np.int32)
        done, readable = 0, _readable(seen, visible, counts)
        with eval_mode(ranker) as device:
            index = Index.of(ranker, ranked, items, device)
            popularity = None if counts is None else index.cut(torch.from_numpy(counts.astype(np.float32))[None])
            window = ranker.window_of_requests
            stride, spec = self.protocol.stride, ranker.inputs
            for rows in _batches(visible, readable, batch_size, window=window, stride=stride):
                if popularity is None or readable[rows[0]]:
                    batch = request_batch(seen, visible, rows, window, spec, stride=stride, context=context)
                    scores = index.scores(ranker, to_device(batch, device))
                else:
                    scores = popularity.expand(len(rows), -1)
                asked, places = take(reachable, rows)
                masked = _masked(seen, visible, rows, self.protocol.masked_events)
                found = index.rank(scores, asked, masked, max(ks))
                ranks[at[places]], lists[rows] = found.ranks, found.lists
                done += len(rows)
                if progress is not None:
                    progress(done, len(requests))
        user, place = np.unique(requests.user, return_inverse=True)
        values = ranking_metrics(ranks, targets.offsets, ks)
        return Result(
            protocol=self.protocol.id,
            stage=self.stage,
            dataset=dataset.content_hash,
            ranked=len(ranked),
            requests=len(requests),
            unreachable=float(np.mean((ranks == UNREACHABLE) & known)),
            coverage={f"Coverage@{k}": coverage(lists[:, :k], len(ranked)) for k in sorted(set(ks))},
            user=user,
            history=mean_per_user(requests.end.astype(np.float64), place),
            values={name: mean_per_user(column, place) for name, column in values.items()},
            lists=lists,
            asked=_population(requests, counts),
            told=tuple(context),
        )


def _population(requests: Requests, counts: Ints | None) -> dict[str, int]:
    """Numbers of held-out and asked users and events, and of targets that no model could learn."""
    found = {
        "held_out_users": requests.held_users,
        "held_out_events": requests.held_events,
        "asked_users": len(np.unique(requests.user)),
        "asked_events": len(requests.item),
    }
    if counts is not None:
        known = requests.item < len(counts)
        found["unknown_targets"] = int((~known).sum())
        found["untrained_targets"] = int((counts[requests.item[known]] == 0).sum())
    return found


@contextmanager
def eval_mode(ranker: object) -> Iterator[torch.device]:
    """Without gradients and, for a module, in evaluation mode; yields its device and restores its training mode."""
    if not isinstance(ranker, nn.Module):
        yield torch.device("cpu")
        return
    training = ranker.training
    ranker.eval()
    try:
        with torch.no_grad():
            yield next(chain(ranker.parameters(), ranker.buffers()), torch.empty(0)).device
    finally:
        ranker.train(training)


def _readable(dataset: Dataset, requests: Requests, counts: Ints | None) -> Bools:
    """[Q] whether the visible history has an item with training events; all true without counts."""
    if counts is None:
        return np.ones(len(requests), dtype=np.bool_)
    before, start = arrays.offsets_of(counts[dataset.item] > 0), dataset.offsets[requests.user]
    readable: Bools = before[start + requests.end] > before[start]
    return readable


def _batches(requests: Requests, readable: Bools, size: int, *, window: int, stride: int) -> Iterator[Ints]:
    """Rows of requests, readable ones or others, longest histories first: batches of equal lengths waste least, and a
    lack of memory shows early.
    """
    order = np.argsort(-window_length(requests.end, window, stride), kind="stable")
    for together in (order[readable[order]], order[~readable[order]]):
        for start in range(0, len(together), size):
            yield together[start : start + size]


def _distinct(requests: Requests, items: int) -> ItemSets:
    """The relevant items of each request, each once, in row order."""
    pairs = np.unique(arrays.rows(requests.offsets) * items + requests.item)
    counts = np.bincount(pairs // items, minlength=len(requests))
    if counts.min(initial=1) == 0:
        raise ProtocolError(f"Request number {int(np.argmin(counts))} has no relevant item; each needs one.")
    return ItemSets(arrays.offsets_of(counts), pairs % items)


def _masked(dataset: Dataset, requests: Requests, rows: Ints, newest: int | None) -> ItemSets:
    """The items of each request's newest visible events (None: of all), which may not be recommended again."""
    end = requests.end[rows]
    lengths = end if newest is None else np.minimum(end, newest)
    places = arrays.spans(dataset.offsets[requests.user[rows]] + end - lengths, lengths)
    return ItemSets(arrays.offsets_of(lengths), dataset.item[places].astype(np.int64))
