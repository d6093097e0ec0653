"""Hidden events: which are drawn, what their batches hold, and that states are BERT4Rec's, computed by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

import facta
from facta import jagged
from facta.data.batches.cloze import ClozeConfig, hidden_events
from facta.data.batches.dataset_requests import request_batch
from facta.data.batches.spec import InputSpec
from facta.data.batches.stochastic_length import StochasticLengthConfig
from facta.data.batches.training import TrainingBatches
from facta.data.dataset.catalogue import Catalogue
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import leave_one_out, leave_one_out_test
from facta.data.split.visibility import BLIND
from facta.encoders.encoder import Encoder, EncoderConfig, TokenCost
from facta.encoders.memory import Memory
from facta.encoders.transformer import Transformer, TransformerConfig
from facta.errors import ConfigError
from facta.layouts.layout import CLOZE
from facta.models.recommender import Recommender, RecommenderConfig
from facta.testing import check_layout
from facta.testing.case import SAME, far_from_start
from facta.training.log import Log
from facta.types import SequenceBatch
from tests import worlds

SPEC = InputSpec(cloze=ClozeConfig(share=0.3))
WINDOW = 8


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """30 people with 1 to 15 events; every event has an item of its own, counted from 0."""
    user = np.repeat(np.arange(30), np.arange(30) % 15 + 1)
    frame = worlds._frame(user, np.arange(len(user)), np.arange(len(user)))
    return facta.prepare(frame, tmp_path_factory.mktemp("log") / "d")


def batches(log: Dataset, **changes: object) -> TrainingBatches:
    plain = {"window": WINDOW, "batch_size": 7, "seed": 4, "spec": SPEC}
    return TrainingBatches(log, leave_one_out(log, validation=False), **{**plain, **changes})  # type: ignore[arg-type]


def rows_of(batch: SequenceBatch) -> list[tuple[dict[int, int], dict[int, int]]]:
    """Row by row: place in the window -> item, of the inputs and of the targets."""
    inputs = zip(jagged.rows(batch.offsets).tolist(), batch.index.tolist(), batch.events.item.tolist(), strict=True)
    targets = batch.targets
    assert targets.index is not None
    hidden = zip(
        jagged.rows(targets.offsets).tolist(), targets.index.tolist(), targets.events.item.tolist(), strict=True
    )
    found: list[tuple[dict[int, int], dict[int, int]]] = [({}, {}) for _ in batch.offsets[1:]]
    for which, each in enumerate((inputs, hidden)):
        for row, place, item in each:
            found[row][which][place] = item
    return found


def epoch(log: Dataset, number: int, **changes: object) -> dict[int, tuple[dict[int, int], dict[int, int]]]:
    """User -> the places of its row."""
    made, owner = batches(log, **changes), np.repeat(np.arange(30), np.diff(log.offsets))
    rows = [row for step in range(made.steps(number)) for row in rows_of(made.batch(number, step))]
    return {int(owner[next(iter(hidden.values()))]): (seen, hidden) for seen, hidden in rows}


def test_a_row_is_the_newest_events_some_of_them_inputs_and_the_others_targets(log: Dataset) -> None:
    found, last = epoch(log, 0), leave_one_out(log, validation=False).train_end
    assert sorted(found) == [user for user in range(30) if last[user] >= 2]
    for user, (seen, hidden) in found.items():
        events = log.item[log.offsets[user] :][: last[user]][-(WINDOW + 1) :].tolist()
        assert seen and hidden and not seen.keys() & hidden.keys()
        assert [item for _, item in sorted((seen | hidden).items())] == events
        assert sorted(seen | hidden) == list(range(len(events)))


def test_targets_see_all_inputs_of_their_row_and_are_none_of_them(log: Dataset) -> None:
    batch = batches(log).batch(0, 0)
    row = jagged.rows(batch.targets.offsets)
    assert torch.equal(batch.targets.num_visible, jagged.lengths(batch.offsets)[row])
    assert (batch.targets.input_index == -1).all() and batch.dropped == 0


def test_each_epoch_hides_other_events_and_a_row_is_hidden_alike_in_any_batch(log: Dataset) -> None:
    first, second = epoch(log, 0), epoch(log, 1)
    assert sum(first[user] != second[user] for user in first) > 10
    assert epoch(log, 0, batch_size=2) == epoch(log, 0, batch_size=100) == first
    assert epoch(log, 0, seed=5) != first


def test_a_request_asks_for_a_place_that_training_has_met(log: Dataset) -> None:
    """A full window is asked for the place N: rows of training hold one event more than inputs."""
    batch = request_batch(log, leave_one_out_test(log), slice(None), WINDOW)
    asked = CLOZE.tokens(batch, ["item"]).position[CLOZE.tokens(batch, ["item"]).reads["item"].state]
    assert asked.tolist() == jagged.lengths(batch.offsets).tolist() and int(asked.max()) == WINDOW
    assert max(max(hidden) for _, hidden in epoch(log, 0).values()) == WINDOW


def hidden_of(lengths: list[int], config: ClozeConfig) -> list[list[bool]]:
    offsets = jagged.offsets_of(torch.tensor(lengths))
    events, rows = torch.arange(int(offsets[-1])) * 7 + 1, torch.arange(len(lengths)) * 13 + 5
    drawn = hidden_events(offsets, events, rows, config).tolist()
    return [drawn[first:until] for first, until in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


def test_shares_are_those_of_the_config() -> None:
    """4,000 rows of 25 events, each bound at four standard deviations."""
    found = hidden_of([25] * 4000, ClozeConfig(share=0.2, last=0.25))
    alone = [row for row in found if sum(row) == 1 and row[-1]]
    others = [row for row in found if not (sum(row) == 1 and row[-1])]
    assert abs(len(alone) / 4000 - 0.25) < 0.03
    assert abs(np.mean(others) - 0.2) < 4 * (0.16 / 75_000) ** 0.5 + 0.002  # rows with nothing hidden would be none
    assert abs(np.mean([row[-1] for row in others]) - np.mean([row[3] for row in others])) < 0.03
    assert not any(row[-1] and sum(row) == 1 for row in hidden_of([25] * 400, ClozeConfig(share=0.9, last=0.0)))
    assert all(row == [False] * 24 + [True] for row in hidden_of([25] * 50, ClozeConfig(last=1.0)))


@pytest.mark.parametrize("share", [0.001, 0.999])
def test_something_is_hidden_and_something_is_seen(share: float) -> None:
    for row in hidden_of([2, 3, 9] * 100, ClozeConfig(share=share, last=0.0)):
        assert sum(row) == (1 if share < 0.5 else len(row) - 1)
    assert hidden_of([1], ClozeConfig(share=share, last=0.0)) == [[True]]


def test_what_would_hide_more_from_a_target_is_refused(log: Dataset) -> None:
    with pytest.raises(ConfigError, match=r"training\.stochastic_length to null"):
        batches(log, stochastic_length=StochasticLengthConfig())
    with pytest.raises(ConfigError, match="leave `sees` out"):
        batches(log, sees=BLIND)


CONFIG = RecommenderConfig(
    window=WINDOW, width=8, layout="cloze", cloze=ClozeConfig(share=0.3), encoder=TransformerConfig(heads=2, hidden=12)
)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cloze": None}, "whose share is in model.cloze: set it to {}"),
        ({"layout": "item"}, "masks no events: set model.cloze to null"),
        ({"encoder": {"kind": "gru"}}, "'gru' only looks back"),
        ({"encoder": {"kind": "fuxi-linear", "times": False}}, "'fuxi-linear' only looks back"),
        ({"encoder": {"kind": "hstu"}}, "set model.encoder.bias=position"),
        ({"embedding": {"gaps": True}}, "set model.embedding.gaps=false"),
        ({"feedback": {}}, "predicts items alone"),
    ],
)
def test_what_cannot_see_both_ways_is_refused_and_says_what_to_set(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        CONFIG.change(**changes)


def test_an_encoder_whose_states_depend_on_later_events_predicts_hidden_ones_alone() -> None:
    class NewestFirst(Transformer):
        prefix_stable = False

    class NewestFirstConfig(EncoderConfig):
        both_ways: ClassVar[bool] = True

        def build(self, width: int, window: int) -> Encoder:
            return NewestFirst(TransformerConfig(), width)

        def cost(self, width: int, seen: float) -> TokenCost:
            return TransformerConfig().cost(width, seen)

    hidden = RecommenderConfig(layout="cloze", cloze=ClozeConfig(), encoder=NewestFirstConfig())
    assert not hidden.build(Catalogue(5)).prefix_stable
    with pytest.raises(ConfigError, match="use the layout 'cloze'"):
        RecommenderConfig(encoder=NewestFirstConfig()).build(Catalogue(5))


def test_nothing_is_kept_of_a_history(log: Dataset) -> None:
    model = CONFIG.build(Catalogue.of(log))
    batch = request_batch(log, leave_one_out_test(log), slice(5, 6), WINDOW)
    assert not model.prefix_stable and model.cost(10).cache_bytes_per_token == 0
    assert model.layout.closed(batch).tolist() == [0]
    with pytest.raises(ConfigError, match="cannot cache a history"), torch.no_grad():
        model.queries(batch, Memory([None]))


def test_a_token_costs_the_attention_of_its_whole_row(log: Dataset) -> None:
    both, back = CONFIG.build(Catalogue.of(log)), CONFIG.change(layout="item", cloze=None).build(Catalogue.of(log))
    assert both.cost(99).flops_per_token - back.cost(99).flops_per_token == 2 * 4 * 8 * (99 - 50)  # layers · 4 D each


def by_hand(model: Recommender, seen: dict[int, int], hidden: list[int]) -> dict[int, Tensor]:
    """One row of BERT4Rec as the paper draws it: items in their places, the mask vector in those that are hidden, and
    softmax attention of all to all, written out; places count back from the newest. Place -> state."""
    embedder, encoder = model.embedder, model.encoder
    assert embedder.position is not None and embedder.hidden is not None and isinstance(encoder, Transformer)
    places = sorted([*seen, *hidden])
    vectors = [embedder.hidden if place in hidden else embedder.item.vectors(None)[seen[place]] for place in places]
    x = torch.stack(vectors) * embedder.scale + embedder.position.weight[[places[-1] - place for place in places]]
    for block in encoder.layers:
        attention, q_in = block.attention, block.norm_attention(x)
        q, k, v = attention.q(q_in), *attention.kv(x).chunk(2, dim=1)
        heads = []
        for at in torch.arange(x.shape[1]).chunk(attention.heads):
            weights = torch.softmax(q[:, at] @ k[:, at].T / len(at) ** 0.5, dim=1)
            heads.append(weights @ v[:, at])
        y = block.norm_feed(q_in + attention.out(torch.cat(heads, dim=1)))
        x = y + block.outer(torch.relu(block.inner(y)))
    assert encoder.norm is not None
    return dict(zip(places, encoder.norm(x), strict=True))


def test_states_are_bert4recs_computed_by_hand(log: Dataset) -> None:
    """In training, with several hidden events a row, and in requests."""
    model = far_from_start(CONFIG.build(Catalogue.of(log))).eval()
    assert isinstance(model, Recommender)
    training, requests = batches(log).batch(0, 1), request_batch(log, leave_one_out_test(log), slice(3, 20), WINDOW)
    asked = replace(requests, targets=replace(requests.targets, index=jagged.lengths(requests.offsets)))
    for batch, rows in ((training, rows_of(training)), (requests, rows_of(asked))):
        with torch.no_grad():
            tokens, states = model.encode(batch, ("item",))
            found = states[tokens.reads["item"].state]
            expected = [by_hand(model, seen, list(hidden))[place] for seen, hidden in rows for place in hidden]
        torch.testing.assert_close(found, torch.stack(expected), rtol=SAME, atol=1e-10)
    assert max(len(hidden) for _, hidden in rows_of(training)) > 1


def test_hstu_with_positions_keeps_the_contract() -> None:
    check_layout("cloze")


def test_evaluation_and_requests_say_the_same(log: Dataset, tmp_path: Path) -> None:
    """Of stored histories, of given ones, and of all people at once; and again after loading."""
    data = facta.prepare(worlds.cycle(users=20), tmp_path / "d")
    changes = ["training.epochs=2", "training.patience=null", "training.batch_size=8"]
    facta.train(data, "debug/bert4rec", tmp_path / "a", changes, log=Log("quiet"))
    artifact = facta.load(tmp_path / "a")
    evaluated = facta.evaluate(artifact, data, facta.ProtocolConfig(mask="nothing"), ks=[5])
    ids, test = data.items["item_id"].to_numpy(), leave_one_out_test(data)
    histories = [
        ids[data.item[data.offsets[user] :][:end]].tolist() for user, end in zip(test.user, test.end, strict=True)
    ]
    answer = artifact.recommend(histories, 5, exclude="nothing")
    assert answer.ids == ids[evaluated.lists].tolist() and set(answer.source) == {"model"}
    whole = [ids[data.item[data.offsets[u] : data.offsets[u + 1]]].tolist() for u in range(20)]
    table = artifact.recommend_users(data, 5, exclude="nothing")
    assert table is not None
    said = table.sort("user_id", "rank")["item_id"].to_numpy().reshape(20, 5).tolist()
    assert said == artifact.recommend(whole, 5, exclude="nothing").ids
