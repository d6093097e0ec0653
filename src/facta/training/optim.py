"""AdamW in groups, optionally row by row for tables, and the learning rate as a pure function of the step.

AdamW: Loshchilov and Hutter 2019; betas (.9, .98) and no weight decay are the published HSTU and SASRec settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import Parameter

from facta.config import Config
from facta.errors import ConfigError


class OptimiserConfig(Config):
    """Settings of the optimiser."""

    learning_rate: float = Field(1e-3, gt=0)
    schedule: Literal["constant", "cosine"] = "constant"  # cosine ends at 0 with the last epoch
    warmup_steps: int = Field(0, ge=0)  # linear from 0, times the schedule
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = Field(1e-8, gt=0)
    weight_decay: dict[str, float] = {}  # by parameter group; other groups have none
    clip_norm: float | None = Field(None, gt=0)  # of the norm of the whole gradient
    table: Literal["adam", "lazy-adam", "row-wise-adam"] = "adam"  # optimiser of the parameter group `table`


class AdamW(torch.optim.AdamW):
    """AdamW that in groups with `rows` updates only rows with a gradient, dense or row-sparse. Exact Adam (`rows` None)
    updates every row at every step, by its momentum.

    `lazy-adam`: Adam on these rows, with the step counter of the whole table. `row-wise-adam`: the same with one second
    moment a row, of the row's mean square (HSTU paper, section 3.3): 4 bytes a row instead of 4 D.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        by_row: list[tuple[dict[str, Any], Parameter, Tensor]] = []
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["rows"] is not None:
                    by_row.append((group, parameter, parameter.grad))
                    parameter.grad = None  # the parent skips parameters without a gradient
                elif parameter.grad.is_sparse:
                    parameter.grad = parameter.grad.to_dense()
        super().step()
        for group, parameter, gradient in by_row:
            parameter.grad = gradient
            self._move_rows(group, parameter, *_rows_of(gradient))

    def _move_rows(self, group: Mapping[str, Any], parameter: Parameter, rows: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            moments = torch.zeros_like(parameter)
            state.update(step=torch.zeros(()), exp_avg=moments, exp_avg_sq=torch.zeros_like(moments))
            if group["rows"] == "row-wise-adam":
                state["exp_avg_sq"] = parameter.new_zeros(len(parameter))
        state["step"] += 1
        (beta1, beta2), count = group["betas"], float(state["step"])
        square = gradient.square().mean(1) if group["rows"] == "row-wise-adam" else gradient.square()
        first = state["exp_avg"][rows].lerp_(gradient, 1 - beta1)
        second = state["exp_avg_sq"][rows].lerp_(square, 1 - beta2)
        state["exp_avg"][rows], state["exp_avg_sq"][rows] = first, second
        spread = (second / (1 - beta2**count)).sqrt_().add_(group["eps"])
        move = first / (spread if spread.ndim == first.ndim else spread[:, None])
        parameter[rows] = parameter[rows] * (1 - group["lr"] * group["weight_decay"]) - move * (
            group["lr"] / (1 - beta1**count)
        )


def _rows_of(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """[n] rows with a gradient, ascending, and their gradients [n, D]."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        places, values = gradient.indices()[0], gradient.values()
        moved = values.ne(0).any(1)
        return places[moved], values[moved]
    moved = gradient.ne(0).any(1).nonzero()[:, 0]
    return moved, gradient[moved]


def adamw(groups: Mapping[str, Sequence[Parameter]], config: OptimiserConfig) -> AdamW:
    """One optimiser group per parameter group.

    Raises ConfigError if `weight_decay` names a group that the model does not have.
    """
    unknown = set(config.weight_decay) - set(groups)
    if unknown:
        raise ConfigError(
            f"weight_decay names the parameter group {', '.join(map(repr, sorted(unknown)))}; "
            f"this model has {', '.join(groups)}."
        )
    if config.table != "adam" and not groups.get("table"):
        raise ConfigError(f"Found training.table={config.table} for a model without a table; set it to adam.")
    members = [parameter for group in groups.values() for parameter in group]
    assert len({id(parameter) for parameter in members}) == len(members), "a parameter stands in two groups"
    settings = [
        {
            "params": list(group),
            "weight_decay": config.weight_decay.get(name, 0.0),
            "rows": config.table if name == "table" and config.table != "adam" else None,
        }
        for name, group in groups.items()
    ]
    return AdamW(
        [group for group in settings if group["params"]],
        lr=config.learning_rate,
        betas=config.betas,
        eps=config.epsilon,
        fused=True,  # one pass over memory instead of about ten; deterministic
    )


def learning_rate(config: OptimiserConfig, step: int, done: float) -> float:
    """The rate of optimiser step `step` (from 0), when the share `done` of all epochs is done."""
    warm = min(1.0, (step + 1) / config.warmup_steps) if config.warmup_steps else 1.0
    decay = 1.0 if config.schedule == "constant" else 0.5 * (1 + math.cos(math.pi * done))
    return config.learning_rate * warm * decay
