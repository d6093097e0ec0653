from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import torch
from hypothesis import given

from facta import arrays, jagged

some_lengths = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@given(some_lengths)
def test_offsets_rows_and_places_agree(lengths: list[int]) -> None:
    offsets = jagged.offsets_of(torch.tensor(lengths))
    assert jagged.lengths(offsets).tolist() == lengths
    assert jagged.rows(offsets).tolist() == [row for row, n in enumerate(lengths) for _ in range(n)]
    assert jagged.places(offsets).tolist() == [place for n in lengths for place in range(n)]


@given(some_lengths.filter(any))
def test_padding_and_back(lengths: list[int]) -> None:
    offsets = jagged.offsets_of(torch.tensor(lengths))
    values = torch.arange(1, sum(lengths) + 1)
    padded = jagged.to_padded(values, offsets)
    assert padded.shape == (len(lengths), max(lengths))
    assert torch.equal(jagged.from_padded(padded, offsets), values)
    assert padded.sum() == values.sum()


def test_spans() -> None:
    assert jagged.spans(torch.tensor([5, 1, 9]), torch.tensor([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 5)), max_size=6))
def test_numpy_has_the_same(ranges: list[tuple[int, int]]) -> None:
    starts, lengths = np.array(ranges, dtype=np.int64).reshape(-1, 2).T
    offsets = arrays.offsets_of(lengths)
    ours = (offsets, arrays.rows(offsets), arrays.places(offsets), arrays.spans(starts, lengths))
    twin = jagged.offsets_of(torch.tensor(lengths))
    theirs = (twin, jagged.rows(twin), jagged.places(twin), jagged.spans(torch.tensor(starts), torch.tensor(lengths)))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == np.int64 and one.tolist() == other.tolist()


def test_offsets_of_truth_values_count_those_before() -> None:
    assert arrays.offsets_of(np.array([True, False, True])).tolist() == [0, 1, 1, 2]
