"""Layouts: which tokens there are, what each sees, and which state predicts what, by hand and by the order of facts."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from facta import jagged
from facta.errors import ConfigError
from facta.layouts.layout import FUSED, INTERLEAVED, ITEM, ORDER, PAIRED, Layout
from facta.types import PREFIX, SERIES, Events, Fact, SequenceBatch, Series, Targets, TokenBatch
from tests.worlds import batch_of

SPLIT = Layout(("context",), ("item",), ("feedback",))
LAYOUTS = {"item": ITEM, "fused": FUSED, "interleaved": INTERLEAVED, "paired": PAIRED, "split": SPLIT}


@pytest.mark.parametrize(
    ("layout", "fact", "own", "late"),
    [
        (ITEM, "item", 0, ("context",)),
        (FUSED, "item", 0, ("context",)),
        (FUSED, "feedback", 0, ("context", "item")),
        (INTERLEAVED, "item", 0, ("context",)),
        (INTERLEAVED, "feedback", 1, ()),
        (PAIRED, "item", 0, ("context",)),
        (PAIRED, "feedback", 1, ()),
        (SPLIT, "item", 1, ()),
        (SPLIT, "feedback", 2, ()),
    ],
)
def test_what_reads_what(layout: Layout, fact: Fact, own: int, late: tuple[Fact, ...]) -> None:
    assert layout.tokens_before(fact) == own and layout.late_facts(fact) == late


def test_item_by_hand() -> None:
    tokens = ITEM.tokens(batch_of([[1, 2, 3], [4, 5]], [[10, 20, 30], [7, 9]]), ["item"])
    assert tokens.offsets.tolist() == [0, 2, 3] and tokens.source.tolist() == [0, 1, 2]
    assert tokens.sees.tolist() == tokens.position.tolist() == [0, 1, 0]
    assert tokens.time is not None and tokens.query_time is not None
    assert tokens.time.tolist() == [10, 20, 7] and tokens.query_time.tolist() == [20, 30, 9]
    assert tokens.reads["item"].state.tolist() == tokens.reads["item"].target.tolist() == [0, 1, 2]


def own_targets(lengths: list[int], aside: list[int], *, timed: bool = True) -> SequenceBatch:
    """Rows whose targets are all their events, in-line, and `aside` more at their end, 100 apart in time."""
    offsets = jagged.offsets_of(torch.tensor(lengths))
    place, row = jagged.places(offsets), jagged.rows(offsets)
    time = 1000 * row + 100 * place
    counts = [n + m for n, m in zip(lengths, aside, strict=True)]
    target_offsets = jagged.offsets_of(torch.tensor(counts))
    slot = torch.cat([torch.cat([torch.arange(n), torch.full((m,), -1)]) for n, m in zip(lengths, aside, strict=True)])
    after = torch.cat([torch.cat([torch.arange(n), torch.full((m,), n)]) for n, m in zip(lengths, aside, strict=True)])
    target_time = 1000 * jagged.rows(target_offsets) + 100 * after
    key = 7 + torch.arange(len(place))

    def events(count: int, time: torch.Tensor) -> Events:
        return Events(torch.arange(count), time if timed else None, key.new_tensor(range(50, 50 + count)))

    return SequenceBatch(
        offsets=offsets,
        events=replace(events(len(place), time), key=key),
        index=place,
        next_time=time + 100 if timed else None,
        targets=Targets(target_offsets, events(len(slot), target_time), after, slot, torch.ones(len(slot))),
    )


def test_interleaved_by_hand() -> None:
    tokens = INTERLEAVED.tokens(own_targets([2, 0], [2, 1]), ["item", "feedback"])
    assert tokens.offsets.tolist() == [0, 6, 7]
    assert tokens.kind.tolist() == [0, 1, 0, 1, 0, 0, 0]
    assert tokens.source.tolist() == [0, 0, 1, 1, 2 + 2, 2 + 3, 2 + 4]
    assert tokens.sees.tolist() == [0, 1, 2, 3, 4, 4, 0]  # targets aside see the history and no other target
    assert tokens.position.tolist() == [0, 0, 1, 1, 2, 2, 0]
    assert tokens.time is not None and tokens.query_time is not None
    assert tokens.time.tolist() == [0, 0, 100, 100, 200, 200, 1000]
    assert tokens.query_time.tolist() == [0, 100, 100, 200, 200, 200, 1000]  # f tokens look back from the next event
    feedback = tokens.reads["feedback"]
    assert feedback.target.tolist() == [0, 1, 2, 3, 4] and feedback.state.tolist() == [0, 2, 4, 5, 6]
    item = tokens.reads["item"]
    assert item.target.tolist() == [1, 2, 3] and item.state.tolist() == [1, 3, 3]


def test_targets_without_weight_have_no_token() -> None:
    batch = own_targets([2], [2])
    batch = replace(batch, targets=replace(batch.targets, weight=torch.tensor([1.0, 0.0, 0.0, 1.0])))
    tokens = INTERLEAVED.tokens(batch, ["feedback"])
    assert tokens.source.tolist() == [0, 0, 1, 1, 2 + 3]
    assert tokens.reads["feedback"].target.tolist() == [0, 3]


def test_prefix_and_series_stand_where_they_belong() -> None:
    batch = own_targets([2, 1], [1, 0])
    series = Series(
        offsets=torch.tensor([0, 3, 3]),
        field=torch.tensor([0, 1, 0]),
        value=torch.tensor([5, 6, 7]),
        time=torch.tensor([0, 40, 150]),
        after=torch.tensor([1, 1, 2]),
        key=torch.tensor([1, 2, 3]),
    )
    batch = replace(batch, series=series, user={"age": torch.tensor([3, 4]), "city": torch.tensor([8, 9])})
    tokens = FUSED.tokens(batch, ["item"])
    assert tokens.kind.tolist() == [PREFIX, PREFIX, 0, SERIES, SERIES, 0, SERIES, PREFIX, PREFIX, 0]
    assert tokens.source.tolist() == [0, 1, 0, 0, 1, 1, 2, 2, 3, 2]
    assert tokens.sees.tolist() == [2, 2, 2, 3, 4, 5, 6, 2, 2, 2]
    item = tokens.reads["item"]
    assert item.target.tolist() == [0, 1, 2, 3]  # the prefix is read for what comes first
    assert item.state.tolist() == [1, 4, 6, 8]


@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("name", LAYOUTS)
def test_no_state_shows_what_it_predicts(name: str, timed: bool) -> None:
    """The order of facts, checked on the tokens that every read state can reach."""
    layout = LAYOUTS[name]
    batch = own_targets([3, 1, 0, 4], [2, 0, 1, 1] if name != "split" else [0, 0, 0, 0], timed=timed)
    predicted: list[Fact] = ["item"] if name == "item" else ["item", "feedback"]
    tokens = layout.tokens(batch, predicted)
    for fact in predicted:
        read = tokens.reads[fact]
        for state, target in zip(read.state.tolist(), read.target.tolist(), strict=True):
            for shown in reach(layout, batch, tokens, state):
                assert known_before(shown, target, fact, batch), (fact, target, shown)
            assert batch.targets.weight[target]
        reached = set(read.target.tolist())
        wanted = {
            s
            for s in range(len(batch.targets.input_index))
            if layout.tokens_before(fact) or batch.targets.num_visible[s] > 0
        }
        assert reached == wanted


def reach(layout: Layout, batch: SequenceBatch, tokens: TokenBatch, state: int) -> list[tuple[int, Fact]]:
    """(source, fact) of all that a state may depend on; the time looked back from is a fact of its event."""
    row = int(jagged.rows(tokens.offsets)[state])
    first = int(tokens.offsets[row])
    todo, seen = [state], set()
    while todo:
        one = todo.pop()
        if one not in seen:
            seen.add(one)
            todo += range(first, first + int(tokens.sees[one]))
    return [(int(tokens.source[one]), fact) for one in seen for fact in layout.shows[int(tokens.kind[one])]]


def known_before(shown: tuple[int, Fact], target: int, fact: Fact, batch: SequenceBatch) -> bool:
    source, what = shown
    events = len(batch.events.item)
    if source >= events:  # a target aside: only its own
        return source - events == target and ORDER.index(what) < ORDER.index(fact)
    row = jagged.rows(batch.targets.offsets)[target]
    place = source - int(batch.offsets[row])
    slot = int(batch.targets.input_index[target])
    own = place == slot and ORDER.index(what) < ORDER.index(fact)
    return own or place < int(batch.targets.num_visible[target])


def seeing(after: list[int], slot: list[int] | None = None) -> SequenceBatch:
    """One row of which every event is a target that sees so many of the events before it."""
    batch = own_targets([len(after)], [0])
    place = batch.targets.input_index if slot is None else torch.tensor(slot)
    seen = torch.tensor(after)
    return replace(batch, targets=replace(batch.targets, num_visible=seen, input_index=place, sees=seen))


@pytest.mark.parametrize("name", ["item", "fused", "interleaved", "paired"])
def test_targets_that_see_less_than_stands_before_them_are_all_read(name: str) -> None:
    """Their own event's token has seen too much: those get a token of their own, or read the last one that they see."""
    layout, after = LAYOUTS[name], [0, 0, 1, 3, 2, 2, 6]
    facts: list[Fact] = ["item"] if name == "item" else ["item", "feedback"]
    batch = seeing(after)
    tokens = layout.tokens(batch, facts)
    for fact in facts:
        read = tokens.reads[fact]
        assert read.target.tolist() == [s for s in range(7) if layout.tokens_before(fact) or after[s] > 0]
        for state, target in zip(read.state.tolist(), read.target.tolist(), strict=True):
            for shown in reach(layout, batch, tokens, state):
                assert known_before(shown, target, fact, batch), (fact, target, shown)
    if name in ("interleaved", "paired"):
        own = [int(place) for place in tokens.source[tokens.reads["feedback"].state]]
        assert own == [0, 7 + 1, 7 + 2, 3, 7 + 4, 7 + 5, 6]  # targets 0, 3 and 6 see all before them


