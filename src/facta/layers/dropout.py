"""Dropout drawn from the tokens' own keys: see `facta.draws`."""

from __future__ import annotations

from torch import Tensor, nn

from facta import ops


class Dropout(nn.Module):
    """Dropout of x [T, C] that is a function of each token's key: no generator, no dependence on batch mates.

    `salt` must differ between any two dropouts of a model.
    """

    def __init__(self, p: float, salt: int) -> None:
        super().__init__()
        self.p, self.salt = p, salt

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        return ops.dropout(x, self.p, keys, self.salt) if self.training else x

    def extra_repr(self) -> str:
        return f"p={self.p}, salt={self.salt}"
