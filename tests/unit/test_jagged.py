from __future__ import annotations

import hypothesis.strategies as st
import torch
from hypothesis import given

from facta import jagged

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
