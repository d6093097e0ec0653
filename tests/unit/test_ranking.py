"""Streaming ranking equals its slow twin, whatever the blocks, and counts every tie against the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facta.errors import ProtocolError
from facta.eval import ranking
from facta.eval.ranking import UNREACHABLE, ItemSets, Ranking, rank_catalogue
from facta.eval.reference import rank_slowly
from facta.types import Product


def sets(*rows: Sequence[int]) -> ItemSets:
    items = np.array([item for row in rows for item in row], dtype=np.int64)
    return ItemSets(np.cumsum([0, *map(len, rows)]), items)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 3 requests x 8 items, so that tiny examples cross many borders."""
    monkeypatch.setattr(ranking, "ROWS", 3)
    monkeypatch.setattr(ranking, "COLUMNS", 8)
    monkeypatch.setattr(ranking, "GROUP", 2)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Product, ItemSets, ItemSets, int, np.ndarray | None]:
    """Small integer vectors: products are exact in float32, and ties are everywhere."""
    requests, items = draw(st.integers(1, 8)), draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    queries = torch.from_numpy(generator.integers(-2, 3, (requests, 3)).astype(np.float32))
    vectors = torch.from_numpy(generator.integers(-2, 3, (items, 3)).astype(np.float32))

    def subsets(most: int) -> ItemSets:
        return sets(*(generator.permutation(items)[: generator.integers(0, most + 1)] for _ in range(requests)))

    ranked = np.flatnonzero(generator.random(items) < 0.7) if draw(st.booleans()) else None
    return Product(queries, vectors), subsets(4), subsets(10), draw(st.integers(1, 6)), ranked


def same(fast: Ranking, slow: Ranking) -> None:
    np.testing.assert_array_equal(fast.ranks, slow.ranks)
    np.testing.assert_array_equal(fast.lists, slow.lists)
    np.testing.assert_array_equal(fast.scores, slow.scores)


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=300, deadline=None)
@given(cases())
def test_equals_the_slow_twin(case) -> None:  # type: ignore[no-untyped-def]
    product, targets, masked, k, ranked = case
    slow = rank_slowly(product.dense(), targets, masked, k, ranked)
    same(rank_catalogue(product, targets, masked, k, ranked), slow)
    same(rank_catalogue(product.dense(), targets, masked, k, ranked), slow)
