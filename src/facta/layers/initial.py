"""How large tables are drawn."""

from __future__ import annotations

from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function


def truncated_normal_(tensor: Tensor, std: float) -> Tensor:
    """Normal numbers within two standard deviations, in place. A function of torch as those of `nn.init` are: a mode
    of torch functions is asked before it draws, so that a model can be loaded without it."""
    if has_torch_function((tensor,)):
        found: Tensor = handle_torch_function(truncated_normal_, (tensor,), tensor, std=std)
        return found
    return nn.init.trunc_normal_(tensor, std=std, a=-2 * std, b=2 * std)
