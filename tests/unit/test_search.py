"""A search of long histories: what it finds, what is made of it, and its place in a model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from facta import jagged
from facta.errors import ConfigError
from facta.layers import search as layers_search
from facta.layers.recent import UNTIMED_AGE, Recent, age_of, recent
from facta.layers.search import Piece, alike, best, pieces
from facta.models.dlrm import DLRM, DLRMConfig
from facta.models.history import DINConfig, HistoryConfig, HistoryReader
from facta.models.sim import SIM, SIMConfig
from facta.models.transact import HOUR_MS, TransAct, TransActConfig
from facta.models.twin import TWIN, TWINConfig
from facta.objectives.feedback import FeedbackConfig
from facta.testing.batches import Row, aside, batch, catalogue, random_row
from facta.types import Lists, SequenceBatch

WIDTH, WINDOW, LONG = 8, 2, 9


def people(count: int = 5, longest: int = 14, seed: int = 0) -> list[Row]:
    """Of different lengths, one of them without events."""
    rng = np.random.default_rng(seed)
    lengths = [longest, 0, *rng.integers(1, longest, count - 2).tolist()]
    return [random_row(rng, length, name) for name, length in enumerate(lengths)]


def batch_of(rows: list[Row]) -> SequenceBatch:
    """Every event of everybody as an input, and as a target beside it; lists of two kinds."""
    found = batch(rows)
    entries = torch.tensor([[0, 0, 1], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 1, 1]][: len(rows)])
    item = torch.arange(entries.numel()) % 20
    offsets = torch.arange(0, entries.numel() + 1, entries.shape[1])
    return replace(found, lists=Lists(offsets, entries.flatten(), item))


def seen(given: SequenceBatch, target: int, window: int, skip: int = 0) -> list[int]:
    """The events that a target may look at: the definition."""
    row = int(jagged.rows(given.targets.offsets)[target])
    first, after = int(given.offsets[row]), int(given.targets.num_visible[target])
    return [first + place for place in range(max(after - window, 0), max(after - skip, 0))]


# --- the search


@pytest.mark.parametrize("at_once", [1, 40, 1 << 18])
@pytest.mark.parametrize(("window", "lists"), [(1, 0), (1, 2), (LONG, 2), (100, 0)])
def test_a_target_of_a_piece_sees_what_it_sees_by_pairs(
    window: int, lists: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers_search, "SCORES_AT_ONCE", at_once)
    given, place = batch_of(people()), 0
    pairs = recent(given, window, lists)
    for piece in pieces(given, window, lists=lists):
        assert piece.first == place and piece.seen.shape == (piece.last - piece.first, len(piece.source))
        for target in range(piece.first, piece.last):
            expected = pairs.source[pairs.target == target].tolist()
            assert piece.source[piece.seen[target - piece.first]].tolist() == expected
        place = piece.last
    assert place == len(given.targets.num_visible)


def test_a_search_leaves_out_the_newest_events_where_others_read_them() -> None:
    given = batch_of(people())
    for piece in pieces(given, LONG, skip=3):
        for target in range(piece.first, piece.last):
            found = piece.source[piece.seen[target - piece.first]].tolist()
            assert found == seen(given, target, LONG, 3)


@pytest.mark.parametrize("most", [1, 3, 100])
@pytest.mark.parametrize("skip", [0, 2])
def test_alike_finds_the_newest_of_the_same_code(most: int, skip: int) -> None:
    given = batch_of(people(longest=25))
    rng = torch.Generator().manual_seed(1)
    code = torch.randint(0, 4, (len(given.events.item),), generator=rng)
    asked = torch.randint(0, 6, (len(given.targets.num_visible),), generator=rng)  # 4 and 5 are of no event
    found = alike(given, code, asked, window=LONG, skip=skip, most=most)
    some = 0
    for target, (source, there) in enumerate(zip(*found, strict=True)):
        own = [event for event in seen(given, target, LONG, skip) if code[event] == asked[target] > 0]
        assert source[there].tolist() == own[-most:]
        some += len(own)
    assert some > 20


def by_turns(score: Tensor, may: Tensor, most: int) -> list[int]:
    """Of one target, [H, e] scores: the definition."""
    heads = [
        sorted(torch.nonzero(may).flatten().tolist(), key=lambda place: (float(one[place]), place), reverse=True)
        for one in score
    ]
    found: list[int] = []
    for turn in range(len(may)):
        for head in heads:
            if turn < len(head) and head[turn] not in found and len(found) < most:
                found.append(head[turn])
    return sorted(found)


@pytest.mark.parametrize("kind", ["different", "equal", "few"])
@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("most", [1, 4, 12, 30])
def test_the_best_are_those_that_heads_name_in_turn_and_the_newer_of_equal_ones(
    kind: str, heads: int, most: int
) -> None:
    rng = torch.Generator().manual_seed(2)
    score = torch.randn(heads, 6, 12, generator=rng)
    score = {"different": score, "equal": score * 0, "few": score.round()}[kind]
    score[:, 0] *= -1.0  # zeros of either sign are equal
    may = torch.rand(6, 12, generator=rng) < 0.7
    may[1] = False
    source = torch.arange(100, 112)
    found = best(score, Piece(0, 6, source, may), most)
    for target in range(6):
        expected = by_turns(score[:, target], may[target], most)
        assert found.source[target][found.there[target]].tolist() == [100 + place for place in expected]
    again = best(score.double(), Piece(0, 6, source, may), most)
    assert torch.equal(again.source[again.there], found.source[found.there])


# --- what is made of it: slow twins


def reader_of(config: HistoryConfig) -> HistoryReader:
    torch.manual_seed(3)
    known = catalogue(users=True, series=False, described=True)
    made = config.reader(replace(known, users=(*known.users, known.users[2].change(name="before"))), WINDOW, WIDTH, 0.5)
    for parameter in made.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return made.double().eval()


def vectors(given: SequenceBatch) -> tuple[Tensor, Tensor]:
    """Of sources and targets: those of one item are alike, as a table has them."""
    table = torch.randn(20, WIDTH, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    assert given.lists is not None
    return table[torch.cat([given.events.item, given.lists.item])], table[given.targets.events.item]


def ages(given: SequenceBatch, sources: list[int], target: int) -> Tensor:
    return age_of(given, torch.tensor(sources, dtype=torch.int64), torch.tensor(target))


def facts(table: nn.Module, given: SequenceBatch, source: int) -> Tensor:
    found: Tensor = table(given.events.fields, torch.tensor([source]))[0]
    return found


class SlowTWIN:
    """The formula, one target at a time."""

    def __init__(self, reader: TWIN, given: SequenceBatch) -> None:
        self.reader, self.given = reader, given
        self.items, self.targets = vectors(given)
        self.count = len(given.events.item)

    def scores(self, target: int, sources: list[int]) -> Tensor:
        """[H, e]."""
        reader, heads = self.reader, self.reader.config.heads
        width = WIDTH // heads
        found = torch.zeros(heads, len(sources), dtype=torch.float64)
        for place, (source, age) in enumerate(zip(sources, ages(self.given, sources, target), strict=True)):
            key, query = reader.key.weight @ self.items[source], reader.query.weight @ self.targets[target]
            bias = reader.age_bias[age] + self._of(reader.fact_bias, reader.list_bias, source)
            for head in range(heads):
                own = slice(head * width, (head + 1) * width)
                found[head, place] = key[own] @ query[own] / width**0.5 + bias[head]
        return found

    def _of(self, table: nn.Module | None, lists: Tensor | None, source: int) -> Tensor:
        assert table is not None and lists is not None and self.given.lists is not None
        if source < self.count:
            return facts(table, self.given, source)
        return lists[self.given.lists.which[source - self.count]]

    def attention(self, target: int, sources: list[int], kept: list[int]) -> Tensor:
        """[D]: over all of the history, with what was not found masked."""
        masked = torch.tensor([source not in kept for source in sources], dtype=torch.bool)
        weight = self.scores(target, sources).masked_fill(masked, -torch.inf).softmax(dim=1)
        reader, heads = self.reader, []
        for head, own in enumerate(range(0, WIDTH, WIDTH // reader.config.heads)):
            said = torch.zeros(WIDTH // reader.config.heads, dtype=torch.float64)
            for place, (source, age) in enumerate(zip(sources, ages(self.given, sources, target), strict=True)):
                value = reader.value.weight @ self.items[source] + reader.age_value[age]
                value = value + self._of(reader.fact_value, reader.list_value, source)
                said = said + weight[head, place] * value[own : own + len(said)]
            heads.append(said)
        return reader.out.weight @ torch.cat(heads)


def of_twin(
    given: SequenceBatch, found: int, long: int = LONG
) -> tuple[SlowTWIN, Tensor, Iterator[tuple[int, list[int]]]]:
    reader = reader_of(TWINConfig(long=long, found=found, heads=2))
    assert isinstance(reader, TWIN)
    slow = SlowTWIN(reader, given)
    states = reader(given, slow.items, slow.targets).states
    pairs = recent(given, long, 2)
    every = ((target, pairs.source[pairs.target == target].tolist()) for target in range(len(states)))
    return slow, states, every


@pytest.mark.parametrize("found", [1, 4, LONG + 3])
@torch.no_grad()
def test_twin_is_attention_over_all_with_what_was_not_found_masked(found: int) -> None:
    given, several = batch_of(people()), 0
    slow, states, every = of_twin(given, found)
    for target, sources in every:
        if not sources:
            assert not states[target].any()
            continue
        kept = by_turns(slow.scores(target, sources).float(), torch.ones(len(sources), dtype=torch.bool), found)
        expected = slow.attention(target, sources, [sources[place] for place in kept])
        torch.testing.assert_close(states[target], expected)
        several += len(sources) > found
    assert several > 10 or found > LONG


@torch.no_grad()
def test_twin_that_finds_all_is_target_attention_over_all() -> None:
    given = batch_of(people())
    slow, states, every = of_twin(given, found=50, long=50)
    for target, sources in every:
        if sources:
            torch.testing.assert_close(states[target], slow.attention(target, sources, sources))


def slow_sim(reader: SIM, given: SequenceBatch, target: int, found: list[int]) -> Tensor:
    """[H Z]: over all older events, with what was not found masked."""
    items, targets = vectors(given)
    sources, older = reader.newest.sources(given, items), seen(given, target, LONG, WINDOW)
    if not found:
        return torch.zeros(reader.width - WIDTH, dtype=torch.float64)
    query = (reader.query.weight @ targets[target]).view(reader.config.heads, -1)
    z = torch.stack(
        [
            torch.cat([sources[source], reader.age[age]])
            for source, age in zip(older, ages(given, older, target), strict=True)
        ]
    )
    masked = torch.tensor([source not in found for source in older], dtype=torch.bool)
    key = (z @ reader.key.weight.T).view(len(older), reader.config.heads, -1)
    score = torch.stack([key[:, head] @ query[head] for head in range(reader.config.heads)])
    weight = score.masked_fill(masked, -torch.inf).softmax(dim=1)
    return torch.cat([weight[head] @ z for head in range(reader.config.heads)])


@pytest.mark.parametrize("found", [1, 2, 100])
@pytest.mark.parametrize("search", ["hard", "soft"])
@torch.no_grad()
def test_sim_is_din_beside_attention_over_what_was_found(search: str, found: int) -> None:
    given, several = batch_of(people(longest=20)), 0
    reader = reader_of(
        SIMConfig.parse({"search": search, "by": "kind", "long": LONG, "found": found, "score_width": 4})
    )
    assert isinstance(reader, SIM)
    items, targets = vectors(given)
    states, searched = reader(given, items, targets)
    sources = reader.newest.sources(given, items)
    assert torch.equal(states[:, :WIDTH], reader.newest(given, items, targets).states)
    for target in range(len(states)):
        older = seen(given, target, LONG, WINDOW)
        if search == "hard":
            own = reader.codes[given.targets.events.item[target]]
            kept = [event for event in older if reader.codes[given.events.item[event]] == own > 0][-found:]
        else:
            assert reader.search_source is not None and reader.search_target is not None and searched is not None
            of_source, of_target = reader.search_source(sources[older]), reader.search_target(targets[target])
            score = of_source @ of_target
            kept = [older[place] for place in by_turns(score[None].float(), torch.ones(len(older)).bool(), found)]
            pooled = (score[:, None] * sources[older]).sum(dim=0) / max(len(older), 1)
            torch.testing.assert_close(searched[target], torch.cat([pooled, targets[target]]))
        torch.testing.assert_close(states[target, WIDTH:], slow_sim(reader, given, target, kept))
        several += len(kept) < len(older)
    assert several > 10 or (search == "soft" and found == 100)


def test_an_item_without_a_category_finds_nothing() -> None:
    reader = reader_of(SIMConfig(by="kind", long=LONG))
    assert isinstance(reader, SIM)
    given = batch_of(people())
    reader.codes.zero_()
    assert not reader(given, *vectors(given)).states[:, WIDTH:].any()


def test_transact_is_torchs_transformer_over_each_action_beside_the_item() -> None:
    config = TransActConfig(actions=5, action_width=6, heads=2, hidden=7, newest=3)
    reader, given = reader_of(config), batch_of(people())
    assert isinstance(reader, TransAct) and given.lists is not None and reader.facts is not None
    width = 2 * WIDTH + 6
    layer = nn.TransformerEncoderLayer(width, 2, 7, batch_first=True, dtype=torch.float64)
    twin = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    for ours, theirs in zip(reader.encoder.layers, twin.layers, strict=True):
        attention = ours.attention
        given_to = theirs.self_attn
        given_to.in_proj_weight.data = torch.cat([attention.q.weight, attention.kv.weight])
        given_to.in_proj_bias.data = torch.cat([attention.q.bias, attention.kv.bias])
        given_to.out_proj.load_state_dict(attention.out.state_dict())
        theirs.linear1.load_state_dict(ours.inner.state_dict())
        theirs.linear2.load_state_dict(ours.outer.state_dict())
        theirs.norm1.load_state_dict(ours.norm_attention.state_dict())
        theirs.norm2.load_state_dict(ours.norm_feed.state_dict())
    items, targets = vectors(given)
    states, pairs = reader(given, items, targets).states, recent(given, 5, 2)
    of_event = reader.facts(given.events.fields, torch.arange(len(given.events.item)))
    actions = torch.cat([of_event, F.embedding(given.lists.which, reader.list)])  # type: ignore[arg-type]
    assert states.shape[1] == reader.width == 4 * width
    for target in range(len(states)):
        own = pairs.source[pairs.target == target]
        beside = targets[target].expand(len(own), WIDTH)
        tokens = twin(torch.cat([items[own], actions[own], beside], dim=1)[None])[0] if len(own) else items[:0, :0]
        most = tokens.amax(dim=0) if len(own) else items.new_zeros(width)
        newest = torch.zeros(3, width, dtype=torch.float64)
        newest[: min(len(own), 3)] = tokens.flip(0)[:3]
        torch.testing.assert_close(states[target], torch.cat([reader.pooled(most), newest.flatten()]))


def shown(reader: TransAct, given: SequenceBatch) -> Tensor:
    """[S] how many events each target sees."""
    return jagged.lengths(reader._seen(given).offsets)


def test_transact_hides_the_last_hours_in_training_alone() -> None:
    reader = reader_of(TransActConfig(hidden_hours=24.0, actions=50))
    assert isinstance(reader, TransAct)
    rng = np.random.default_rng(0)
    row = random_row(rng, 400, 0)
    row = replace(row, time=[row.time[0] + place * HOUR_MS // 2 for place in range(400)])  # one in half an hour
    given = aside([(row, range(60, 400))])
    assert given.events.time is not None and given.targets.events.time is not None
    assert (shown(reader, given) == 50 + len(row.earlier)).all()
    hidden = 50 - shown(reader.train(), given)
    assert hidden.min() <= 1 and hidden.max() in (47, 48) and len(hidden.unique()) > 40
    pairs = reader._seen(given)
    since = given.targets.events.time[pairs.target] - given.events.time[pairs.source]
    own = torch.full_like(hidden, 1 << 60).scatter_reduce(0, pairs.target, since, "amin")
    assert torch.equal((own / (HOUR_MS / 2)).long() - 1, hidden)  # the newest are hidden, and nothing behind them
    again = replace(given, targets=replace(given.targets, events=replace(given.targets.events, key=hidden + 7)))
    assert not torch.equal(shown(reader, again), shown(reader, given))
    assert torch.equal(shown(reader, given), 50 - hidden)


def test_times_are_not_needed() -> None:
    given = batch_of(people())
    timeless = replace(
        given,
        events=replace(given.events, time=None),
        targets=replace(given.targets, events=replace(given.targets.events, time=None)),
    )
    assert (age_of(timeless, torch.arange(3), torch.arange(3)) == UNTIMED_AGE).all()
    for config in (SIMConfig(by="kind", long=LONG), TWINConfig(long=LONG, found=2), TransActConfig(heads=1)):
        assert reader_of(config).train()(timeless, *vectors(given)).states.isfinite().all()


def test_nobody_and_nothing_is_answered() -> None:
    nobody = batch_of(people())
    nobody = replace(nobody, targets=replace(aside([(row, []) for row in people()]).targets))
    empty = aside([(people()[1], [])])
    for config in (
        SIMConfig(by="kind", long=LONG), SIMConfig(search="soft", long=LONG), TWINConfig(long=LONG, found=2),
        TransActConfig(heads=1),
    ):  # fmt: skip
        reader = reader_of(config)
        for given in (nobody, empty):
            known = 0 if given.lists is None else len(given.lists.item)
            items = torch.zeros(len(given.events.item) + known, WIDTH, dtype=torch.float64)
            assert reader(given, items, items[:0]).states.shape == (0, reader.width)


# --- in a model


SMALL = DLRMConfig(window=WINDOW, width=WIDTH, expert_width=6, feedback=FeedbackConfig(hidden=6))


def test_a_soft_search_learns_from_heads_of_its_own_and_a_hard_one_has_none() -> None:
    known, given = catalogue(users=True, series=True, described=True), batch(people())
    hard, soft = (
        DLRM(SMALL.change(history=SIMConfig.parse({"search": kind, "by": "kind", "long": LONG, "found": 1})), known)
        for kind in ("hard", "soft")
    )
    fields = ("click", "rating", "watched")
    assert set(hard(given, None)) == set(fields)
    losses = soft(given, None)
    assert set(losses) == {*fields, *(f"{name} by search" for name in fields)}
    losses["click by search"].total.backward()
    assert isinstance(soft.history, SIM)
    for unit in (soft.history.search_source, soft.history.search_target):
        assert unit is not None and unit.weight.grad is not None and unit.weight.grad.abs().max() > 0
    assert soft.history.key.weight.grad is None and soft.crosses.layers[0][0].weight.grad is None  # type: ignore[index]
    grouped = sum(len(group) for group in soft.parameter_groups().values())
    assert grouped == len(list(soft.parameters()))
    assert set(soft.scores(given)) == set(hard.scores(given))


def test_rows_are_as_long_as_the_search_and_counts_see_the_window() -> None:
    known = catalogue(users=True, series=True, described=True)
    for history, sees in ((DINConfig(), WINDOW), (TWINConfig(long=30), 30), (SIMConfig(by="kind", long=1), WINDOW)):
        model = DLRM(SMALL.change(history=history), known)
        assert model.window == 2 * sees
    assert DLRM(SMALL.change(features="no-history", history=TWINConfig(long=30)), known).window == 2 * WINDOW
    model = DLRM(SMALL.change(history=SIMConfig(by="kind", long=30)), known).eval()
    assert model.rates is not None and isinstance(model.history, SIM)
    assert model.history.window == model.history.newest.window == WINDOW
    counted, count = [], model.rates.forward

    def forward(given: SequenceBatch, pairs: Recent) -> Tensor:
        counted.append(pairs)
        return count(given, pairs)

    model.rates.forward = forward  # type: ignore[method-assign]
    model.scores(batch(people()))
    assert [int(jagged.lengths(pairs.offsets).max()) for pairs in counted] == [WINDOW]


@pytest.mark.parametrize("by", ["tags", "text", "price"])
def test_a_search_by_what_items_do_not_have_is_refused(by: str) -> None:
    known = catalogue(users=True, series=True, described=True)
    with pytest.raises(ConfigError, match=f"'{by}', and the items have kind: name a feature with one value"):
        DLRM(SMALL.change(history=SIMConfig(by=by)), known)
    DLRM(SMALL.change(history=SIMConfig(by=by, search="soft")), known)


def test_heads_must_share_the_width() -> None:
    with pytest.raises(ConfigError, match=r"not a multiple of history\.heads 3"):
        SMALL.change(history=TWINConfig(heads=3))
    with pytest.raises(ConfigError, match=r"tokens of width 21, twice model\.width and history\.action_width"):
        SMALL.change(history=TransActConfig(action_width=5))
