"""Muon, against its definition and Adam."""

import pytest
import torch
from torch import nn

from avdiff.lit.muon import Muon, hidden_matrices, polar


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_the_polar_factor_has_the_singular_vectors_and_singular_values_near_one(shape: tuple[int, int]) -> None:
    left, values, right = torch.linalg.svd(torch.randn(shape, generator=torch.manual_seed(0)), full_matrices=False)
    values = torch.linspace(1.0, 0.2, len(values))
    found = left.T @ polar(left @ values.diag() @ right) @ right.T
    off = found - found.diagonal().diag()
    assert off.abs().max() < 1e-4
    assert ((found.diagonal() > 0.6) & (found.diagonal() < 1.25)).all()


def test_a_kernel_moves_as_its_matrix_by_the_scaled_rate_whatever_the_gradient_is_in_size() -> None:
    gradient = torch.randn(6, 4, 3, 3, generator=torch.manual_seed(0))
    moved = []
    for size in (1e-4, 1e4):
        kernel = nn.Parameter(torch.zeros(6, 4, 3, 3))
        kernel.grad = size * gradient
        Muon([kernel], [], lr=0.1, scale=0.5).step()
        moved.append(kernel.detach())
    torch.testing.assert_close(moved[0], -0.1 * 0.5 * 36**0.5 * polar(gradient.flatten(1)).view(6, 4, 3, 3))
    torch.testing.assert_close(moved[0], moved[1])


def test_momentum_is_nesterovs_and_goes_on_from_a_saved_state() -> None:
    gradients = torch.randn(2, 5, 7, generator=torch.manual_seed(0))
    weight = nn.Parameter(torch.zeros(5, 7))
    first = Muon([weight], [], lr=1.0, momentum=0.9)
    weight.grad = gradients[0].clone()
    first.step()
    second = Muon([weight], [], lr=1.0, momentum=0.9)
    second.load_state_dict(first.state_dict())
    before = weight.detach().clone()
    weight.grad = gradients[1].clone()
    second.step()
    average = 0.9 * 0.1 * gradients[0] + 0.1 * gradients[1]
    torch.testing.assert_close(weight.detach() - before, -0.4 * 7**0.5 * polar(0.1 * gradients[1] + 0.9 * average))


def test_everything_else_moves_as_adam_moves_it() -> None:
    mine, theirs = (nn.Parameter(torch.ones(5)) for _ in range(2))
    muon, adam = Muon([], [mine], lr=0.01), torch.optim.Adam([theirs], lr=0.01)
    for gradient in torch.randn(4, 5, generator=torch.manual_seed(0)):
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(mine, theirs)


def test_vectors_are_no_matrices() -> None:
    with pytest.raises(ValueError, match="a weight of shape \\(5,\\) is no matrix"):
        Muon([nn.Parameter(torch.ones(5))], [], lr=0.1)


def test_hidden_layers_are_told_from_the_ends_and_from_what_is_frozen() -> None:
    layers = {"stem": nn.Conv2d(1, 2, 3), "block": nn.Conv2d(2, 2, 3), "cond": nn.Linear(2, 2), "head": nn.Linear(2, 1)}
    module = nn.ModuleDict(layers)
    layers["cond"].bias.requires_grad_(False)
    matrices, others = hidden_matrices(module)
    assert [id(p) for p in matrices] == [id(layers["block"].weight), id(layers["cond"].weight)]
    assert len(matrices) + len(others) == 7
