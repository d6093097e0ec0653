"""What a model reads of events, users and requests."""

from __future__ import annotations

from dataclasses import dataclass

from facta.data.batches.cloze import ClozeConfig


@dataclass(frozen=True)
class InputSpec:
    """What a model reads beside items and times."""

    fields: tuple[str, ...] = ()  # context and feedback of events
    users: tuple[str, ...] = ()  # constant facts of users
    lists: tuple[str, ...] = ()  # earlier histories of users, without times
    series: bool = False  # facts of users that change
    own: bool = False  # it predicts feedback: of events among its inputs
    ahead: bool = False  # from what it has read before the event (and not where the event's own item is shown)
    told: tuple[str, ...] = ()  # context of the event that a request for its item says
    cloze: ClozeConfig | None = None  # which events of a training row are hidden and predicted; None: none
