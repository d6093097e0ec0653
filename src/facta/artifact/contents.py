"""The contents of an artifact in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from facta.artifact.calibration import Calibrator
from facta.models.model import Model


@dataclass(frozen=True, eq=False)
class ArtifactData:
    """The contents of an artifact."""

    config: Mapping[str, Any]  # the recipe as plain values
    schema: Mapping[str, Any]  # the dataset's manifest as plain values
    catalogue: pl.DataFrame  # row, item_id, training_events, features
    model: Model
    metrics: Sequence[Mapping[str, Any]] = ()  # each with its protocol id
    fingerprint: str = ""  # empty until saved
    calibration: Mapping[str, Calibrator] = field(default_factory=dict)  # feedback field -> the calibrator of its score
