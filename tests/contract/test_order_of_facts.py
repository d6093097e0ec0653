"""What a prediction may depend on, and does: every layout, encoder and objective, with one fact changed at a time.

time < context < item < feedback < time of the next event. A model is one entry of MODELS.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor

from facta.data.catalogue import Catalogue
from facta.encoders.encoder import EncoderConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.production import HSTUProductionConfig
from facta.encoders.transformer import TransformerConfig
from facta.errors import ConfigError
from facta.layers.embedding import EmbeddingConfig
from facta.layouts.layout import ORDER
from facta.models.dlrm import DLRM, DLRMConfig
from facta.models.rates import RateRegression, RatesConfig
from facta.models.recommender import Recommender, RecommenderConfig
from facta.objectives.feedback import FeedbackConfig
from facta.objectives.next_item import NextItemConfig
from facta.training.process import exact_sums
from facta.types import Negatives, SequenceBatch, to_device
from tests.feedback_world import Row, aside, batch, catalogue, random_row, request

Model = Recommender | DLRM | RateRegression
EVENTS = 7
SAME, OTHER = 1e-12, 1e-9  # at most, and more than: of numbers about 1


@dataclass(frozen=True)
class Kind:
    """A model, and which facts it reads."""

    config: RecommenderConfig | DLRMConfig | RatesConfig
    users: bool = True  # constant facts of people
    history: bool = True  # events before the one that is judged
    series: bool = True
    aside: bool = True  # it predicts events that are none of its inputs
    looks_back: bool = False  # from the time of what it predicts
    gaps: bool = False  # each event shows the time since the one before
    exact: bool = True  # in float64, and whatever it may read moves its predictions; its counts do neither

    @property
    def layout(self) -> str:
        return self.config.layout if isinstance(self.config, RecommenderConfig) else ""

    @property
    def parts(self) -> dict[str, bool]:
        return {"users": self.users, "series": self.series}


def kinds() -> dict[str, Kind]:
    encoders: dict[str, EncoderConfig] = {
        "hstu": HSTUConfig(heads=2),
        "hstu-none": HSTUConfig(bias="none"),
        "hstu-softmax": HSTUConfig(heads=2, bias="none", attention="softmax"),
        "production": HSTUProductionConfig(heads=2, normaliser=2.0),
        "sasrec": TransformerConfig(heads=2, attention_dropout=0.2),
        "modern": TransformerConfig(preset="modern", heads=2),
        "gru": GRUConfig(layers=2),
    }
    item, feedback = NextItemConfig(), FeedbackConfig()
    tasks = {"next-item": (item, None), "feedback": (None, feedback), "joint": (item, feedback)}
    found = {}
    for name, encoder in encoders.items():
        gaps = name in ("production", "sasrec")
        embedding = EmbeddingConfig(gaps=gaps, features=True, hidden_ids=0.3)
        rated = embedding.change(rates=5.0)
        for layout in ("item", "fused", "interleaved", "paired"):
            for task, (next_item, heads) in tasks.items():
                if layout == "item" and task != "next-item":
                    continue
                config = RecommenderConfig(
                    window=10, width=8, layout=layout, encoder=encoder,
                    embedding=rated if heads is not None and name in ("hstu", "production") else embedding,
                    next_item=next_item, feedback=heads,
                )  # fmt: skip
                found[f"{layout}-{name}-{task}"] = Kind(
                    config,
                    users=name != "gru",
                    aside=name != "gru" or layout not in ("interleaved", "paired") or heads is None,
                    looks_back=name == "hstu",
                    gaps=gaps,
                )
    return found | rankers()


def rankers() -> dict[str, Kind]:
    """Of impressions: they look back at each event from the time of the one that is judged."""
    heads = FeedbackConfig(hidden=6)
    small = {"window": 10, "width": 8, "expert_width": 6, "dropout": 0.2, "feedback": heads.model_dump()}
    bst = TransformerConfig(heads=2).model_dump()
    plain = {"looks_back": True}
    alone = DLRMConfig.parse({**small, "features": "no-history"})
    return {
        "dlrm-din": Kind(DLRMConfig.parse(small), **plain),
        "dlrm-bst": Kind(DLRMConfig.parse({**small, "history": bst}), **plain),
        "dlrm-as-gr": Kind(DLRMConfig.parse({**small, "features": "gr"}), **plain),
        "dlrm-without-history": Kind(alone, history=False, series=False),
        "rates": Kind(RatesConfig(window=10), **plain, exact=False),
    }


MODELS = kinds()


@cache
def made(name: str) -> Model:
    kind = MODELS[name]
    return far_from_start(kind, catalogue(users=kind.users, series=kind.series, described=True))


def far_from_start(kind: Kind, known: Catalogue) -> Model:
    """In float64, far from the initial point, where attention is so small that a leak would not show."""
    model = kind.config.build(known, seed=3)
    random = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0).add_(0.1 * torch.randn(parameter.shape, generator=random))
        for buffer in (value for of, value in model.named_buffers() if of.endswith(("rates.total", "rates.overall"))):
            events = torch.randint(5, 30, buffer.shape[:-1], generator=random)
            buffer.copy_(torch.stack([events - 3, events], dim=-1))
    return model.double()


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def kind(name: str) -> Kind:
    return MODELS[name]


@pytest.fixture
def model(name: str) -> Model:
    return made(name).eval()


def predicted(model: Model, given: SequenceBatch) -> dict[str, Tensor]:
    """Fact -> [S, …] what is said of it: the scores of all feedback fields, or the query for the next item."""
    found = {}
    with torch.no_grad():
        if "feedback" in model.tasks:
            found["feedback"] = torch.stack(list(model.scores(given).values()), dim=1)
        if "next_item" in model.tasks:
            assert isinstance(model, Recommender)
            found["item"] = model.queries(given)
    return found


def rows(seed: int, count: int = 1, length: int | None = EVENTS) -> list[Row]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, EVENTS + 1, count) if length is None else [length] * count
    return [random_row(rng, int(n), name) for name, n in enumerate(lengths, 2)]


def depends(kind: Kind, what: str, target: int, fact: str, event: int, row: Row) -> bool:
    """Whether the prediction of fact `what` of event `target` depends on `fact` of `event`: exactly."""
    if fact in ("user", "earlier"):
        return kind.users and (kind.history or fact == "user")
    if fact == "series":
        field, _, _, after = row.series[event]
        newer = any(one[0] == field and one[3] <= target for one in row.series[event + 1 :])  # in force in its place
        return kind.series and after <= target and not (newer and not kind.layout)
    if (event, ORDER.index(fact)) >= (target, ORDER.index(what)):  # type: ignore[arg-type]
        return False  # it is not known yet
    if (kind.layout == "item" and fact in ("context", "feedback")) or (event < target and not kind.history):
        return False
    if fact != "time":  # an event's own context is not read by the query for its item
        return event < target or what == "feedback"
    own = what == "feedback" and kind.layout in ("interleaved", "paired")
    newest = target if own else target - 1  # event of which a token shows facts
    return (kind.looks_back and target > 0) or (kind.gaps and 0 < newest >= event)


def test_a_prediction_depends_on_earlier_facts_and_on_nothing_else(name: str, kind: Kind, model: Model) -> None:
    (row,) = rows(1)
    changes = [(fact, event) for fact in ORDER for event in range(EVENTS)]
    changes += [("user", 0), ("earlier", 0), ("earlier", 1)] * kind.users
    changes += [("series", entry) for entry in range(len(row.series))] * kind.series
    found = predicted(model, batch([row, *(row.changed(*change) for change in changes)], **kind.parts))
    for what, values in found.items():
        base, *others = values.unflatten(0, (-1, EVENTS))
        for (fact, event), other in zip(changes, others, strict=True):
            for target, moved in enumerate((other - base).abs().amax(dim=1).tolist()):
                said = f"{what} {target} and {fact} of {event}: moved by {moved:.1e}"
                if depends(kind, what, target, fact, event, row):
                    assert moved > OTHER or not kind.exact, said
                else:
                    assert moved <= SAME, said


def test_cutting_a_row_changes_no_earlier_prediction(kind: Kind, model: Model) -> None:
    (row,) = rows(2)
    whole = predicted(model, batch([row], **kind.parts))
    for events in range(1, EVENTS):
        for what, values in predicted(model, batch([row.cut(events)], **kind.parts)).items():
            torch.testing.assert_close(values, whole[what][:events], rtol=SAME, atol=SAME)


def test_aside_equals_in_line(kind: Kind, model: Model) -> None:
    """An event to be judged is predicted as it is among the inputs: beside all of them, and by a request alone."""
    (row,), others = rows(3), rows(4, 2)
    inline = predicted(model, batch([row], **kind.parts))
    if not kind.aside:
        with pytest.raises(ConfigError, match="only causal tokens"):
            predicted(model, aside([(row, [2])], **kind.parts))
        return
    beside = predicted(model, aside([(row, range(EVENTS))], **kind.parts))
    for what, values in inline.items():
        torch.testing.assert_close(beside[what], values, rtol=SAME, atol=SAME)
    for event in range(EVENTS):
        candidates = [_at(one, event, row.time[event]) for one in others]
        for what, values in predicted(model, request(row, event, candidates, **kind.parts)).items():
            torch.testing.assert_close(values[0], inline[what][event], rtol=SAME, atol=SAME)


def _at(row: Row, event: int, time: int) -> Row:
    """Another candidate: shown at the same moment."""
    return replace(row, time=[*row.time[:event], time, *row.time[event + 1 :]])


def test_batch_mates_and_their_order_do_not_matter(kind: Kind, model: Model) -> None:
    people = rows(5, 6, length=None)
    together = _split(predicted(model, batch(people, **kind.parts)), people)
    turned = _split(predicted(model, batch(people[::-1], **kind.parts)), people[::-1])[::-1]
    for place, row in enumerate(people):
        for what, alone in predicted(model, batch([row], **kind.parts)).items():
            torch.testing.assert_close(together[place][what], alone, rtol=SAME, atol=SAME)
            torch.testing.assert_close(turned[place][what], alone, rtol=SAME, atol=SAME)


def _split(found: dict[str, Tensor], people: Sequence[Row]) -> list[dict[str, Tensor]]:
    lengths = [len(row) for row in people]
    parts = {what: values.split(lengths) for what, values in found.items()}
    return [{what: values[place] for what, values in parts.items()} for place in range(len(people))]


def test_losses_and_gradients_of_two_halves_add_up_to_the_whole(kind: Kind, name: str) -> None:
    """With dropout, hidden ids and negatives: every draw belongs to its event or person, none to a place in a batch."""
    people, model = rows(6, 5, length=None), made(name).train()

    def found(some: Sequence[Row]) -> tuple[dict[str, tuple[float, float]], Tensor]:
        model.zero_grad()
        losses = model(batch(some, **kind.parts), Negatives(each=3))
        torch.stack([loss.total for loss in losses.values()]).sum().backward()
        flat = torch.cat([p.grad.to_dense().flatten() for p in model.parameters() if p.grad is not None])
        return {what: (loss.total.double().item(), loss.weight.item()) for what, loss in losses.items()}, flat

    (whole, gradient), (first, one), (second, other) = found(people), found(people[:2]), found(people[2:])
    for what, (total, weight) in whole.items():
        assert total == pytest.approx(first[what][0] + second[what][0], rel=1e-10 if kind.exact else 1e-6), what
        assert weight == first[what][1] + second[what][1]
    torch.testing.assert_close(gradient, one + other, rtol=1e-8, atol=1e-10 if kind.exact else 1e-6)


def test_the_fast_path_says_the_same(kind: Kind, model: Model) -> None:
    """float32, where compiled kernels run, against float64: prefixes, series and targets aside included."""
    (row,) = rows(7)
    given = aside([(row, range(EVENTS))], **kind.parts) if kind.aside else batch([row], **kind.parts)
    exact = predicted(model, given)
    try:
        for what, values in predicted(model.float(), given).items():
            torch.testing.assert_close(values.double(), exact[what], rtol=1e-3, atol=1e-4)
    finally:
        model.double()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_says_the_same(kind: Kind, name: str) -> None:
    """Losses with their dropout and their negatives, gradients, and predictions; sums in a fixed order."""
    people = rows(8, 5, length=None)

    def found(device: str) -> tuple[dict[str, Tensor], list[Tensor]]:
        model, given = deepcopy(made(name)).train().to(device), to_device(batch(people, **kind.parts), device)
        with exact_sums(True):
            losses = model(given, Negatives(each=3))
            torch.stack([loss.total for loss in losses.values()]).sum().backward()
        says = {what: loss.total for what, loss in losses.items()} | predicted(model.eval(), given)
        gradients = [p.grad.to_dense().cpu() for p in model.parameters() if p.grad is not None]
        return {what: value.detach().cpu() for what, value in says.items()}, gradients

    (cpu, slopes), (gpu, other) = found("cpu"), found("cuda")
    bound = {"rtol": 1e-9, "atol": 1e-10} if kind.exact else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(gpu, cpu, **bound)
    torch.testing.assert_close(other, slopes, **bound)