def test_a_gap_is_an_event_that_a_target_may_see_and_does_not_find() -> None:
    """Of events 0 … 4 the inputs 0, 1 and 3 were kept: what follows the missing 2 has no predecessor to read."""
    batch = seeing([0, 1, 2])
    batch = replace(batch, index=torch.tensor([0, 1, 3]))
    whole = replace(batch.targets, sees=torch.tensor([0, 1, 3]))
    assert FUSED.tokens(replace(batch, targets=whole), ["item"]).reads["item"].target.tolist() == [1]
    delayed = replace(batch.targets, sees=torch.tensor([0, 1, 2]))  # the last one may not see event 2
    assert FUSED.tokens(replace(batch, targets=delayed), ["item"]).reads["item"].target.tolist() == [1, 2]


def test_a_target_that_sees_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="sees itself or later events"):
        FUSED.tokens(seeing([0, 1, 3]), ["item"])


def test_a_target_that_needs_several_tokens_of_its_own_is_refused() -> None:
    """The one token that it would get shows the item, which is to be predicted."""
    for batch in (seeing([0, 1, 1]), own_targets([2], [1])):
        with pytest.raises(ConfigError, match="predicts from 2 tokens of its event"):
            SPLIT.tokens(batch, ["item", "feedback"])
    SPLIT.tokens(seeing([0, 1, 2]), ["item", "feedback"])
