"""SIM: a search of the long history, then exact attention over the found events (Pi et al. 2020), beside DIN.

    newest N events ── DIN ──────────────────────────────────────┐
    older events ── search for the item ── attention over K ─────┴─ states

Letters: n sources, S targets, s those of a part, e sources of a piece, K events found, H heads, d width of a score,
D width, T of ages, Z = D + T.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from facta.data.dataset.catalogue import Catalogue
from facta.errors import ConfigError
from facta.layers.recent import AGES, age_of
from facta.layers.search import Found, alike, best, pieces, together, weights
from facta.models.history import DINConfig, HistoryConfig, HistoryReader, Reading
from facta.types import SequenceBatch


class SIMConfig(HistoryConfig):
    """`hard`: the newest K events of the item's category. `soft`: the K events with the
    largest product with the item."""

    kind: Literal["sim"] = "sim"
    search: Literal["hard", "soft"] = "hard"
    by: str = Field(default="category", description="hard: the feature of items that must be equal")
    long: int = Field(default=1000, ge=1, description="events before a target that are searched, without the newest N")
    found: int = Field(default=100, ge=1, description="K, events found at most")
    heads: int = Field(default=2, ge=1)
    score_width: int = Field(default=16, ge=1, description="d, of a head and of the soft search")
    age_width: int = Field(default=8, ge=1, description="T")
    hidden: int = Field(default=32, ge=1, description="of DIN's attention unit")

    def reader(self, catalogue: Catalogue, window: int, width: int, std: float) -> SIM:
        return SIM(self, catalogue, window, width, std)

    def sees(self, window: int) -> int:
        return max(self.long, window)


class SIM(HistoryReader):
    """DIN over the newest N events, and the exact search unit over K events found among the older ones.

    As published: the long history begins where DIN's ends. A soft search scores by r = ⟨W_b e, W_a e_a⟩ and is trained
    by its own heads over [Σ r e, e_a], whose losses are added with weight 1. The exact unit is multi-head attention
    over z = [e, age] with the softmax of ⟨W_b' z, W_a' e_a⟩; the heads' weighted sums of z are concatenated.
    Differences: Σ r e is divided by the number of events, since it would grow with the history; DIN replaces the
    paper's DIEN.
    """

    codes: Tensor  # [V] codes of the feature of a hard search

    def __init__(self, config: SIMConfig, catalogue: Catalogue, window: int, width: int, std: float) -> None:
        super().__init__()
        self.config, self.window, self.item_width = config, window, width
        soft, scores, z = config.search == "soft", config.heads * config.score_width, width + config.age_width
        if not soft:
            self.register_buffer("codes", _codes(catalogue, config.by), persistent=False)
        self.width, self.searching = width + config.heads * z, 2 * width if soft else 0
        self.newest = DINConfig(hidden=config.hidden).reader(catalogue, window, width, std)
        self.search_source = nn.Linear(width, config.score_width, bias=False) if soft else None
        self.search_target = nn.Linear(width, config.score_width, bias=False) if soft else None
        self.age = nn.Parameter(torch.randn(AGES, config.age_width) * std)
        self.key = nn.Linear(z, scores, bias=False)
        self.query = nn.Linear(width, scores, bias=False)

    def forward(self, batch: SequenceBatch, items: Tensor, targets: Tensor) -> Reading:
        """[n, D], [S, D] -> [S, D + H Z]; for a soft search also [S, 2 D]. Zeros if nothing is found."""
        sources = self.newest.sources(batch, items)
        found, search = self._soft(batch, sources, targets) if self.searching else (self._hard(batch), None)
        key = F.linear(sources, self.key.weight[:, : self.item_width])
        of_age, query = F.linear(self.age, self.key.weight[:, self.item_width :]), self.query(targets)
        target = torch.arange(len(targets), device=targets.device)[:, None]
        said = [targets.new_zeros(0, self.width - self.item_width)]
        for some, part in found.parts():
            age = age_of(batch, part.source, target[some])
            z = torch.cat([F.embedding(part.source, sources), F.embedding(age, self.age)], dim=2)
            keys = F.embedding(part.source, key) + F.embedding(age, of_age)
            said.append(self._attend(query[some], keys, z, part.there))
        newest = self.newest.read(batch, sources, targets)
        return Reading(torch.cat([newest, torch.cat(said)], dim=1), search)

    def _attend(self, query: Tensor, keys: Tensor, z: Tensor, there: Tensor) -> Tensor:
        """[s, H d], [s, K, H d], [s, K, Z], [s, K] -> [s, H Z]."""
        heads = (self.config.heads, self.config.score_width)
        queries, keys = query.reshape(-1, *heads), keys.reshape(*there.shape, *heads)
        score = torch.einsum("shd,skhd->skh", queries, keys)
        return torch.einsum("skh,skz->shz", weights(score, there), z).flatten(1)

    def _hard(self, batch: SequenceBatch) -> Found:
        """The newest events of the same code."""
        code, asked = (
            torch.where(item >= 0, self.codes[item.clamp_min(0)], 0)
            for item in (batch.events.item, batch.targets.events.item)
        )
        config = self.config
        return alike(batch, code, asked, window=config.long, skip=self.window, most=config.found)

    def _soft(self, batch: SequenceBatch, sources: Tensor, targets: Tensor) -> tuple[Found, Tensor]:
        """The events with the highest scores; and [S, 2 D]: the score-weighted mean of all events, and the item."""
        assert self.search_source is not None and self.search_target is not None
        of_source, of_target, most = self.search_source(sources), self.search_target(targets), self.config.found
        found, pooled = [], [targets[:0]]
        for piece in pieces(batch, self.config.long, skip=self.window):
            score = of_target[piece.first : piece.last] @ of_source[piece.source].T  # [s, e]
            count = piece.seen.sum(dim=1, keepdim=True).clamp_min(1)
            pooled.append((score * piece.seen) @ sources[piece.source] / count)
            found.append(piece.every if len(piece.source) <= most else best(score[None], piece, most))
        return together(found, batch), torch.cat([torch.cat(pooled), targets], dim=1)

    def cost(self, events: int) -> tuple[float, float]:
        """The cost. A hard search has no products; a soft search scores and sums all events that it sees."""
        config, width = self.config, self.item_width
        z, scores = width + config.age_width, config.heads * config.score_width
        sources = min(events, config.sees(self.window))
        older = max(min(events, config.long) - self.window, 0)
        found = min(older, config.found)
        flops, kept = self.newest.cost(events)
        flops += 2.0 * config.hidden * width * max(sources - self.window, 0)  # DIN's unit reads all sources of a row
        flops += 2.0 * scores * (sources * width + width + AGES * config.age_width)
        flops += 2.0 * found * (scores + config.heads * z)
        kept += 4.0 * (scores * sources + found * (scores + z + 3 * config.heads))
        if self.searching:
            flops += 2.0 * (config.score_width * width * (sources + 1) + older * (config.score_width + width))
            kept += 4.0 * (config.score_width * sources + older * (width + config.score_width + 2))
        return flops, kept


def _codes(catalogue: Catalogue, name: str) -> Tensor:
    """[V] the codes of a feature of items. Raises ConfigError if there is no such feature."""
    coded = [one for one, feature in catalogue.features.items() if feature.field.kind not in ("multi", "vector")]
    if name not in coded:
        raise ConfigError(
            f"history.by is '{name}', and the items have {', '.join(coded) or 'no such feature'}: name a feature with "
            "one value for each item (--set model.history.by=FEATURE), or search by score "
            "(--set model.history.search=soft)."
        )
    return catalogue.features[name].values
