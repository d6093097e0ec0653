"""Mixture of logits by the compiled kernels, against the definition in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from facta.ops import backend
from facta.ops.mol import Gate, Mixture, mol
from tests.numerics.test_kernels import KERNELS

pytestmark = pytest.mark.skipif(not KERNELS, reason="facta was installed without its compiled kernels")

D, U = 32, 23
SIZES = [(1, 1, 1, 3), (3, 2, 7, 63), (2, 5, 4, 64), (4, 4, 9, 65), (8, 4, 33, 130)]  # A, B, H and pairs K


def world(a: int, b: int, hidden: int, targets: int) -> tuple[list[Tensor], Gate]:
    """Queries, items and the gate's layers."""
    torch.manual_seed(0)
    g = a * b

    def side(count: int, components: int) -> Tensor:
        unit = torch.nn.functional.normalize(torch.randn(count, components, D, dtype=torch.float64), dim=2)
        return torch.cat([unit.flatten(1), torch.randn(count, g, dtype=torch.float64)], dim=1)

    shapes = [(hidden, g), (hidden,), (g, hidden), (g,)]
    first, second, third, fourth = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    return [side(targets, a), side(U, b)], (first, second, third, fourth)


def run(mixture: Mixture, tensors: list[Tensor], index: Tensor | None, keys: Tensor | None) -> list[Tensor]:
    """Scores, and the gradients of a weighted sum of them."""
    given = [one.detach().clone().requires_grad_() for one in tensors]
    queries, items, *gate = given
    scores = mol(mixture, queries, items, (gate[0], gate[1], gate[2], gate[3]), index, keys)
    weight = torch.linspace(-1, 1, scores.numel(), dtype=scores.dtype).view_as(scores)
    return [scores.detach(), *torch.autograd.grad((scores * weight).sum(), given)]


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(("a", "b", "hidden", "pairs"), SIZES)
@pytest.mark.parametrize("drawn", [True, False])
def test_kernels_compute_the_definition(name: str, a: int, b: int, hidden: int, pairs: int, drawn: bool) -> None:
    sides, gate = world(a, b, hidden, targets=5)
    index = torch.randint(0, U, (5, pairs)) if drawn else None
    mixture = Mixture(a, b, temperature=0.2, dropout=0.3, salt=5)
    keys = torch.arange(5 * (pairs if drawn else U)).view(5, -1) if drawn else None
    wanted = run(mixture, [*sides, *gate], index, keys)
    with backend.use(name):
        found = run(mixture, [one.float() for one in (*sides, *gate)], index, keys)
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=2e-4, atol=2e-5 * float(theirs.abs().max()))


@pytest.mark.parametrize("name", KERNELS)
def test_no_number_depends_on_the_threads(name: str) -> None:
    sides, gate = world(4, 2, 6, targets=41)
    tensors, index = [one.float() for one in (*sides, *gate)], torch.randint(0, U, (41, 70))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            with backend.use(name):
                found.append(run(Mixture(4, 2, 0.1), tensors, index, None))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        for ours, theirs in zip(found[0], other, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", KERNELS)
def test_nothing_asked_is_nothing_answered(name: str) -> None:
    sides, gate = world(2, 2, 3, targets=0)
    tensors = [one.float() for one in (*sides, *gate)]
    with backend.use(name):
        for index in (None, torch.zeros(0, 4, dtype=torch.int64)):
            found = run(Mixture(2, 2, 0.1), tensors, index, None)
            assert found[0].shape == (0, U if index is None else 4)
            assert all(not bool(one.any()) for one in found[1:])


@pytest.mark.parametrize("name", KERNELS)
def test_an_index_beyond_the_items_is_refused(name: str) -> None:
    sides, gate = world(2, 2, 3, targets=2)
    tensors = [one.float() for one in (*sides, *gate)]
    with backend.use(name), pytest.raises(ValueError, match="index must be within the items"):
        run(Mixture(2, 2, 0.1), tensors, torch.full((2, 3), U), None)
