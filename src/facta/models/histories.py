"""facta's own readers of histories; a new one is added here."""

from __future__ import annotations

from typing import Annotated

from facta.kinds import Kinds
from facta.models.history import BSTConfig, DINConfig, HistoryConfig
from facta.models.sim import SIMConfig
from facta.models.transact import TransActConfig
from facta.models.twin import TWINConfig

__all__ = ["BSTConfig", "DINConfig", "HistoryConfig", "SIMConfig", "TWINConfig", "TransActConfig"]
"""The configs that `facta.configs` exports."""

AnyHistory = Annotated[
    HistoryConfig, Kinds(HistoryConfig, (DINConfig, BSTConfig, SIMConfig, TWINConfig, TransActConfig))
]
"""The type of a config's field that holds a reader of histories."""
