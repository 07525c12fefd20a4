"""Muon: the momentum of a layer's matrix as the nearest matrix of orthogonal rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

_QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan's: singular values into 0.7 to 1.2 in five rounds
_EDGES = ("stem", "head", "output", "embed")  # what a network begins and ends with


class Muon(torch.optim.Optimizer):
    """Muon for the matrices of hidden layers, Adam for everything else, in one optimizer.

    Jordan et al. (kellerjordan.github.io/posts/muon, 2024), with the scale of Liu et al. (arXiv 2502.16982, sec. 2.2), so that
    the learning rate is one of Adam's:

        M <- momentum M + (1 - momentum) G,    W <- W - rate scale sqrt(max(m, n)) polar(momentum M + (1 - momentum) G)

    with W of m x n; a convolution's kernel is m output channels by n inputs and taps. `torch.optim.Muon` takes no kernels.

    Args:
        matrices: weights of two or more dimensions.
        others: the rest.
        lr: of both.
        scale: 0.2 in Liu et al.; 0.4 is our choice for networks of a few million weights.
        momentum: of the matrices.
        betas, eps: Adam's.
        rounds: of Newton and Schulz's iteration.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        lr: float,
        scale: float = 0.4,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        rounds: int = 5,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "muon": True},
            {"params": list(others), "muon": False},
        ]
        if flat := [tuple(p.shape) for p in groups[0]["params"] if p.ndim < 2]:
            raise ValueError(f"a weight of shape {flat[0]} is no matrix; give it to `others`")
        defaults = {"lr": lr, "scale": scale, "momentum": momentum, "betas": betas, "eps": eps, "rounds": rounds}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            moving = [weight for weight in group["params"] if weight.grad is not None]
            if moving:
                (self._muon if group["muon"] else self._adam)(moving, group)
        return loss

    def _muon(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        alike: dict[torch.Size, list[tuple[nn.Parameter, Tensor]]] = {}  # by the shape of the matrix
        for weight in weights:
            assert weight.grad is not None
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            average = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
            matrix = weight.grad.lerp(average, group["momentum"]).flatten(1)
            alike.setdefault(matrix.shape, []).append((weight, matrix))
        for shape, pairs in alike.items():
            steps = polar(torch.stack([matrix for _, matrix in pairs]), group["rounds"])
            for (weight, _), step in zip(pairs, steps, strict=True):
                weight.sub_(step.view_as(weight), alpha=group["lr"] * group["scale"] * max(shape) ** 0.5)

    def _adam(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        for weight in weights:
            state = self.state[weight]
            if not state:
                state["step"] = torch.zeros(())
                state["mean"], state["square"] = torch.zeros_like(weight), torch.zeros_like(weight)
            state["step"] += 1
        first, second = group["betas"]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        means, squares = ([self.state[weight][name] for weight in weights] for name in ("mean", "square"))
        torch._foreach_lerp_(means, gradients, 1 - first)
        torch._foreach_mul_(squares, second)
        torch._foreach_addcmul_(squares, gradients, gradients, 1 - second)
        steps = [int(self.state[weight]["step"]) for weight in weights]
        deviations = torch._foreach_div(squares, [1 - second**step for step in steps])
        torch._foreach_sqrt_(deviations)
        torch._foreach_add_(deviations, group["eps"])
        rates = [-group["lr"] / (1 - first**step) for step in steps]
        torch._foreach_addcdiv_([*weights], means, deviations, rates)


def polar(matrix: Tensor, rounds: int = 5) -> Tensor:
    """Roughly U Vᵀ of matrices U S Vᵀ, (..., m, n): Newton and Schulz's iteration, by products of the smaller side only."""
    if matrix.shape[-2] > matrix.shape[-1]:
        return polar(matrix.mT, rounds).mT
    a, b, c = _QUINTIC
    matrix = matrix / matrix.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-12)
    gram = matrix @ matrix.mT
    one = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    step = factor = a * one + b * gram + c * gram @ gram
    for _ in range(rounds - 1):
        gram = step @ gram @ step
        gram = (gram + gram.mT) / 2  # rounding would let it drift from symmetry
        step = a * one + b * gram + c * gram @ gram
        factor = step @ factor
    return factor @ matrix


def hidden_matrices(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """What is trained in a module: the weights of its hidden linear and convolution layers, and everything else."""
    matrices = {
        id(layer.weight)
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv1d | nn.Conv2d) and not any(edge in name for edge in _EDGES)
    }
    trained = [p for p in module.parameters() if p.requires_grad]
    return [p for p in trained if id(p) in matrices], [p for p in trained if id(p) not in matrices]
