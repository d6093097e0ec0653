"""Settings derived from the size of a log, for recipes that work with any log.

A recipe names such settings in `derived`. The rules of thumb are interpolated from this package's recipes for logs of
known size (MovieLens 100K and 1M, Amazon Beauty), so that training takes minutes on two cores; each value has its
reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from facta.eval.fitting import Fitting
from facta.recipes.recipe import RecipeConfig

BUDGET_EVENTS = 30_000_000  # a model of width 64 reads about 150,000 events a second on two cores: some 4 minutes
STEPS_PER_EPOCH = 100  # steps of an epoch, about
VALIDATIONS = 10
KEYS = (
    "model.window",
    "model.width",
    "model.embedding.dropout",
    "model.encoder.dropout",
    "model.encoder.bias",
    "training.batch_size",
    "training.epochs",
    "training.validate_every",
)


@dataclass(frozen=True)
class LogSize:
    """Sizes of the training part of a log and of validation."""

    lengths: np.ndarray[Any, np.dtype[np.int64]]  # [U] training events of each user with two or more
    requests: int  # of validation
    timed: bool

    @classmethod
    def of(cls, fitting: Fitting) -> LogSize:
        events = fitting.split.train_end
        return cls(events[events >= 2], len(fitting.split.validation), fitting.dataset.timestamp is not None)


def sized(recipe: RecipeConfig, fitting: Fitting) -> RecipeConfig:
    """The recipe with its derived settings filled in; `derived` then holds the reason of each value."""
    if all(recipe.derived.values()):
        return recipe
    size = LogSize.of(fitting)
    reasons = {key: reason for key, reason in recipe.derived.items() if reason}
    for key in (key for key in KEYS if recipe.derived.get(key) == ""):  # in this order: epochs follow from the window
        if _exists(recipe, key):
            value, reason = _value(key, size, recipe)
            recipe = recipe.override({key: value})
            reasons[key] = f"{value}, because {reason}"
    return recipe.change(derived=reasons)


def _value(key: str, size: LogSize, recipe: RecipeConfig) -> tuple[Any, str]:
    """A value and its reason."""
    assert recipe.training is not None
    events, users = int(size.lengths.sum()), len(size.lengths)
    read = int(np.minimum(size.lengths, _setting(recipe, "model.window")).sum())
    match key:
        case "model.window":
            long = int(np.percentile(size.lengths, 95))
            return _power_of_two(long, 16, 256), f"95 % of the histories have at most {long:,} training events"
        case "model.width":
            width = 32 if events < 20_000 else 64 if events < 3_000_000 else 128
            return width, f"the log has {events:,} training events (32 below 20,000; 128 from 3 million)"
        case "model.embedding.dropout" | "model.encoder.dropout":
            dropout = 0.5 if events < 300_000 else 0.3 if events < 1_000_000 else 0.2
            return dropout, f"{events:,} training events overfit without dropout (.5 below 300,000; .2 from 1 million)"
        case "model.encoder.bias":
            return ("both", "the log has times") if size.timed else ("position", "the log has no times")
        case "training.batch_size":
            batch = _power_of_two(users // STEPS_PER_EPOCH, 16, 256)
            return batch, f"{users:,} users then make about {-(-users // batch):,} steps an epoch"
        case "training.epochs":
            cloze = _setting(recipe, "model.cloze")
            if cloze is not None:
                return _epochs_of_hidden(read, cloze.share)
            epochs = int(np.clip(BUDGET_EVENTS // max(read, 1), 3, 100))
            return epochs, f"an epoch reads {read:,} events, and about {BUDGET_EVENTS:,} take minutes (3 to 100 epochs)"
        case _:
            epochs = recipe.training.epochs
            asked = max(1, size.requests * int(np.ceil(read / max(users, 1))))
            validations = int(np.clip(BUDGET_EVENTS // asked, 3, VALIDATIONS))
            return max(1, epochs // validations), (
                f"a validation has {size.requests:,} requests, and {epochs} epochs are validated about {validations} "
                "times"
            )


def _epochs_of_hidden(read: int, share: float) -> tuple[int, str]:
    """Epochs of a masked (cloze) model: as many as learn the events that others learn."""
    epochs = int(np.clip(BUDGET_EVENTS / (share * max(read, 1)), 3 / share, 100 / share))
    return epochs, (
        f"an epoch reads {read:,} events and learns {share:.0%} of them, and about {BUDGET_EVENTS / share:,.0f} take "
        f"up to half an hour ({3 / share:.0f} to {100 / share:.0f} epochs)"
    )


def _power_of_two(least: int, low: int, high: int) -> int:
    """The smallest power of two that is at least `value`, within bounds that are powers of two."""
    return int(np.clip(1 << max(least - 1, 0).bit_length(), low, high))


def _exists(recipe: RecipeConfig, key: str) -> bool:
    """Whether the recipe has the setting; other kinds of encoders have others."""
    part, _, name = key.rpartition(".")
    return name in getattr(type(_setting(recipe, part)), "model_fields", {})


def _setting(recipe: RecipeConfig, key: str) -> Any:
    """The value of a dotted key; None if a part on the path is None or of a kind without the key."""
    part: Any = recipe
    for name in key.split("."):
        part = getattr(part, name, None)
    return part
