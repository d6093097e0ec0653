"""What every encoder must keep, whatever it computes: the order of facts, prefix stability, no batch mates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facta.data.dataset.catalogue import Catalogue
from facta.encoders.fuxi import FuXiLinearConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.ligr import LiGRConfig
from facta.encoders.transformer import TransformerConfig
from facta.errors import ConfigError
from facta.models.recommender import Recommender, RecommenderConfig
from tests.worlds import batch_of, random_rows

ITEMS, WINDOW = 20, 16
ENCODERS = {
    "hstu": HSTUConfig(heads=2),
    "hstu-time": HSTUConfig(bias="time"),
    "hstu-position": HSTUConfig(bias="position", activated="u"),
    "hstu-none": HSTUConfig(bias="none"),
    "hstu-softmax": HSTUConfig(bias="none", attention="softmax", heads=2),
    "sasrec": TransformerConfig(heads=2, attention_dropout=0.3),
    "sasrec-rotary": TransformerConfig(rotary=True),
    "modern": TransformerConfig(preset="modern", heads=2),
    "ligr": LiGRConfig(heads=2, attention_dropout=0.3),
    "ligr-rotary": LiGRConfig(rotary=True),
    "fuxi": FuXiLinearConfig(chunk=4),
    "fuxi-timeless": FuXiLinearConfig(times=False, second_residual=True),
    "gru": GRUConfig(layers=2),
}
TIMED = ("hstu", "hstu-time", "fuxi")


@pytest.fixture(params=ENCODERS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def model(name: str) -> Recommender:
    model = (
        Recommender(RecommenderConfig(window=WINDOW, width=8, encoder=ENCODERS[name]), Catalogue(ITEMS)).double().eval()
    )
    with torch.no_grad():  # far from the initial point, where HSTU's attention is so small that a leak would not show
        for parameter in model.parameters():
            parameter.mul_(4.0)
    return model


def scores(model: Recommender, items: list[list[int]], times: list[list[int]]) -> list[np.ndarray]:
    """Per row [n - 1, V]: the prediction of each event but the first."""
    batch = batch_of(items, times)
    with torch.no_grad():
        dense = model.catalogue_scores(batch).dense().numpy()
    return np.split(dense, batch.offsets[1:-1].tolist())


def test_a_prediction_depends_on_earlier_facts_only(model: Recommender, name: str) -> None:
    (items,), (times,) = random_rows(np.random.default_rng(1), 1, 10, ITEMS, shortest=10)
    times = (np.array(times) + np.arange(10) * 1_000_000).tolist()
    (before,) = scores(model, [items], [times])
    uses_time = name in TIMED
    for event in range(10):
        changed = [*items[:event], (items[event] + 1) % ITEMS, *items[event + 1 :]]
        (after,) = scores(model, [changed], [times])
        moved = np.abs(after - before).max(axis=1) > 1e-9  # place t - 1 predicts event t
        assert not moved[: max(event, 0)].any(), f"item {event} reached a prediction of an event that is not later"
        assert event == 9 or moved[event], f"item {event} is not seen by the prediction of the next event"
        later = [*times[:event], times[event] + 900_000, *times[event + 1 :]]
        (after,) = scores(model, [items], [later])
        moved = np.abs(after - before).max(axis=1) > 1e-9
        assert not moved[: max(event - 1, 0)].any(), f"time {event} reached a prediction of an earlier event"
        assert uses_time or not moved.any()
    if uses_time:  # the time of the very event that is predicted may count, and does
        days = [*times[:-1], times[-1] + 40 * 86_400_000]
        (after,) = scores(model, [items], [days])
        assert np.abs(after[-1] - before[-1]).max() > 1e-9


def test_cutting_a_history_changes_no_earlier_prediction(model: Recommender) -> None:
    (items,), (times,) = random_rows(np.random.default_rng(2), 1, 12, ITEMS, shortest=12)
    (whole,) = scores(model, [items], [times])
    for cut in range(2, 12):
        (part,) = scores(model, [items[:cut]], [times[:cut]])
        np.testing.assert_allclose(part, whole[: cut - 1], rtol=0, atol=1e-12)


def test_scores_do_not_depend_on_batch_mates_or_order(model: Recommender) -> None:
    items, times = random_rows(np.random.default_rng(3), 7, WINDOW, ITEMS)
    together = scores(model, items, times)
    order = np.random.default_rng(4).permutation(7)
    shuffled = scores(model, [items[i] for i in order], [times[i] for i in order])
    for row in range(7):
        (alone,) = scores(model, [items[row]], [times[row]])
        np.testing.assert_allclose(together[row], alone, rtol=0, atol=1e-12)
        np.testing.assert_allclose(shuffled[list(order).index(row)], alone, rtol=0, atol=1e-12)


def test_losses_and_gradients_of_two_halves_add_up_to_the_whole(model: Recommender) -> None:
    """With dropout on and negatives drawn: every draw belongs to its target, not to its batch."""
    items, times = random_rows(np.random.default_rng(5), 6, WINDOW, ITEMS)
    model.train()

    def gradient(rows: slice) -> tuple[float, float, torch.Tensor]:
        model.zero_grad()
        batch = batch_of(items[rows], times[rows], first_user=rows.start)
        loss = model(batch, _each(3))["next_item"]
        loss.total.backward()
        flat = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        return loss.total.item(), loss.weight.item(), flat.clone()

    whole, first, second = gradient(slice(0, 6)), gradient(slice(0, 2)), gradient(slice(2, 6))
    assert whole[0] == pytest.approx(first[0] + second[0], rel=1e-12)
    assert whole[1] == first[1] + second[1]
    torch.testing.assert_close(whole[2], first[2] + second[2], rtol=1e-9, atol=1e-12)


def _each(count: int):
    from facta.types import Negatives

    return Negatives(each=count)


def test_training_differs_from_scoring_by_dropout_alone(model: Recommender) -> None:
    items, times = random_rows(np.random.default_rng(6), 3, WINDOW, ITEMS)
    scored = scores(model, items, times)
    model.train()
    dropped, again = scores(model, items, times), scores(model, items, times)
    assert any(np.abs(a - b).max() > 1e-6 for a, b in zip(scored, dropped, strict=True))
    for a, b in zip(dropped, again, strict=True):  # the same keys draw the same dropout
        np.testing.assert_array_equal(a, b)


def test_a_time_biased_encoder_refuses_events_without_times(name: str, model: Recommender) -> None:
    batch = batch_of([[1, 2, 3], [4, 5]])
    if name in TIMED:
        with pytest.raises(ConfigError, match="uses time"):
            model.catalogue_scores(batch)
    else:
        assert model.catalogue_scores(batch).dense().shape == (3, ITEMS)


@pytest.mark.parametrize("given", [{}, {"bias": "none", "normaliser": 200.0}])
def test_softmax_in_hstu_refuses_what_it_would_not_honour(given: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"for encoder\.attention=softmax, which has neither"):
        HSTUConfig.parse({"attention": "softmax", **given})


def test_an_empty_history_scores_all_items_alike(model: Recommender) -> None:
    from dataclasses import replace

    batch = batch_of([[1, 2], [3, 4]], [[0, 10], [0, 10]])
    blind = replace(batch, targets=replace(batch.targets, num_visible=torch.tensor([0, 1])))
    dense = model.catalogue_scores(blind).dense()
    assert dense[0].unique().numel() == 1
    assert dense[1].unique().numel() > 1
