"""What a request reads and answers, each against an answer by hand: exclusion, many histories at once, times, order."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from facta.data.batches.request import Asked, request
from facta.data.dataset.dataset import Dataset
from facta.infer import ranking
from facta.infer.artifact import Artifact
from facta.infer.history import History, encoded
from facta.infer.history_of import history_of
from tests.unit.test_candidates import MINUTE, T0
from tests.unit.test_candidates import artifact as rich
from tests.unit.test_candidates import log as log  # the fixture
from tests.unit.test_engine import artifact


def popular(engine: Artifact) -> Artifact:
    """The same items behind scores that are written out, of which some are equal."""
    scores = torch.tensor([3.0, 5.0, 5.0, 1.0, 9.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 4.0])
    engine.model.catalogue_scores = lambda batch: scores.expand(len(batch.targets.num_visible), -1)  # type: ignore[method-assign, assignment]
    object.__setattr__(engine.model, "next_item", None)  # no inner product
    return engine


def test_popularity_recommends_nothing_that_was_excluded() -> None:
    """Item 10 is the most popular one, 30 the second; item 40 is known and was never trained on."""
    engine = artifact()
    for history in ([], [999], [40, 40], History([])):
        answer = engine.recommend(history, 3, exclude=[10, 999])
        assert answer.source == ["popularity"] and answer.ids == [[30, 20, 110]], history
    mixed = engine.recommend([[0, 20], [], [40]], 3, exclude=[30])
    assert mixed.source == ["model", "popularity", "popularity"] and mixed.ids[1:] == [[10, 20, 110]] * 2
    assert 30 not in mixed.ids[0]


@pytest.mark.parametrize("make", [artifact, lambda: popular(artifact())], ids=["product", "dense"])
@pytest.mark.parametrize("count", [255, 256, 257, 343, 513, 600])
def test_each_of_many_histories_gets_its_own_list(make: object, count: int) -> None:
    """Around the number of requests that are encoded together. Every fifth is answered by popularity: of 343 the model
    answers 257.
    """
    engine: Artifact = make()  # type: ignore[operator]
    kinds = [[10 * (n % 11 + place) % 110 for place in range(n % 4 + 1)] if n % 5 else [] for n in range(20)]
    alone = [engine.recommend(history, 4) for history in kinds]
    together = engine.recommend([kinds[n % 20] for n in range(count)], 4)
    assert together.ids == [alone[n % 20].ids[0] for n in range(count)]
    assert together.source == [alone[n % 20].source[0] for n in range(count)]
    for n in range(count):
        assert together.scores[n] == pytest.approx(alone[n % 20].scores[0], rel=1e-4)


def test_each_request_has_its_own_time_where_some_histories_go_to_popularity() -> None:
    engine = artifact(timed=True)
    histories = [History([0, 10, 20][: n % 4], [T0, T0 + 1000, T0 + 2000][: n % 4]) for n in range(8)]
    times = [T0 + 3000 + 40 * MINUTE * 7**n for n in range(8)]
    together = engine.recommend(histories, 5, at=times)
    assert together.source == (["popularity"] + ["model"] * 3) * 2
    for n, (history, time) in enumerate(zip(histories, times, strict=True)):
        alone = engine.recommend(history, 5, at=time)
        assert together.scores[n] == pytest.approx(alone.scores[0], rel=1e-5)
        assert together.ids[n] == alone.ids[0]
    assert len({tuple(together.scores[n]) for n in (1, 5)}) == 2  # one history, two times


def test_events_of_equal_time_keep_their_order_and_their_fields(log: Dataset) -> None:
    """Sixty events of three moments, given out of order: an unstable sort shows from seventeen on."""
    engine = rich(log)
    items = [n % 8 for n in range(60)]
    clicks, stars = [n % 2 for n in range(60)], [[1.0, 2.5, 4.0][n % 3] for n in range(60)]
    history = History(
        items,
        [T0 + MINUTE * (2 - n // 20) for n in range(60)],
        {"click": clicks, "stars": stars, "tab": [["home", "search"][n % 5 % 2] for n in range(60)]},
    )
    found = encoded(history, engine.rows_of, engine.verbs.fields, engine.model.inputs)
    order = [*range(40, 60), *range(20, 40), *range(20)]
    assert found.rows.tolist() == [items[n] for n in order]
    assert found.fields["click"].tolist() == [1 + clicks[n] for n in order]
    assert found.fields["stars"].tolist() == [1 + n % 3 for n in order]
    assert found.fields["tab"].tolist() == [1 + n % 5 % 2 for n in order]
    batch = request([found], [T0 + MINUTE * 9], 25)
    assert batch.events.item.tolist() == found.rows[-25:].tolist()
    assert batch.events.fields["stars"].tolist() == found.fields["stars"][-25:].tolist()


def test_a_change_at_the_moment_itself_is_known(log: Dataset) -> None:
    """User 3's facts change at 50 · half + 3 minutes, for half = -2, -1, 1, 2, 4, 5, …; `until` includes its moment."""
    at = T0 + MINUTE * 103  # half = 2, and an event
    names = [
        (int(np.datetime64(time, "ms").astype(int) - T0) // MINUTE, name)
        for time, name, _ in history_of(log, 3, until=at).series
    ]
    assert names[-2:] == [(103, "plan"), (103, "level")]
    before = history_of(log, 3, until=at - 1)
    assert len(before.series) == len(names) - 2 and len(before.items) == len(history_of(log, 3, until=at).items) - 1


def test_equal_candidates_stay_in_their_order() -> None:
    """Enough of them that an unstable sort would show; between them one that is better, and another list's."""
    asked = [Asked(np.zeros(90, dtype=np.int64)), Asked(np.zeros(40, dtype=np.int64))]
    value = np.zeros(130)
    value[[30, 100]] = 1.0
    first, second = ranking.orders(value, asked)
    assert first.tolist() == [30, *range(30), *range(31, 90)]
    assert second.tolist() == [100, *range(90, 100), *range(101, 130)]


@pytest.mark.parametrize("model", ["interleaved", "dlrm"])
def test_earlier_lists_keep_their_order_and_unknown_items_are_no_item(log: Dataset, model: str) -> None:
    engine = rich(log, model)
    stored, schema, spec = history_of(log, 11), engine.verbs.fields, engine.model.inputs
    assert stored.user["before"] == [3, 6] and spec.lists == ("before",)
    histories = [History([1], [T0], user={"before": [5, 2, 999, 7]}), History([1], [T0]), stored]
    read = [encoded(one, engine.rows_of, schema, spec) for one in histories]
    assert [one.lists["before"].tolist() for one in read] == [[5, 2, -1, 7], [], [3, 6]]
    batch = request(read, [T0 + MINUTE, T0 + MINUTE, T0 + 2000 * MINUTE], 6)
    assert batch.lists is not None
    assert batch.lists.item.tolist() == [5, 2, -1, 7, 3, 6] and batch.lists.offsets.tolist() == [0, 4, 4, 6]

    def score(before: list[int]) -> float:
        history = History([1], [T0], user={"before": before})
        return engine.rank(history, [4], at=T0 + MINUTE, by="click").scores["click"][0][0]

    scores = [score(before) for before in ([], [999], [0], [1])]
    assert len({round(one, 6) for one in scores}) == 4  # an unknown item is an entry of the list, and is not item 0


def test_a_prior_beside_the_learned_scores_counts_in_requests() -> None:
    """With a prior the scores are no product of vectors, so the prepared vectors alone would forget it."""

    class HigherRows(torch.nn.Module):
        def added(self, scores: torch.Tensor, batch: object) -> torch.Tensor:
            return scores + 1000.0 * torch.arange(scores.shape[1])

    engine = artifact()
    engine.model.prior = HigherRows()  # type: ignore[assignment]
    assert engine.recommend([[0, 10], [20]], 3).ids == [[110, 100, 90]] * 2
