"""AdamW in groups, and the learning rate as a pure function of the step.

AdamW: Loshchilov and Hutter 2019; betas (.9, .98) and no weight decay are the published HSTU and SASRec settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch.nn import Parameter

from facta.config import Config
from facta.errors import ConfigError


class OptimiserConfig(Config):
    """How weights move."""

    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"  # cosine ends at 0 with the last epoch
    warmup_steps: int = Field(0, ge=0)  # linear from 0, times the schedule
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: dict[str, float] = {}  # by parameter group; a group that is not named has none
    clip_norm: float | None = Field(None, gt=0)  # of the whole gradient


def adamw(groups: Mapping[str, Sequence[Parameter]], config: OptimiserConfig) -> torch.optim.AdamW:
    """One optimiser group per parameter group.

    Raises ConfigError where `weight_decay` names a group that the model does not have.
    """
    unknown = set(config.weight_decay) - set(groups)
    if unknown:
        raise ConfigError(
            f"weight_decay names the parameter group {', '.join(map(repr, sorted(unknown)))}; "
            f"this model has {', '.join(groups)}."
        )
    members = [parameter for group in groups.values() for parameter in group]
    assert len({id(parameter) for parameter in members}) == len(members), "a parameter stands in two groups"
    settings = [
        {"params": list(group), "weight_decay": config.weight_decay.get(name, 0.0)} for name, group in groups.items()
    ]
    return torch.optim.AdamW(
        [group for group in settings if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,  # one pass over memory in place of about ten; the same numbers on every run
    )


def learning_rate(config: OptimiserConfig, step: int, done: float) -> float:
    """The rate of optimiser step `step` (from 0), before which the share `done` of all epochs is done."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay = 1.0 if config.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * warm * decay
