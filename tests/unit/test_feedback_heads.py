"""Heads of feedback, each against its formula written out; and which events are targets of the next item."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
import torch
from torch import Tensor

from facta.data.dataset.schema import Field
from facta.errors import ConfigError
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.feedback import Feedback, FeedbackConfig
from facta.objectives.losses import SoftmaxConfig
from facta.objectives.next_item import NextItemConfig
from facta.objectives.readout import ReadOut
from facta.testing.batches import batch, catalogue, random_row
from facta.types import Events, Negatives

FIELDS = (
    Field(name="click", kind="binary", dtype="int8"),
    Field(name="kind", kind="categorical", dtype="int8", categories=("a", "b", "c"), positive=(1, 3)),
    Field(name="rating", kind="ordinal", dtype="int8", levels=(1.0, 2.5, 4.0), positive=(3,)),
    Field(name="stars", kind="ordinal", dtype="int8", levels=(1.0, 2.0, 5.0)),
    Field(name="watched", kind="numeric", dtype="float32", boundaries=(10.0, 60.0)),
    Field(name="surface", role="context", kind="categorical", dtype="int8", categories=("x",)),
)
WIDTH, COUNT = 6, 40


def heads(**changes: object) -> Feedback:
    torch.manual_seed(0)
    made = Feedback(FeedbackConfig.parse({"hidden": 5, **changes}), FIELDS, WIDTH).double()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return made.requires_grad_(False)


def read_out(seed: int = 1) -> ReadOut:
    random = torch.Generator().manual_seed(seed)
    codes = {one.name: torch.randint(0, one.codes, (COUNT,), generator=random) for one in FIELDS}
    none = torch.zeros(COUNT, dtype=torch.int64)
    states = torch.randn(COUNT, WIDTH, generator=random, dtype=torch.float64)
    return ReadOut(states, Events(none, None, none, codes), torch.rand(COUNT, generator=random).double())


def hidden(made: Feedback, states: Tensor) -> Tensor:
    assert made.inner is not None
    x = (states - states.mean(1, keepdim=True)) / (states.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    z = (x * made.norm.weight + made.norm.bias) @ made.inner.weight.T + made.inner.bias
    return z / (1 + torch.exp(-z))


def probabilities(made: Feedback, name: str, x: Tensor) -> list[float]:
    """Of each code from 1, one number after the other."""
    place = [one.name for one in made.fields].index(name)
    head = made.heads[place]
    if name == "click":
        p = 1 / (1 + exp(-float(x @ head.logit.weight[0] + head.logit.bias[0])))
        return [1 - p, p]
    if name in ("rating", "stars"):
        score = float(x @ head.score.weight[0] + head.score.bias[0])
        cuts = [float(head.first)]
        for gap in head.gaps:
            cuts.append(cuts[-1] + log(1 + exp(float(gap))))
        above = [1.0, *(1 / (1 + exp(cut - score)) for cut in cuts), 0.0]
        return [a - b for a, b in pairwise(above)]
    weights = [exp(float(x @ row + bias)) for row, bias in zip(head.logits.weight, head.logits.bias, strict=True)]
    return [weight / sum(weights) for weight in weights]


def test_losses_are_the_formulas_where_the_field_is_defined() -> None:
    made, read = heads(weights={"rating": 3.0}), read_out()
    found, x = made.losses(read), hidden(made, read.states)
    assert set(found) == {"click", "kind", "rating", "stars", "watched"}  # context is no feedback
    for name, loss in found.items():
        total = weight = 0.0
        for s, code in enumerate(read.events.fields[name].tolist()):
            if code:
                total -= float(read.weight[s]) * log(probabilities(made, name, x[s])[code - 1])
                weight += float(read.weight[s])
        assert float(loss.total) == pytest.approx((3.0 if name == "rating" else 1.0) * total, rel=1e-9), name
        assert float(loss.weight) == pytest.approx(weight)  # of the field's own events: no other batch changes it


def test_scores_are_probabilities_of_success_and_else_expected_values() -> None:
    made, read = heads(), read_out()
    found, x = made.scores(read), hidden(made, read.states)
    centers = {"stars": (1.0, 2.0, 5.0), "watched": (10.0, 35.0, 60.0)}
    for s in range(COUNT):
        for field in made.fields:
            p = probabilities(made, field.name, x[s])
            if field.positives:
                expected = sum(p[code - 1] for code in field.positives)
            else:
                expected = sum(a * b for a, b in zip(p, centers[field.name], strict=True))
            assert float(found[field.name][s]) == pytest.approx(expected, rel=1e-9), field.name


def test_undefined_values_move_nothing() -> None:
    """Whatever the state of an event without a value: neither the loss nor any gradient tells."""
    made, read = heads(fields=["click"]).requires_grad_(), read_out()
    undefined = read.events.fields["click"] == 0
    assert 0 < int(undefined.sum()) < COUNT

    def gradients(states: Tensor) -> tuple[float, list[Tensor]]:
        loss = made.losses(replace(read, states=states))["click"].mean()
        return loss.item(), [g for g in torch.autograd.grad(loss, list(made.parameters())) if g is not None]

    one, first = gradients(read.states)
    other, second = gradients(torch.where(undefined[:, None], read.states * -3 + 1, read.states))
    assert one == other
    for a, b in zip(first, second, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-15)


def test_an_ordinal_field_of_one_level_is_certain() -> None:
    field = Field(name="only", kind="ordinal", dtype="int8", levels=(3.0,))
    made = Feedback(FeedbackConfig(), (field,), WIDTH).double()
    events = Events(torch.zeros(COUNT), None, torch.zeros(COUNT), {"only": torch.ones(COUNT, dtype=torch.int64)})
    read = ReadOut(read_out().states, events, torch.ones(COUNT))
    assert made.scores(read)["only"].tolist() == [3.0] * COUNT
    assert made.losses(read)["only"].total.item() == 0


def test_what_a_head_may_be_given() -> None:
    with pytest.raises(ConfigError, match="states of this layout have not seen: none"):
        Feedback(FeedbackConfig(late=("item",)), FIELDS, WIDTH)
    with pytest.raises(ConfigError, match="to learn the feedback surface"):
        Feedback(FeedbackConfig(fields=("click", "surface")), FIELDS, WIDTH)
    with pytest.raises(ConfigError, match="to learn the feedback share"):
        Feedback(FeedbackConfig(weights={"share": 2.0}), FIELDS, WIDTH)
    with pytest.raises(ConfigError, match=r"feedback\.weights names kind, rating, and feedback\.fields does not"):
        FeedbackConfig(fields=("click",), weights={"rating": 3.0, "click": 2.0, "kind": 1.0})


def test_only_events_of_success_are_targets_of_the_next_item() -> None:
    """∅ targets contribute nothing: neither loss, nor weight, nor gradient; who they were does not tell."""
    next_item = NextItemConfig(loss=SoftmaxConfig(), positive="rating")
    config = RecommenderConfig(window=10, width=8, layout="fused", next_item=next_item)
    model = Recommender(config, catalogue(users=False, series=False, described=False), seed=1).eval()
    model.requires_grad_(False)
    rows = [random_row(np.random.default_rng(seed), 9, seed) for seed in range(4)]
    given = batch(rows, users=False, series=False)
    success = torch.isin(given.targets.events.fields["rating"], torch.tensor([4, 5])) & (given.targets.num_visible > 0)
    loss = model(given, Negatives())["next_item"]
    assert float(loss.weight) == int(success.sum()) > 0
    items = torch.where(success, given.targets.events.item, (given.targets.events.item + 1) % 20)
    targets = replace(given.targets, events=replace(given.targets.events, item=items))
    other = model(replace(given, targets=targets), Negatives())["next_item"]
    assert float(other.total) == float(loss.total)
    logits = model.catalogue_scores(given).dense().log_softmax(dim=1)
    slow = -logits.gather(1, given.targets.events.item[:, None]).squeeze(1)[success].sum()
    assert float(loss.total) == pytest.approx(float(slow), rel=1e-5)


def test_success_has_to_be_said_by_the_field() -> None:
    config = RecommenderConfig(window=10, width=8, layout="fused", next_item=NextItemConfig(positive="watched"))
    with pytest.raises(ConfigError, match="fields that say what success is: click, rating"):
        Recommender(config, catalogue(users=False, series=False, described=False))
