"""BPR-MF by its definition: gradient steps on what somebody met and did not, and the optimum for a history."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import facta
from facta import draws
from facta.data.dataset.dataset import Dataset
from facta.data.split.splits import leave_one_out
from facta.data.split.statistics import Statistics
from facta.draws import Purpose
from facta.eval.experiment import Experiment
from facta.eval.protocol import ProtocolConfig
from facta.eval.tuning import choose
from facta.models import bpr_mf
from facta.models.bpr_mf import BPRMF, BPRMFConfig
from facta.testing import contract
from facta.testing.batches import ITEMS
from facta.training.log import Log
from tests import worlds

SMALL = BPRMFConfig(width=4, regularisation=0.05, epochs=3, batch_size=7)
CHECKS = {
    contract.check_order_of_facts,
    contract.check_cut_rows,
    contract.check_aside,
    contract.check_hidden_events,
    contract.check_batch_mates,
    contract.check_fast_path,
    contract.check_same_again,
}


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    return facta.prepare(worlds.checkerboard(users=40), tmp_path / "log")


def pairs(seed: int = 0, users: int = 9, items: int = 11) -> tuple[Tensor, Tensor]:
    """Distinct (user, item), ascending; user 0 met all items but one."""
    met = torch.from_numpy(np.random.default_rng(seed).random((users, items)) < 0.4)
    met[0], met[0, 3] = True, False
    user, item = met.nonzero(as_tuple=True)
    return user, item


def by_autograd(config: BPRMFConfig, user: Tensor, item: Tensor, users: int, items: int) -> Tensor:
    """The objective of each step as it is written, and its gradient by torch."""
    first = [bpr_mf._initial(config, number, count) for number, count in enumerate((users, items))]
    p, q, b = first[0][:, :-1].double(), first[1][:, :-1].double(), torch.zeros(items, dtype=torch.float64)
    met = set(zip(user.tolist(), item.tolist(), strict=True))
    for epoch in range(config.epochs):
        key = draws.mix_int(config.seed, epoch, Purpose.SHUFFLE)
        order = sorted(range(len(user)), key=lambda e: int(draws.mix(user[e] * items + item[e], key)))
        for start in range(0, len(order), config.batch_size):
            for leaf in (p, q, b):
                leaf.requires_grad_()
            total = 0.0 * (p.sum() + q.sum() + b.sum())  # a step without a j moves nothing
            for e in order[start : start + config.batch_size]:
                u, i = int(user[e]), int(item[e])
                bits = draws.mix(torch.tensor(u * items + i), draws.mix_int(config.seed, epoch, Purpose.NEGATIVES))
                drawn = [int(draws.below(draws.mix(bits, again), items)) for again in range(bpr_mf.DRAWS_PER_PAIR)]
                j = next((one for one in drawn if (u, one) not in met), None)
                if j is None:
                    continue
                x = b[i] - b[j] + p[u] @ (q[i] - q[j])
                squares = sum((one**2).sum() for one in (p[u], q[i], q[j], b[i], b[j]))
                total = total + F.logsigmoid(x) - config.regularisation / 2 * squares
            rate = config.learning_rate * (1 - (epoch + start / len(order)) / config.epochs)
            slopes = torch.autograd.grad(total, (p, q, b))
            p, q, b = ((leaf + rate * slope).detach() for leaf, slope in zip((p, q, b), slopes, strict=True))
    return torch.cat([q, b[:, None]], dim=1)


@pytest.mark.parametrize("config", [SMALL, SMALL.change(seed=3, batch_size=1), SMALL.change(regularisation=0.5)])
def test_steps_are_gradients_of_the_objective(config: BPRMFConfig) -> None:
    user, item = pairs()
    found = bpr_mf.learned(config, user, item, 9, 11)
    torch.testing.assert_close(found.double(), by_autograd(config, user, item, 9, 11), rtol=1e-4, atol=1e-5)


def test_what_is_drawn_was_not_met() -> None:
    user, item = pairs()
    key, met = user * 11 + item, set(zip(user.tolist(), item.tolist(), strict=True))
    every = torch.arange(len(user))
    other, unmet = bpr_mf._unmet(key, every, user, 11, 5)
    assert all(((int(u), int(j)) in met) != bool(ok) for u, j, ok in zip(user, other, unmet, strict=True))
    assert unmet[user > 0].float().mean() > 0.9
    assert 0.1 < unmet[user == 0].float().mean() < 0.9  # of a user with one item left a few draws do not always find it
    turned, again = bpr_mf._unmet(key, every.flip(0), user, 11, 5)
    assert torch.equal(turned.flip(0), other) and torch.equal(again.flip(0), unmet)


def made(items: int = 30, width: int = 5, seed: int = 0) -> BPRMF:
    model = BPRMF(BPRMFConfig(width=width, regularisation=0.05), items)
    model.vectors = torch.randn(items, width + 1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return model


def loss(model: BPRMF, p: Tensor, history: list[int]) -> Tensor:
    """What folding in minimises, as it is written."""
    x = model.vectors[:, :-1] @ p + model.vectors[:, -1]
    own, others = sorted(set(history)), [j for j in model.others.tolist() if j not in history]
    compared = [F.softplus(x[j] - x[i]) for i in own for j in others]
    return torch.stack(compared).mean() + model.config.regularisation / 2 * p @ p


HISTORIES = [[3, 7, 3], [1], list(range(12)), [29, 0, 14, 5]]


def folded(model: BPRMF, histories: list[list[int]]) -> Tensor:
    """[B, D], from requests whose targets see the whole history."""
    batch = worlds.batch_of([[*history, 0] for history in histories])
    newest = batch.targets.offsets[1:] - 1
    return model.queries(batch)[newest, :-1]


@pytest.mark.parametrize("others", [256, 8])
def test_folding_in_ends_at_the_optimum(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bpr_mf, "MOST_OTHERS", others)
    model = made()
    assert len(model.others) == min(others, 30) == len(model.others.unique())
    monkeypatch.setattr(bpr_mf, "FOLD_IN_STEPS", 3000)
    for p, history in zip(folded(model, HISTORIES), HISTORIES, strict=True):
        p.requires_grad_()
        (slope,) = torch.autograd.grad(loss(model, p, history), p)
        assert slope.abs().max() < 1e-7, history


def test_each_step_lowers_the_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    model, losses = made(), []
    for steps in range(8):
        monkeypatch.setattr(bpr_mf, "FOLD_IN_STEPS", steps)
        found = folded(model, HISTORIES)
        losses.append([float(loss(model, p, h)) for p, h in zip(found, HISTORIES, strict=True)])
    assert (np.diff(losses, axis=0) < 0).all()


def test_a_history_is_a_set_and_an_empty_one_leaves_the_biases() -> None:
    model = made()
    one, other = folded(model, [[3, 7, 5], [5, 3, 7, 7, 3]])
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    batch = worlds.batch_of([[1, 2], [4, 4]])
    batch.targets.num_visible.zero_()
    assert torch.equal(model.queries(batch)[:, :-1], torch.zeros(2, 5, dtype=torch.float64))
    torch.testing.assert_close(model.catalogue_scores(batch).dense()[1], model.vectors[:, -1])


def test_it_keeps_the_contract_of_models() -> None:
    """As every model that recommends: earlier facts alone, whatever else is in the batch; a loss it has not."""
    case = contract.Case(BPRMFConfig(width=4), users=False, series=False, sees_all=False)
    model = case.build().eval()
    assert isinstance(model, BPRMF)
    model.vectors = made(ITEMS, 4).vectors
    (row,) = contract.rows(1)
    queries = contract.predicted(model, contract.batch([row], users=False, series=False))["item"]
    assert len(queries.unique(dim=0)) == 1 + len(set(row.item[:-1]))  # it reads what it may
    for check in CHECKS:
        check(case, model)


SETTINGS = {"protocol.mask": "nothing"}


def test_it_tells_what_somebody_likes(data: Dataset, tmp_path: Path) -> None:
    """Everyone takes items of one colour: all of them stand before all others. Evaluation and requests agree."""
    artifact = facta.train(data, "debug/bpr-mf", tmp_path / "a", SETTINGS, log=Log("quiet"))
    assert artifact.model.config.regularisation in bpr_mf.REGULARISATIONS  # type: ignore[attr-defined]
    loaded = facta.load(tmp_path / "a")
    found = facta.evaluate(loaded, data, ks=(6,))
    for user, ours in zip(found.user.tolist(), found.lists, strict=True):
        assert {item % 2 for item in ours.tolist()} == {user % 2}
        history = data.item[data.offsets[user] : data.offsets[user + 1] - 1].tolist()
        answer = loaded.recommend([history], k=6, exclude="nothing")
        assert answer.ids[0] == ours.tolist()
    assert np.array_equal(artifact.recommend([[2, 4]], k=5).scores, loaded.recommend([[2, 4]], k=5).scores)


def test_a_refit_learns_all_events_before_the_test(data: Dataset, tmp_path: Path) -> None:
    changes = {**SETTINGS, "protocol.refit": "yes", "choose": False, "model.epochs": 2, "model.width": 4}
    artifact = facta.train(data, "debug/bpr-mf", tmp_path / "a", changes, log=Log("quiet"))
    again = BPRMF(BPRMFConfig(epochs=2, width=4), data.num_items)
    again.fit_statistics(Statistics(data, leave_one_out(data).refit))
    assert torch.equal(artifact.model.vectors, again.vectors)  # type: ignore[arg-type]


def test_candidates_are_judged_as_they_are_made(data: Dataset) -> None:
    """So a fit that takes minutes says how far it is, and one model is kept beside the next."""
    fitting, told = Experiment(data, ProtocolConfig()).fitting, list[str]()

    def candidates() -> Iterator[BPRMF]:
        for epochs in (1, 30, 2):
            told.append(f"made {epochs}")
            model = BPRMF(BPRMFConfig(epochs=epochs), data.num_items)
            yield model.fit_statistics(fitting.statistics)

    choice = choose(candidates(), fitting, judged=lambda model, _: told.append(f"judged {model.config.epochs}"))
    assert told == ["made 1", "judged 1", "made 30", "judged 30", "made 2", "judged 2"]
    assert choice.best.config.epochs == (1, 30, 2)[int(np.argmax(choice.values))]
