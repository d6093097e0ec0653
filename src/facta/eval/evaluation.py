"""Evaluation: ask a ranker every request of a protocol, rank the full catalogue, keep what each user got.

Letters: Q requests, U users among them, V items, k the longest list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facta import arrays
from facta.arrays import Bools, Floats, Ints
from facta.data.batches import Wants, request_batch
from facta.data.histories import Dataset
from facta.data.splits import Requests, Split
from facta.errors import ConfigError, ProtocolError
from facta.eval.metrics import coverage, mean_per_user, ranking_metrics
from facta.eval.protocol import ProtocolConfig, Stage, check_order
from facta.eval.ranking import UNREACHABLE, rank_catalogue
from facta.eval.result import Result
from facta.eval.sets import ItemSets, take
from facta.types import Ranker, to_device

KS = (1, 5, 10, 20)


def evaluate(
    ranker: Ranker,
    dataset: Dataset,
    protocol: ProtocolConfig,
    *,
    window: int,
    wants: Wants = Wants(),
    stage: Stage = "test",
    ks: Sequence[int] = KS,
    batch_size: int = 256,
    split: Split | None = None,
    counts: Ints | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Every metric of every user of a stage; no user with a visible history is sampled, capped or dropped.

    `window`: how many of the newest visible events the ranker is shown; `wants`: what it reads of them beside items and
    times. `split` saves cutting again. `counts` [V]: the training events of each item; a history that shows no item
    with any is then answered with the most popular items, as people are, and the ranker is not asked. `progress` is
    told (requests done, requests in all). Raises ProtocolError where the protocol is undefined for this dataset.
    """
    if not ks or min(ks) < 1:
        raise ConfigError(f"Found ks {tuple(ks)}; expected at least one list length, each at least 1.")
    check_order(dataset)
    requests = protocol.requests(dataset, stage, split)
    targets, ranked = _distinct(requests, dataset.num_items), protocol.ranked_items(dataset, split)
    ranks = np.empty(len(targets.items), dtype=np.int64)
    lists = np.empty((len(requests), max(ks)), dtype=np.int32)
    done, readable = 0, _readable(dataset, requests, counts)
    with judging(ranker) as device:
        for rows in _batches(requests, readable, window, batch_size):
            if counts is None or readable[rows[0]]:
                batch = to_device(request_batch(dataset, requests, rows, window, wants), device)
                scores = to_device(ranker.catalogue_scores(batch), "cpu")
            else:
                scores = torch.from_numpy(counts.astype(np.float32)).expand(len(rows), -1)
            asked, places = take(targets, rows)
            masked = _masked(dataset, requests, rows, protocol.masked_events)
            found = rank_catalogue(scores, asked, masked, max(ks), ranked)
            ranks[places], lists[rows] = found.ranks, found.lists
            done += len(rows)
            if progress is not None:
                progress(done, len(requests))
    values = ranking_metrics(ranks, targets.offsets, ks)
    return _result(
        dataset, protocol, stage, requests, ks=ks, values=values, ranks=ranks, lists=lists, ranked=len(ranked)
    )


def _result(
    dataset: Dataset,
    protocol: ProtocolConfig,
    stage: Stage,
    requests: Requests,
    *,
    ks: Sequence[int],
    values: dict[str, Floats],
    ranks: Ints,
    lists: NDArray[np.int32],
    ranked: int,
) -> Result:
    user, place = np.unique(requests.user, return_inverse=True)
    return Result(
        protocol=protocol.id,
        stage=stage,
        dataset=dataset.content_hash,
        ranked=ranked,
        requests=len(requests),
        unreachable=float(np.mean(ranks == UNREACHABLE)),
        coverage={f"Coverage@{k}": coverage(lists[:, :k], ranked) for k in sorted(set(ks))},
        user=user,
        history=mean_per_user(requests.end.astype(np.float64), place),
        values={name: mean_per_user(column, place) for name, column in values.items()},
        lists=lists,
    )


@contextmanager
def judging(ranker: object) -> Iterator[torch.device]:
    """Without gradients and, for a module, without dropout, until its training mode returns; yields where it lives."""
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
    """[Q] whether a visible history has an item with training events; true without counts."""
    if counts is None:
        return np.ones(len(requests), dtype=np.bool_)
    before, start = arrays.offsets_of(counts[dataset.item] > 0), dataset.offsets[requests.user]
    readable: Bools = before[start + requests.end] > before[start]
    return readable


def _batches(requests: Requests, readable: Bools, window: int, size: int) -> Iterator[Ints]:
    """Rows of requests, readable ones or others, those with the longest histories first: equal lengths waste least, and
    memory fails early."""
    order = np.argsort(-np.minimum(requests.end, window), kind="stable")
    for together in (order[readable[order]], order[~readable[order]]):
        for start in range(0, len(together), size):
            yield together[start : start + size]


def _distinct(requests: Requests, items: int) -> ItemSets:
    """The relevant items of each request, each once, in row order."""
    pairs = np.unique(arrays.rows(requests.offsets) * items + requests.item)
    counts = np.bincount(pairs // items, minlength=len(requests))
    if counts.min(initial=1) == 0:
        raise ProtocolError(f"The request in place {int(np.argmin(counts))} has no relevant item; each needs one.")
    return ItemSets(arrays.offsets_of(counts), pairs % items)


def _masked(dataset: Dataset, requests: Requests, rows: Ints, newest: int | None) -> ItemSets:
    """The items of each request's newest visible events (None: of all), which may not be recommended again."""
    end = requests.end[rows]
    lengths = end if newest is None else np.minimum(end, newest)
    places = arrays.spans(dataset.offsets[requests.user[rows]] + end - lengths, lengths)
    return ItemSets(arrays.offsets_of(lengths), dataset.item[places].astype(np.int64))
