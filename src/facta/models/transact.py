"""TransAct: a transformer over the last actions, each concatenated with the target's item (Xia et al. 2023).

    token = [item of the action, action, target's item]           no positions, no ages
    states -> [W max over all tokens, the newest 10 tokens concatenated]

Letters: n sources, S targets, P tokens, D width, A width of an action, M = 2 D + A, N' newest tokens in the output.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta import draws, jagged, ops
from facta.data.dataset.catalogue import Catalogue
from facta.draws import Purpose
from facta.encoders.memory import LayerMemory
from facta.encoders.stack import AttentionStack
from facta.encoders.transformer import Attention
from facta.errors import ConfigError
from facta.layers.codes import CodeTable
from facta.layers.dropout import Dropout
from facta.layers.recent import Recent, recent
from facta.models.history import PAIRS_AT_ONCE, HistoryConfig, HistoryReader, Reading, all_see_all, lists_of
from facta.types import SequenceBatch, TokenBatch

HOUR_MS = 3_600_000


class TransActConfig(HistoryConfig):
    """The settings of the paper and its code."""

    kind: Literal["transact"] = "transact"
    actions: int = Field(default=100, ge=1, description="events before a target, and entries of each earlier list")
    action_width: int = Field(default=32, ge=1, description="A, of an event's context and feedback")
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=2, ge=1)
    hidden: int = Field(default=32, ge=1, description="feed-forward width")
    newest: int = Field(default=10, ge=0, description="newest tokens in the output beside the maximum over all")
    dropout: float = Field(default=0.1, ge=0, lt=1, description="of attention weights, attention output, feed-forward")
    hidden_hours: float = Field(
        default=24.0, ge=0, le=500, description="in training a target does not see its last 0 to so many hours"
    )

    def reader(self, catalogue: Catalogue, window: int, width: int, std: float) -> TransAct:
        return TransAct(self, catalogue, width, std)

    def sees(self, window: int) -> int:
        return self.actions

    def token_width(self, width: int) -> int:
        """M."""
        return 2 * width + self.action_width

    def check(self, width: int) -> None:
        tokens = self.token_width(width)
        if tokens % self.heads:
            raise ConfigError(
                f"Found tokens of width {tokens}, twice model.width and history.action_width, and history.heads "
                f"{self.heads}, which do not divide it; change one of them."
            )


class PostNormBlock(nn.Module):
    """x <- LN(x + attention(x)); x <- LN(x + FFN(x)), as in Vaswani et al. 2017."""

    def __init__(self, config: TransActConfig, width: int, salt: int) -> None:
        super().__init__()
        self.attention = Attention(width, config.heads, dropout=config.dropout, salt=salt, biased=True, rotary=False)
        self.inner, self.outer = nn.Linear(width, config.hidden), nn.Linear(config.hidden, width)
        self.norm_attention, self.norm_feed = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropouts = nn.ModuleList(Dropout(config.dropout, salt + 1 + i) for i in range(3))

    def forward(
        self, x: Tensor, tokens: TokenBatch, geometry: ops.Geometry, memory: LayerMemory | None = None
    ) -> Tensor:
        """x [P, M] -> [P, M]."""
        x = self.norm_attention(x + self.dropouts[0](self.attention(x, x, tokens, geometry, memory), tokens.key))
        hidden = self.dropouts[1](F.relu(self.inner(x)), tokens.key)
        out: Tensor = self.norm_feed(x + self.dropouts[2](self.outer(hidden), tokens.key))
        return out


class TransAct(HistoryReader):
    """[S, (1 + N') M] of each target, padded with zeros.

    In training a target does not see the events of its last 0 to 24 hours, drawn for each target, so that the model
    does not learn the effects of its own last answers; in prediction it sees all. Differences: a hidden event is also
    left out of the maximum and of the newest tokens, and the newest event may be hidden (the published code hides
    events only as keys, and never the newest); the maximum is over events, not over padding. An action is all context
    and feedback of its event; the paper has one type.
    """

    def __init__(self, config: TransActConfig, catalogue: Catalogue, width: int, std: float) -> None:
        super().__init__()
        self.config, self.tokens, lists = config, config.token_width(width), lists_of(catalogue)
        self.width = (1 + config.newest) * self.tokens
        events = catalogue.fields
        self.facts = CodeTable(events, config.action_width, std) if events else None
        self.list = nn.Parameter(torch.randn(lists, config.action_width) * std) if lists else None
        blocks = [PostNormBlock(config, self.tokens, salt=400 + 10 * i) for i in range(config.layers)]
        self.encoder = AttentionStack(blocks)
        self.pooled = nn.Linear(self.tokens, self.tokens)

    def forward(self, batch: SequenceBatch, items: Tensor, targets: Tensor) -> Reading:
        """[n, D], [S, D] -> [S, (1 + N') M]."""
        actions, keys, first, found = self._actions(batch, items), batch.targets.events.key, 0, []
        for pairs in self._seen(batch).pieces(PAIRS_AT_ONCE):
            last = first + len(pairs.offsets) - 1
            beside = F.embedding(pairs.target, targets[first:last])
            x = torch.cat([F.embedding(pairs.source, items), F.embedding(pairs.source, actions), beside], dim=1)
            if len(x):
                x = self.encoder(x, all_see_all(pairs.offsets, keys[first:last]))
            found.append(self._given(x, pairs.offsets))
            first = last
        return Reading(torch.cat(found))

    def _actions(self, batch: SequenceBatch, items: Tensor) -> Tensor:
        """[n, A] context and feedback of events; for earlier entries, their list."""
        count = len(batch.events.item)
        parts = [items.new_zeros(count, self.config.action_width)]
        if self.facts is not None:
            parts = [self.facts(batch.events.fields, torch.arange(count, device=items.device))]
        if self.list is not None and batch.lists is not None:
            parts.append(F.embedding(batch.lists.which, self.list))
        return torch.cat(parts)

    def _seen(self, batch: SequenceBatch) -> Recent:
        """The last visible actions of each target."""
        pairs = recent(batch, self.config.actions, 0 if self.list is None else len(self.list))
        time, asked = batch.events.time, batch.targets.events.time
        most = round(self.config.hidden_hours * HOUR_MS)
        if not (self.training and most) or time is None or asked is None or not len(time):
            return pairs
        hidden = draws.below(draws.mix(batch.targets.events.key, Purpose.HIDDEN_HOURS), most + 1)
        event = pairs.source < len(time)
        since = asked[pairs.target] - time[torch.where(event, pairs.source, 0)]
        return pairs.only(~event | (since >= hidden[pairs.target]))

    def _given(self, states: Tensor, offsets: Tensor) -> Tensor:
        """[P, M] states -> [S', (1 + N') M]: the maximum, then the newest tokens, newest first."""
        length, newest = jagged.lengths(offsets), self.config.newest
        back = torch.arange(max(int(length.max()), newest) if len(length) else newest, device=states.device)
        there = (back < length[:, None])[:, :, None]
        at = (offsets[1:, None] - 1 - back).clamp_min(0)
        x = F.embedding(at, states) if len(states) else states.new_zeros(*at.shape, self.tokens)
        most = x.masked_fill(~there, torch.finfo(x.dtype).min).amax(dim=1) if at.shape[1] else x.sum(dim=1)
        most = most * (length > 0)[:, None]
        last = (x * there)[:, :newest].flatten(1)
        return torch.cat([self.pooled(most), last], dim=1)

    def cost(self, events: int) -> tuple[float, float]:
        """The cost; all tokens attend to each other."""
        config, width, tokens = self.config, self.tokens, min(events, self.config.actions)
        each = 2 * width * 4 * width + 4 * tokens * width + 4 * width * config.hidden
        kept = 9 * width + 2 * config.hidden
        return 2.0 * width * width + config.layers * float(each) * tokens, 4.0 * config.layers * kept * tokens
