"""Guard for functions with a hand-written backward, which cannot be differentiated again."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from facta.errors import ConfigError


def first_derivatives(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Makes a backward refuse to be differentiated again, since its saved tensors would silently count as constants."""

    @wraps(backward)
    def checked(ctx: Any, *grads: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise ConfigError(
                "Found a backward with create_graph=True; facta's layers and losses have first derivatives only. "
                "Leave create_graph out."
            )
        return backward(ctx, *grads)

    return checked
