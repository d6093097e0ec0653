"""What a memory was made of, against what a request shows: whatever differs ends what is still true."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from facta.encoders.hstu import HSTUConfig
from facta.infer.cache import Cache
from facta.infer.content import contents
from facta.infer.memories import Memories, remembered
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.testing.batches import catalogue
from facta.types import Events, Lists, SequenceBatch, Series, Targets


def batch(count: int = 6, *, at: int = 600) -> SequenceBatch:
    """A person with events at 0, 100, … ms, changes before the first and the fourth one, and a request."""
    time = 100 * torch.arange(count)
    column = torch.arange(count) % 2
    return SequenceBatch(
        offsets=torch.tensor([0, count]),
        events=Events(1 + torch.arange(count) % 3, time, time * 0, {"click": column + 1, "tab": column}),
        index=torch.arange(count),
        next_time=torch.cat([time[1:], torch.tensor([at])]),
        targets=Targets(
            torch.tensor([0, 1]), Events(torch.tensor([-1]), torch.tensor([at]), torch.tensor([0])),
            torch.tensor([count]), torch.tensor([-1]), torch.ones(1),
        ),
        series=Series(
            offsets=torch.tensor([0, 2]), field=torch.tensor([0, 1]), value=torch.tensor([1, 2]),
            time=torch.tensor([-5, 250]), after=torch.tensor([0, 3]), key=torch.tensor([0, 0]),
        ),
        user={"city": torch.tensor([1])},
        lists=Lists(torch.tensor([0, 2]), torch.tensor([0, 0]), torch.tensor([2, 3])),
    )  # fmt: skip


def changed(values: Tensor | None, place: int) -> Tensor:
    assert values is not None
    return values.index_add(0, torch.tensor([place]), torch.tensor([7]))


def common(other: SequenceBatch, events: int = 5) -> int:
    """Events that a memory of the first ones of `batch` has in common with another."""
    return contents(batch())[0].until(events).common(contents(other)[0])


@pytest.mark.parametrize("place", [0, 2, 4])
@pytest.mark.parametrize("column", ["item", "time", "next_time", "click", "tab"])
def test_an_event_that_differs_ends_what_is_the_same(column: str, place: int) -> None:
    made = batch()
    events = made.events
    if column in ("item", "time"):
        made = replace(made, events=replace(events, **{column: changed(getattr(events, column), place)}))
    elif column == "next_time":
        made = replace(made, next_time=changed(made.next_time, place))
    else:
        fields = {**events.fields, column: changed(events.fields[column], place)}
        made = replace(made, events=replace(events, fields=fields))
    assert common(made) == place


@pytest.mark.parametrize("column", ["field", "value", "time"])
def test_a_change_that_differs_ends_it_before_the_event_that_it_follows(column: str) -> None:
    series = batch().series
    assert series is not None
    for place, expected in ((0, 0), (1, 2)):  # the second one stands behind the third event
        other = replace(series, **{column: changed(getattr(series, column), place)})
        assert common(replace(batch(), series=other)) == expected


def test_a_change_more_or_less_is_a_difference() -> None:
    less = batch(at=600)
    assert less.series is not None
    cut = replace(
        less.series,
        offsets=torch.tensor([0, 1]),
        **{name: getattr(less.series, name)[:1] for name in ("field", "value", "time", "after", "key")},
    )
    assert common(replace(less, series=cut)) == 2
    assert contents(replace(less, series=cut))[0].until(5).common(contents(batch())[0]) == 2
    assert contents(replace(less, series=cut))[0].until(2).common(contents(batch())[0]) == 2, "it comes later"


def test_facts_and_lists_are_a_head_of_their_own() -> None:
    assert common(batch()) == 5
    assert common(replace(batch(), user={"city": torch.tensor([2])})) == 0
    lists = batch().lists
    assert lists is not None
    assert common(replace(batch(), lists=replace(lists, item=torch.tensor([3, 2])))) == 0


def test_more_and_fewer_events() -> None:
    assert common(batch(9)) == 5
    assert common(batch(3, at=300)) == 3
    assert common(batch(3, at=301)) == 2, "the newest event looks back from another time"


def test_no_more_is_taken_than_is_closed() -> None:
    """Events were taken back, and the request comes when the next one had been: all that is left was kept."""
    encoder = HSTUConfig(layers=1)
    config = RecommenderConfig(window=8, width=8, layout="fused", encoder=encoder, feedback=FeedbackConfig())
    model = Recommender(config, catalogue(users=False, series=False, described=False)).eval()
    memories: Memories = Cache(1 << 20)
    spec = model.inputs

    def given(count: int, at: int) -> SequenceBatch:
        made = batch(count, at=at)
        fields = dict.fromkeys(spec.fields, made.events.item * 0)
        return replace(made, events=replace(made.events, fields=fields), series=None, user={}, lists=None)

    for count, at in ((6, 600), (4, 400)):
        with torch.inference_mode(), remembered(model, memories, ["person"], given(count, at)) as asked:
            found = asked.queries(given(count, at))
        assert torch.allclose(found, model.queries(given(count, at)), atol=1e-6)


def test_what_is_kept_stays_within_its_budget() -> None:
    held: Cache[str, int] = Cache(100)
    for name, size in (("a", 40), ("b", 40)):
        held.put(name, size, size)
    assert held.get("a") == 40
    held.put("c", 30, 30)
    assert [*held] == ["a", "c"] and held.nbytes == 70 and held.evicted == 1, "b was used longest ago"
    held.put("a", 60, 60)
    assert held.nbytes == 90, "a value in the place of another one"
    held.put("c", 101, 101)
    assert "c" not in held and held.nbytes == 60, "what is larger than all is not held, and the old value is gone"
    held.drop("a")
    held.drop("a")
    assert held.nbytes == 0 and len(held) == 0 and np.isclose(held.budget, 100)
