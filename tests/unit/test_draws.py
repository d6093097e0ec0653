from __future__ import annotations

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given

from facta import draws

int64 = st.integers(-(2**63), 2**63 - 1)


@given(int64, int64)
def test_tensors_and_integers_mix_alike(a: int, b: int) -> None:
    assert draws.mix(draws.mix(torch.tensor(0), torch.tensor(a)), torch.tensor(b)).item() == draws.mix_int(a, b)


def test_mix_is_splitmix64() -> None:
    """First outputs of the published generator with seed 0 (Vigna's splitmix64.c)."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert [draws.mix_int(place) & (2**64 - 1) for place in range(3)] == published


def test_below_is_uniform_and_bounded() -> None:
    drawn = draws.below(draws.mix(torch.arange(60_000), 5), 6)
    count = torch.bincount(drawn, minlength=6)
    assert len(count) == 6
    assert ((count - 10_000).abs() < 400).all()  # more than four standard deviations


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean_and_drops_the_share(p: float) -> None:
    x = torch.ones(2000, 32)
    keys = draws.mix(torch.arange(2000), 1)
    dropped = draws.dropout(x, p, keys, salt=3)
    zero = dropped == 0
    assert zero.float().mean().item() == pytest.approx(p, abs=0.01)
    assert dropped.max().item() == pytest.approx(1 / (1 - p))
    assert (zero.float().mean(0) - p).abs().max() < 0.06  # per channel
    pairs = (zero[1:] == zero[:-1]).float().mean().item()  # neighbours agree as often as independent ones
    assert pairs == pytest.approx(p * p + (1 - p) ** 2, abs=0.01)


def test_dropout_is_a_function_of_key_salt_and_channel() -> None:
    x, keys = torch.ones(64, 16), draws.mix(torch.arange(64), 1)
    whole = draws.dropout(x, 0.5, keys, salt=3)
    order = torch.randperm(64)
    assert torch.equal(draws.dropout(x, 0.5, keys[order], salt=3), whole[order])
    assert not torch.equal(draws.dropout(x, 0.5, keys, salt=4), whole)
    assert draws.dropout(x, 0.0, keys, salt=3) is x


def test_dropout_of_keys_that_count_up_has_no_pattern() -> None:
    """A table's keys are its rows, and its channels count up as well: neither the diagonal nor symmetry may show."""
    x, rows = torch.ones(64, 64), torch.arange(64)
    kept = torch.stack([draws.dropout(x, 0.3, rows, salt) != 0 for salt in range(200)])
    assert kept.diagonal(dim1=1, dim2=2).float().mean().item() == pytest.approx(0.7, abs=0.02)
    assert (kept == kept.transpose(1, 2)).float().mean().item() == pytest.approx(0.58 + 0.42 / 64, abs=0.01)
