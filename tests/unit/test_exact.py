"""Streaming ranking equals its slow twin, whatever the blocks, and counts every tie against the target."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from facta.errors import ProtocolError
from facta.retrieval import exact, score_block
from facta.retrieval.exact import UNREACHABLE, ItemSets, Ranking, rank_catalogue
from facta.retrieval.index import Index
from facta.retrieval.reference import rank_slowly
from facta.types import FactoredScores


def sets(*rows: Sequence[int]) -> ItemSets:
    items = np.array([item for row in rows for item in row], dtype=np.int64)
    return ItemSets(np.cumsum([0, *map(len, rows)]), items)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 3 requests x 8 items, so that tiny examples cross many borders."""
    monkeypatch.setattr(exact, "ROWS", 3)
    monkeypatch.setattr(exact, "COLUMNS", 8)
    monkeypatch.setattr(exact, "GROUP", 2)


@st.composite
def cases(draw: st.DrawFn) -> tuple[FactoredScores, ItemSets, ItemSets, int, np.ndarray | None]:
    """Small integer vectors: products are exact in float32, and ties are everywhere."""
    requests, items = draw(st.integers(1, 8)), draw(st.integers(1, 40))
    seed = draw(st.integers(0, 2**32 - 1))
    generator = np.random.default_rng(seed)
    queries = torch.from_numpy(generator.integers(-2, 3, (requests, 3)).astype(np.float32))
    vectors = torch.from_numpy(generator.integers(-2, 3, (items, 3)).astype(np.float32))

    def subsets(most: int) -> ItemSets:
        return sets(*(generator.permutation(items)[: generator.integers(0, most + 1)] for _ in range(requests)))

    ranked = np.flatnonzero(generator.random(items) < 0.7) if draw(st.booleans()) else None
    return FactoredScores(queries, vectors), subsets(4), subsets(10), draw(st.integers(1, 6)), ranked


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
    items = len(product.items)
    index = Index(np.arange(items) if ranked is None else ranked, items)
    listed = FactoredScores(product.queries, product.items[index.rows])
    same(index.rank(listed, targets, masked, k), slow)
    same(index.rank(index.cut(product.dense()), targets, masked, k), slow)


@pytest.mark.parametrize("shape", [(1, 1), (1, 70), (5, 7), (600, 1100)])
def test_ordinary_scores_in_real_blocks(shape: tuple[int, int]) -> None:
    requests, items = shape
    rng = np.random.default_rng(items)
    torch.manual_seed(items)
    product = FactoredScores(torch.randn(requests, 16), torch.randn(items, 16))
    targets = sets(*(rng.permutation(items)[: rng.integers(0, 3)] for _ in range(requests)))
    masked = sets(*(rng.permutation(items)[: rng.integers(0, min(20, items))] for _ in range(requests)))
    few = min(requests, 40)
    fast = rank_catalogue(product, targets, masked, 5)
    alone = rank_catalogue(product.dense(), targets, masked, 5)
    slow = rank_slowly(product.dense()[:few], ItemSets(targets.offsets[: few + 1], targets.items), masked, 5)
    np.testing.assert_array_equal(alone.ranks[: targets.offsets[few]], slow.ranks)
    np.testing.assert_array_equal(alone.lists[:few], slow.lists)
    np.testing.assert_array_equal(fast.ranks, alone.ranks)
    np.testing.assert_allclose(fast.scores, alone.scores, rtol=1e-5, atol=1e-5)


def test_twins_of_a_target_always_stand_before_it() -> None:
    """Equal vectors give equal floats wherever they lie in the catalogue, so they tie exactly."""
    vectors = torch.randn(3000, 64)
    copies = torch.arange(0, 3000, 101)
    vectors[copies] = vectors[0].clone()
    ranking_ = rank_catalogue(FactoredScores(vectors[:1] * 2, vectors), sets([0]), sets([]), 40)
    better = int((vectors @ vectors[0] > vectors[0] @ vectors[0] * 1.0001).sum())
    assert ranking_.ranks.tolist() == [len(copies) + better]
    listed = ranking_.lists[0][better : better + len(copies)]
    assert listed.tolist() == copies.tolist()  # ties in row order


