"""Embeddings of coded facts: context and feedback of events, facts of users, features of items.

Tensors that no file stores are computed on the CPU, even if a model is built on the meta device for loading.

Letters: n events, F fields, C codes of a field, D width, V items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facta import jagged
from facta.data.dataset.features import Feature
from facta.data.dataset.schema import Field


class CodeTable(nn.Module):
    """One learned vector per code of each field, in one table; the vectors of a set of facts are added up."""

    base: Tensor  # [F] where each field's codes begin

    def __init__(self, fields: Sequence[Field], width: int, std: float) -> None:
        super().__init__()
        self.names = tuple(field.name for field in fields)
        *starts, count = accumulate((field.codes for field in fields), initial=0)
        self.register_buffer("base", torch.tensor(starts, dtype=torch.int64, device="cpu"), persistent=False)
        self.weight = nn.Parameter(torch.randn(count, width) * std)

    def forward(self, values: Mapping[str, Tensor], which: Tensor) -> Tensor:
        """Field -> [N] codes; `which` [n] of the N -> [n, D], the sum over fields."""
        codes = torch.stack([values[name][which] for name in self.names], dim=1)  # [n, F]
        return F.embedding_bag(codes + self.base, self.weight, mode="sum")

    def side_by_side(self, values: Mapping[str, Tensor], which: Tensor) -> Tensor:
        """[n, F · D]: the fields' vectors side by side."""
        codes = torch.stack([values[name][which] for name in self.names], dim=1)
        return F.embedding(codes + self.base, self.weight).flatten(1)

    def each(self, codes: Tensor, field: Tensor) -> Tensor:
        """[n] codes of the fields with indices `field` [n] -> [n, D]."""
        return F.embedding(codes + self.base[field], self.weight)


class FeatureVectors(nn.Module):
    """The part of item vectors from features: the sum over features; a feature with several values gives their mean."""

    vectors: Tensor  # [V, width] of all vector features side by side

    def __init__(self, features: Mapping[str, Feature], width: int, std: float) -> None:
        super().__init__()
        coded = {name: one for name, one in features.items() if one.field.kind not in ("multi", "vector")}
        several = [one for one in features.values() if one.field.kind == "multi"]
        self.table = CodeTable([one.field for one in coded.values()], width, std) if coded else None
        self.bags = nn.ParameterList(torch.randn(one.field.codes, width) * std for one in several)
        given = [one.values for one in features.values() if one.field.kind == "vector"]
        vectors = torch.cat(given, dim=1) if given else torch.zeros(0, 0, device="cpu")
        self.project = nn.Linear(vectors.shape[1], width, bias=False) if given else None
        self.register_buffer("vectors", vectors, persistent=False)
        for place, one in enumerate(coded.values()):  # by index: torch refuses many names that columns may have
            self.register_buffer(f"codes_{place}", one.values, persistent=False)
        for place, one in enumerate(several):
            self.register_buffer(f"values_{place}", one.values, persistent=False)
            self.register_buffer(f"offsets_{place}", one.offsets, persistent=False)

    @property
    def tables(self) -> list[nn.Parameter]:
        """Parameters with a row for every code."""
        return [*([] if self.table is None else [self.table.weight]), *self.bags]

    def forward(self, rows: Tensor) -> Tensor:
        """[U] rows -> [U, D]."""
        parts = []
        if self.table is not None:
            codes = {name: getattr(self, f"codes_{place}") for place, name in enumerate(self.table.names)}
            parts.append(self.table(codes, rows))
        for place, weight in enumerate(self.bags):
            parts.append(self._mean(getattr(self, f"values_{place}"), getattr(self, f"offsets_{place}"), weight, rows))
        if self.project is not None:
            parts.append(self.project(self.vectors[rows]))
        return torch.stack(parts).sum(dim=0)

    @staticmethod
    def _mean(values: Tensor, offsets: Tensor, weight: Tensor, rows: Tensor) -> Tensor:
        lengths = jagged.lengths(offsets)[rows]
        of_rows = values[jagged.spans(offsets[rows], lengths)]
        return F.embedding_bag(of_rows, weight, jagged.offsets_of(lengths)[:-1], mode="mean")
