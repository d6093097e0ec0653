"""What a model reads of events, users and requests."""

from __future__ import annotations

from dataclasses import dataclass

from facta.data.batches.cloze import ClozeConfig


@dataclass(frozen=True)
class InputSpec:
    """The inputs of a model beside items and times."""

    fields: tuple[str, ...] = ()  # context and feedback of events
    users: tuple[str, ...] = ()  # constant facts of users
    lists: tuple[str, ...] = ()  # earlier histories of users, without times
    series: bool = False  # facts of users that change
    targets_are_inputs: bool = False  # targets are input events (feedback models)
    reads_token_before: bool = False  # targets are read from the token before their event
    told: tuple[str, ...] = ()  # context fields that a request for the next item gives
    cloze: ClozeConfig | None = None  # which events of a training row are masked and predicted; None: none
