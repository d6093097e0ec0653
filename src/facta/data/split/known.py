"""A dataset without the events of items that a model does not know.

Rows are append-only, so a model knows the first V rows of a dataset that was prepared from its catalogue.

Letters: U users, E events, V known items.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import TypeVar

from facta import arrays, jagged
from facta.arrays import Ints
from facta.data.dataset.dataset import Dataset
from facta.data.dataset.features import Feature
from facta.data.split.splits import Requests

R = TypeVar("R", bound=Requests)


def known_part(dataset: Dataset, requests: R, items: int) -> tuple[Dataset, R]:
    """The events of the first `items` items, and the same requests over these events.

    The relevant items of a request do not change. Costs a copy of the events if there are unknown items.
    """
    if items >= dataset.num_items:
        return dataset, requests
    before = known_before(dataset, items)
    start = dataset.offsets[requests.user]
    return known_events(dataset, items), replace(requests, end=before[start + requests.end] - before[start])


def known_before(dataset: Dataset, items: int) -> Ints:
    """[E+1] how many events before each place of the dataset are of known items."""
    return arrays.offsets_of(dataset.item < items)


def known_events(dataset: Dataset, items: int) -> Dataset:
    """The dataset without the events of unknown items. Lists of items in the facts of users lose the unknown ones."""
    kept = dataset.item < items
    found = copy.copy(dataset)
    found.manifest = dataset.manifest.model_copy(update={"items": items, "events": int(kept.sum())})
    found.offsets = arrays.offsets_of(kept)[dataset.offsets]
    found.item = dataset.item[kept]
    found.timestamp = None if dataset.timestamp is None else dataset.timestamp[kept]
    found.delays = {name: values[kept] for name, values in dataset.delays.items()}
    found.fields = {name: values[kept] for name, values in dataset.fields.items()}
    found.__dict__["items"] = dataset.items.head(items)
    found.__dict__["user_facts"] = {name: _known_fact(fact, items) for name, fact in dataset.user_facts.items()}
    return found


def _known_fact(fact: Feature, items: int) -> Feature:
    """A list of items holds rows + 1."""
    if fact.field.kind != "items" or fact.offsets is None:
        return fact
    kept = fact.values <= items
    return replace(fact, values=fact.values[kept], offsets=jagged.offsets_of(kept)[fact.offsets])
