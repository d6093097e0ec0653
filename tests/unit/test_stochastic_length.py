"""Stochastic Length: the published sparsity, exact lengths, and what is drawn."""

from __future__ import annotations

import pytest
import torch

from facta import jagged
from facta.data.batches.stochastic_length import StochasticLengthConfig, kept_events, threshold, whole_probability

HISTOGRAM = {32: 0.023, 416: 0.032, 1024: 0.058, 2048: 0.372, 4000: 0.242, 4064: 0.266, 8192: 0.007}
"""Lengths whose unsampled row fits the 30-day table of the paper (Table 3)."""

SPARSITY = {  # alpha -> % of tokens dropped at N = 1024, 2048, 4096, 8192
    1.6: (71.5, 76.1, 80.5, 84.4),
    1.7: (56.1, 63.6, 69.8, 75.6),
    1.8: (40.2, 45.3, 54.1, 66.4),
    1.9: (17.2, 21.0, 36.3, 64.1),
    2.0: (3.1, 6.6, 29.1, 64.1),
}


def kept_lengths(lengths: torch.Tensor, alpha: float, longest: int, seed: int = 0) -> torch.Tensor:
    """[B] how many events stay of each row."""
    offsets = jagged.offsets_of(lengths)
    keys = torch.arange(len(lengths)) + (seed << 32)
    kept = kept_events(offsets, None, keys, StochasticLengthConfig(alpha=alpha, subsequence="recent"), longest)
    return torch.bincount(jagged.rows(offsets)[kept], minlength=len(lengths))


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("alpha", SPARSITY)
def test_the_published_sparsity_table(alpha: float, place: int) -> None:
    longest, published = 1024 << place, SPARSITY[alpha][place]
    mean = 0.0
    for length, share in HISTOGRAM.items():
        n = torch.tensor(min(length, longest))
        p = float(whole_probability(n[None], alpha, longest))
        mean += share * float(p * n + (1 - p) * threshold(alpha, longest))
    assert 100 * (1 - mean / longest) == pytest.approx(published, abs=3.5)


def test_draws_follow_the_rule() -> None:
    longest, alpha, n = 512, 1.6, 300
    lengths = torch.full((4000,), n)
    kept = kept_lengths(lengths, alpha, longest)
    short = threshold(alpha, longest)
    assert set(kept.tolist()) == {short, n}
    chance = longest**alpha / n**2
    assert float((kept == n).double().mean()) == pytest.approx(chance, abs=4 * (chance * (1 - chance) / 4000) ** 0.5)


@pytest.mark.parametrize("subsequence", ["recent", "uniform", "weighted"])
def test_short_histories_stay_and_events_keep_their_order(subsequence: str) -> None:
    config = StochasticLengthConfig(alpha=1.5, subsequence=subsequence)  # type: ignore[arg-type]
    short = threshold(1.5, 100)
    offsets = jagged.offsets_of(torch.tensor([0, 1, short, short + 1, 100, 0]))
    time = torch.arange(int(offsets[-1])) ** 2
    kept = kept_events(offsets, time, torch.arange(6), config, 100)
    row = jagged.rows(offsets)[kept]
    assert torch.equal(kept, kept.unique())  # ascending, none twice
    counts = torch.bincount(row, minlength=6).tolist()
    assert counts[:3] == [0, 1, short] and counts[3] in (short, short + 1) and counts[4] in (short, 100)


def test_alpha_2_keeps_everything() -> None:
    lengths = torch.tensor([0, 5, 64, 100])
    assert torch.equal(kept_lengths(lengths, 2.0, 100), lengths)


def drawn_share(subsequence: str, time: torch.Tensor | None, n: int = 60, longest: int = 100) -> torch.Tensor:
    """[n] how often each place stays in a shortened history."""
    rows = 6000
    offsets = jagged.offsets_of(torch.full((rows,), n))
    config = StochasticLengthConfig(alpha=1.2, subsequence=subsequence)  # type: ignore[arg-type]
    kept = kept_events(offsets, None if time is None else time.repeat(rows), torch.arange(rows), config, longest)
    row = jagged.rows(offsets)[kept]
    shortened = torch.bincount(row, minlength=rows) < n
    place = jagged.places(offsets)[kept][shortened[row]]
    return torch.bincount(place, minlength=n).double() / shortened.sum()


def test_the_newest_events() -> None:
    share, short = drawn_share("recent", None), threshold(1.2, 100)
    assert (share[-short:] == 1).all() and (share[:-short] == 0).all()


def test_uniform_draws_are_uniform() -> None:
    share = drawn_share("uniform", None)
    assert (share - threshold(1.2, 100) / 60).abs().max() < 0.03


def test_weights_follow_age() -> None:
    """One event as old as all others together: its weight is half of the sum of ages short of 1."""
    time = torch.full((60,), 1000)
    time[0] = 0
    time[1] = 500
    share = drawn_share("weighted", time)  # ages 1000, 500, 0, …: weights 1/3, 2/3, 1, …
    rest = float(share[2:].mean())
    assert (share[2:] - rest).abs().max() < 0.03
    assert share[0] < share[1] < rest
    odds = torch.log1p(-share)  # of an event with weight w among many: about 1 - (1 - c)^w
    assert float(odds[0] / odds[2:].mean()) == pytest.approx(1 / 3, abs=0.05)
    assert float(odds[1] / odds[2:].mean()) == pytest.approx(2 / 3, abs=0.06)


def test_draws_depend_on_the_row_s_key_alone() -> None:
    config = StochasticLengthConfig(alpha=1.3, subsequence="weighted")
    time = torch.arange(90) ** 2
    alone = kept_events(torch.tensor([0, 90]), time, torch.tensor([7]), config, 100)
    offsets = jagged.offsets_of(torch.tensor([40, 90, 3]))
    together = kept_events(offsets, torch.cat([time[:40], time, time[:3]]), torch.tensor([1, 7, 2]), config, 100)
    assert torch.equal(together[(together >= 40) & (together < 130)] - 40, alone)
    assert not torch.equal(kept_events(torch.tensor([0, 90]), time, torch.tensor([8]), config, 100), alone)


def test_a_power_is_not_cut_below_itself() -> None:
    assert [threshold(alpha, longest) for alpha, longest in ((1.2, 1024), (1.5, 256), (1.6, 1024))] == [64, 64, 256]
