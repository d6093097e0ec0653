"""What a prediction may depend on, and does: every layout, encoder and objective, with one fact changed at a time.

time < context < item < feedback < time of the next event. A model is one entry of MODELS.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor

from facta.encoders.encoder import EncoderConfig
from facta.encoders.fuxi import FuXiLinearConfig
from facta.encoders.gru import GRUConfig
from facta.encoders.hstu import HSTUConfig
from facta.encoders.ligr import LiGRConfig
from facta.encoders.production import HSTUProductionConfig
from facta.encoders.transformer import TransformerConfig
from facta.models.dlrm import DLRMConfig
from facta.models.model import Model
from facta.models.rates import RatesConfig
from facta.objectives.feedback import FeedbackConfig
from facta.testing import cases
from facta.testing.batches import batch
from facta.testing.case import Case, predicted, rows
from facta.testing.contract import (
    check_aside,
    check_batch_mates,
    check_cut_rows,
    check_fast_path,
    check_halves,
    check_hidden_events,
    check_memory,
    check_order_of_facts,
    check_requests_of_hidden_events,
    check_same_again,
)
from facta.training.process import deterministic_algorithms
from facta.types import Negatives, to_device

ENCODERS: dict[str, EncoderConfig] = {
    "hstu": HSTUConfig(heads=2),
    "hstu-none": HSTUConfig(bias="none"),
    "hstu-softmax": HSTUConfig(heads=2, bias="none", attention="softmax"),
    "production": HSTUProductionConfig(heads=2, normaliser=2.0),
    "sasrec": TransformerConfig(heads=2, attention_dropout=0.2),
    "modern": TransformerConfig(preset="modern", heads=2),
    "ligr": LiGRConfig(heads=2, attention_dropout=0.2),
    "fuxi": FuXiLinearConfig(chunk=4),
    "fuxi-timeless": FuXiLinearConfig(times=False, second_residual=True),
    "gru": GRUConfig(layers=2),
}


def models() -> dict[str, Case]:
    found = {}
    for name, encoder in ENCODERS.items():
        made = cases(encoder, rates=name in ("hstu", "production"), gaps=name in ("production", "sasrec"))
        if name == "gru":  # a state of its own for what sees all of a prefix, or a target aside, is not recurrence
            made = {
                of: replace(case, users=False, aside="next" in of or not case.layout.tokens_before("feedback"))  # type: ignore[union-attr]
                for of, case in made.items()
            }
        found |= {f"{of.replace('-', f'-{name}-', 1)}": case for of, case in made.items()}
    return found | in_context(found) | with_hashed_tables(found) | rankers()


def with_hashed_tables(found: dict[str, Case]) -> dict[str, Case]:
    """Models whose items share rows, beside features and without."""
    hashed = {"kind": "hashed", "rows": 31}
    alone = {"table": hashed, "features": False, "hidden_ids": 0.0}
    beside, plain = found["interleaved-hstu-joint"], found["item-sasrec-next-item"]
    return {
        "interleaved-hstu-joint-hashed": replace(beside, config=beside.config.change(embedding={"table": hashed})),
        "item-sasrec-next-item-hashed": replace(plain, config=plain.config.change(embedding=alone)),
    }


def in_context(found: dict[str, Case]) -> dict[str, Case]:
    """Models that predict the next item in the context of its event."""
    names = {f"{encoder}-{task}" for encoder in ("hstu", "sasrec", "gru") for task in ("next-item", "joint")}
    some = {of: case for of, case in found.items() if of.partition("-")[2] in names}
    return {
        f"{of}-in-context": replace(case, config=case.config.change(next_item={"late": ["context"]}))
        for of, case in some.items()
    }


def rankers() -> dict[str, Case]:
    """Of impressions: they look back at each event from the time of the one that is judged."""
    heads = FeedbackConfig(hidden=6)
    small = {"window": 10, "width": 8, "expert_width": 6, "dropout": 0.2, "feedback": heads.model_dump()}
    bst = {"kind": "transformer", "heads": 2}
    long = {**small, "window": 2, "features": "gr"}  # who searches sees events that nobody else does
    sim, twin = {"kind": "sim", "by": "kind", "long": 10}, {"kind": "twin", "long": 10, "heads": 2}
    soft, transact = {**sim, "search": "soft"}, {"kind": "transact", "action_width": 6, "hidden": 5, "newest": 2}
    alone = DLRMConfig.parse({**small, "features": "no-history"})
    return {
        "dlrm-din": Case(DLRMConfig.parse(small), looks_back=True),
        "dlrm-bst": Case(DLRMConfig.parse({**small, "history": bst}), looks_back=True),
        "dlrm-as-gr": Case(DLRMConfig.parse({**small, "features": "gr"}), looks_back=True),
        "dlrm-sim": Case(DLRMConfig.parse({**long, "history": {**sim, "found": 2}}), looks_back=True, sees_all=False),
        "dlrm-sim-soft": Case(
            DLRMConfig.parse({**long, "history": {**soft, "found": 2}}), looks_back=True, sees_all=False
        ),
        "dlrm-sim-finds-all": Case(DLRMConfig.parse({**long, "history": soft}), looks_back=True),
        "dlrm-twin": Case(DLRMConfig.parse({**long, "history": {**twin, "found": 3}}), looks_back=True, sees_all=False),
        "dlrm-twin-finds-all": Case(DLRMConfig.parse({**long, "history": twin}), looks_back=True),
        "dlrm-transact": Case(DLRMConfig.parse({**long, "history": transact}), series=False),  # it reads no time
        "dlrm-without-history": Case(alone, history=False, series=False),
        "rates": Case(RatesConfig(window=10), looks_back=True, exact=False, sees_all=False),  # counts are float32
    }


MODELS = models()


@cache
def made(name: str) -> Model:
    return MODELS[name].build()


@pytest.fixture(params=MODELS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def case(name: str) -> Case:
    return MODELS[name]


@pytest.fixture
def model(name: str) -> Model:
    return made(name).eval()


def test_a_prediction_depends_on_earlier_facts_and_on_nothing_else(case: Case, model: Model) -> None:
    check_order_of_facts(case, model)


def test_cutting_a_row_changes_no_earlier_prediction(case: Case, model: Model) -> None:
    check_cut_rows(case, model)


def test_aside_equals_in_line(case: Case, model: Model) -> None:
    check_aside(case, model)


def test_hidden_events_change_nothing_and_a_target_says_what_it_says_alone(case: Case, model: Model) -> None:
    check_hidden_events(case, model)


def test_a_request_is_one_hidden_event_behind_the_history(case: Case, model: Model) -> None:
    check_requests_of_hidden_events(case, model)


def test_batch_mates_and_their_order_do_not_matter(case: Case, model: Model) -> None:
    check_batch_mates(case, model)


def test_losses_and_gradients_of_two_halves_add_up_to_the_whole(case: Case, model: Model) -> None:
    check_halves(case, model)


def test_the_fast_path_says_the_same(case: Case, model: Model) -> None:
    check_fast_path(case, model)


def test_a_memory_changes_nothing(case: Case, model: Model) -> None:
    check_memory(case, model)


def test_the_same_seed_builds_the_same_model(case: Case, model: Model) -> None:
    check_same_again(case, model)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_says_the_same(case: Case, name: str) -> None:
    """Losses with their dropout and their negatives, gradients, and predictions; sums in a fixed order."""
    people = rows(8, 5, length=None)

    def found(device: str) -> tuple[dict[str, Tensor], list[Tensor]]:
        model, given = deepcopy(made(name)).train().to(device), to_device(batch(people, **case.parts), device)
        with deterministic_algorithms(True):
            losses = model(given, Negatives(each=3))
            torch.stack([loss.total for loss in losses.values()]).sum().backward()
        says = {what: loss.total for what, loss in losses.items()} | predicted(model.eval(), given)
        gradients = [p.grad.to_dense().cpu() for p in model.parameters() if p.grad is not None]
        return {what: value.detach().cpu() for what, value in says.items()}, gradients

    (cpu, slopes), (gpu, other) = found("cpu"), found("cuda")
    bound = {"rtol": 1e-9, "atol": 1e-10} if case.exact else {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(gpu, cpu, **bound)
    torch.testing.assert_close(other, slopes, **bound)
