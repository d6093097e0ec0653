"""The published research step as it is published, padded and eager, on the weights of one of our models.

Rows are padded to n = window + 11 places; rab is a [B, N, N] tensor a layer; the mask is multiplied in; the loss
gathers the vectors of every negative, [T, R, D]. The formulas are those of the research code
(meta-recsys/generative-recommenders, research/modeling/sequential/hstu.py). Its loss without dropout is the
reference's, which `check` sees to.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from facta import jagged
from facta.encoders.hstu import HSTULayer
from facta.models.recommender import Recommender
from facta.objectives.losses import uniform
from facta.types import SequenceBatch

MASKED, EXTRA = -5e4, 11


class Padded:
    """A batch in [B, N], and what all layers of a step share."""

    def __init__(self, batch: SequenceBatch, window: int) -> None:
        self.n, self.rows = window + EXTRA, len(batch.offsets) - 1
        self.at = jagged.rows(batch.offsets) * self.n + jagged.places(batch.offsets)
        self.item, self.target = self.pad(batch.events.item), batch.targets.events.item
        self.valid = self.pad(torch.ones_like(batch.events.item)).float()
        assert batch.events.time is not None and batch.next_time is not None
        time, query = self.pad(batch.events.time), self.pad(batch.next_time)
        self.apart = ((query[:, :, None] - time[:, None, :]).abs() / 1000).clamp(min=1)
        place = torch.arange(self.n)
        self.distance = (place[:, None] - place).clamp(min=0)
        self.causal = (place[:, None] >= place).float()
        self.keys, self.weight = batch.targets.events.key, batch.targets.weight

    def pad(self, values: Tensor) -> Tensor:
        return values.new_zeros(self.rows * self.n).index_copy(0, self.at, values).view(self.rows, self.n)


def layer(module: HSTULayer, x: Tensor, padded: Padded, p: float) -> Tensor:
    """One research layer: [B, N, D] -> [B, N, D]."""
    heads, dqk, dv = module.heads, module.dqk, module.dv
    normed = F.layer_norm(x, x.shape[-1:], eps=module.eps)
    widths = (heads * dv, heads * dv, heads * dqk, heads * dqk)
    u, v, q, k = torch.split(F.silu(normed @ module.uvqk), widths, dim=-1)
    q, k, v = (part.unflatten(2, (heads, -1)) for part in (q, k, v))
    scores = torch.einsum("bnhd,bmhd->bhnm", q, k)
    assert module.position_bias is not None and module.time_bias is not None
    table = F.pad(module.position_bias, (0, max(padded.n - len(module.position_bias), 0)))  # never-used distances
    bucket = (padded.apart.log() / 0.301).long().clamp(0, 128)
    scores = scores + (table[padded.distance] + module.time_bias[bucket])[:, None]
    weights = F.silu(scores) * module.scale * padded.causal
    o = torch.einsum("bhnm,bmhd->bnhd", weights, v).flatten(2)
    gated = F.dropout(u * F.layer_norm(o, o.shape[-1:], eps=module.eps), p)
    return (module.out(gated) + x) * padded.valid[:, :, None]


def loss(model: Recommender, batch: SequenceBatch, drawn: Tensor, p: float) -> Tensor:
    """Mean sampled-softmax loss over the targets; `drawn` [T, R]: the negatives of each."""
    padded, embedder = Padded(batch, model.window), model.embedder
    assert embedder.position is not None
    table = embedder.item.weight
    position = F.pad(embedder.position.weight, (0, 0, 0, padded.n - len(embedder.position.weight)))
    x = F.embedding(padded.item, table) * embedder.scale + position[: padded.n]
    x = F.dropout(x, p) * padded.valid[:, :, None]
    for module in model.encoder.layers:  # type: ignore[union-attr]
        x = layer(module, x, padded, p)  # type: ignore[arg-type]
    queries = F.normalize(x.flatten(0, 1)[padded.at], dim=-1, eps=1e-6)
    positive = F.normalize(F.embedding(padded.target, table), dim=-1, eps=1e-6)
    negative = F.normalize(F.embedding(drawn, table), dim=-1, eps=1e-6)  # [T, R, D]
    own = (queries * positive).sum(-1, keepdim=True)
    others = torch.einsum("td,trd->tr", queries, negative).masked_fill(drawn == padded.target[:, None], MASKED * 0.05)
    each = -F.log_softmax(torch.cat([own, others], dim=1) / 0.05, dim=1)[:, 0]
    return (each * padded.weight).sum() / padded.weight.sum()


def check(model: Recommender, batch: SequenceBatch, negatives: int) -> tuple[float, float]:
    """The loss of this step and of the reference, without dropout, on the same draws."""
    from facta.ops import backend
    from facta.types import Negatives

    drawn = uniform(batch.targets.events.key, negatives, model.num_items)
    model.eval()
    with torch.no_grad(), backend.use(backend.REFERENCE):
        reference = model(batch, Negatives(each=negatives))["next_item"].mean()
        eager = loss(model, batch, drawn, p=0.0)
    model.train()
    return float(eager), float(reference)