def test_constant_scores_put_the_target_last() -> None:
    found = rank_catalogue(torch.zeros(1, 100), sets([37]), sets(range(10)), 3)
    assert found.ranks.tolist() == [90]
    assert found.lists.tolist() == [[10, 11, 12]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("requests", [1, 2, 3, 5, 15, 16, 17, 513])
def test_equal_items_tie_whatever_the_shape_of_the_product(requests: int, threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    none = sets(*[[]] * requests)
    try:
        for items, width in [(3, 50), (17, 64), (100, 7), (1025, 64), (1683, 200), (3001, 1)]:
            queries = torch.randn(requests, width, generator=torch.Generator().manual_seed(items))
            vectors = torch.randn(1, width, generator=torch.Generator().manual_seed(width)).repeat(items, 1)
            found = rank_catalogue(FactoredScores(queries, vectors), sets(*[[items - 1]] * requests), none, k=3)
            assert (found.ranks == items).all()
            assert (found.lists == [0, 1, 2]).all()
    finally:
        torch.set_num_threads(before)


def test_targets_that_tie_share_the_places_that_they_take() -> None:
    found = rank_catalogue(torch.tensor([[5.0, 5.0, 5.0, 9.0, 1.0]]), sets([2, 0]), sets([]), 1)
    assert found.ranks.tolist() == [4, 3]  # behind 3 and behind the tied 1; the lower row first


def test_masked_targets_and_impossible_items_are_never_reached() -> None:
    scores = torch.tensor([[3.0, 2.0, float("-inf"), 1.0]])
    found = rank_catalogue(scores, sets([0, 2, 3]), sets([0]), 4)
    assert found.ranks.tolist() == [UNREACHABLE, UNREACHABLE, 2]
    assert found.lists.tolist() == [[1, 3, -1, -1]]
    assert found.scores.tolist() == [[2.0, 1.0, float("-inf"), float("-inf")]]


def test_zero_and_minus_zero_are_equal() -> None:
    found = rank_catalogue(torch.tensor([[-0.0, 0.0, -0.0]]), sets([1]), sets([]), 3)
    assert found.ranks.tolist() == [3]
    assert found.lists.tolist() == [[0, 1, 2]]


def test_scores_that_ascend_along_the_rows_are_the_worst_case_and_right() -> None:
    scores = torch.arange(5000.0).repeat(2, 1)
    found = rank_catalogue(scores, sets([0], [4998]), sets([], [4999]), 3)
    assert found.ranks.tolist() == [5000, 1]
    assert found.lists.tolist() == [[4999, 4998, 4997], [4998, 4997, 4996]]


def test_nan_is_refused() -> None:
    scores = torch.zeros(2, 700)
    scores[1, 650] = float("nan")
    with pytest.raises(ProtocolError, match="NaN"):
        rank_catalogue(scores, sets([0], [0]), sets([], []), 3)


def test_scores_are_not_written_to() -> None:
    scores = torch.randn(3, 50)
    before = scores.clone()
    rank_catalogue(scores, sets([0], [1], [2]), sets([5], [6], [7]), 3)
    torch.testing.assert_close(scores, before, rtol=0, atol=0)


def test_a_product_that_rounds_by_its_shape_is_counted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The target's score is asked for before its block is made; where both differ, the block's float decides."""
    product = FactoredScores(torch.randn(4, 8), torch.randn(100, 8))
    targets, masked = sets([1], [2], [3], [4]), sets([], [7], [], [])
    right = rank_catalogue(product, targets, masked, 3)
    scored = score_block.Chunk._target_scores
    monkeypatch.setattr(score_block.Chunk, "_target_scores", lambda self: scored(self) + np.float32(0.5))
    same(rank_catalogue(product, targets, masked, 3), right)


def test_more_blocks_than_sixteen_bits_count_are_never_confused() -> None:
    row, column = np.zeros(2, dtype=np.int64), np.array([0, 65_535])
    cells = score_block._Cells(row, column, 1, 65_536, 65_535)
    assert [cells.source(number).tolist() for number in (0, 65_535)] == [[0], [1]]
    with pytest.raises(AssertionError, match="65,536 blocks"):
        score_block._Cells(row, column + 1, 1, 65_537, 65_536)


def test_threads_divide_the_work_and_leave_their_number_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "ROWS", 16)
    threads = torch.get_num_threads()
    product = FactoredScores(torch.randn(100, 8), torch.randn(300, 8))
    targets, masked = sets(*([i] for i in range(100))), sets(*([] for _ in range(100)))
    try:
        torch.set_num_threads(1)
        alone = rank_catalogue(product, targets, masked, 5)
        torch.set_num_threads(3)
        same(rank_catalogue(product, targets, masked, 5), alone)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", [(1, 1003), (1, 64), (5, 301), (3, 40)])
def test_a_lone_chunk_of_lists_is_divided_by_items_and_gives_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    """Copies of vectors lie in several spans, so ties cross their borders."""
    monkeypatch.setattr(exact, "SPAN_SCORES", 16)
    requests, items = shape
    torch.manual_seed(items)
    queries, vectors = torch.randn(requests, 50), torch.randn(items, 50)
    vectors[torch.randint(items, (items // 2,))] = vectors[:1].clone()
    product, threads = FactoredScores(queries, score_block.with_whole_tiles(vectors)), torch.get_num_threads()
    targets, masked = sets(*([] for _ in range(requests))), sets(*([r, items - 1] for r in range(requests)))
    try:
        torch.set_num_threads(1)
        alone = rank_catalogue(product, targets, masked, 37, items)
        torch.set_num_threads(3)
        same(rank_catalogue(product, targets, masked, 37, items), alone)
        same(
            rank_catalogue(product.dense()[:, :items], targets, masked, 37),
            rank_slowly(product.dense()[:, :items], targets, masked, 37),
        )
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("requests", [1, 3])
def test_equal_vectors_score_equal_in_every_block(monkeypatch: pytest.MonkeyPatch, requests: int) -> None:
    """A library's product also rounds by the alignment of what it reads: 50 floats are no multiple of 16 bytes."""
    monkeypatch.setattr(exact, "COLUMNS", 1)
    items = 2003
    vectors = score_block.with_whole_tiles(torch.randn(1, 50).expand(items, -1))
    none = sets(*([] for _ in range(requests)))
    for scores, count in (
        (FactoredScores(torch.randn(requests, 50), vectors), items),
        (FactoredScores(torch.randn(requests, 50), vectors[:items]), None),
    ):
        found = rank_catalogue(scores, none, none, items, count)
        assert (found.scores == found.scores[:, :1]).all()
        assert (found.lists == np.arange(items)).all()
