"""Conditional samplers against the Gaussian conditional and against each other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import GaussianSum
from avdiff.likelihood.mixing import GaussianLikelihood, SpectralLikelihood
from avdiff.rng import ClipNoise
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream
from avdiff.samplers.gaussian import ExactConditional, TruncatedChain
from avdiff.samplers.langevin import Langevin
from tests.gaussian import bind

DRAWS = 20_000
X0_HAT, Y, BETA, R = torch.tensor([0.03, -0.01, 0.02], dtype=torch.float64), 0.1, 0.04, 0.06

MODES = torch.tensor([[1.0, 1, 1], [1, -1, 0], [1, 1, -2]], dtype=torch.float64)
MODES /= MODES.norm(dim=1, keepdim=True)


@dataclass(frozen=True)
class Tilted:
    """A Gaussian likelihood and a constant force on the first source."""

    gaussian: GaussianSum
    force: float

    def log_prob(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def grad(self, x: Tensor, sigma: float) -> Tensor:
        return (self.gaussian.mixture[:, None] - x.sum(1, keepdim=True)) / self.gaussian.std**2 + self.tilt(x, sigma)

    def tilt(self, x: Tensor, sigma: float) -> Tensor:
        out = torch.zeros_like(x)
        out[:, 0] = self.force
        return out


def draw(sampler: ConditionalSampler, progress: float = 0.0, force: float = 0.0) -> tuple[Tensor, Tensor]:
    """Mean (K,) and covariance (K, K) of what a sampler draws, in the basis `MODES`."""
    x0_hat = X0_HAT[None, :, None].expand(1, 3, DRAWS)
    mixture = torch.full((1, DRAWS), Y, dtype=torch.float64)
    likelihood = Tilted(GaussianSum(mixture, BETA), force) if force else bind(GaussianLikelihood(BETA), mixture)
    noise = NoiseStream(ClipNoise(3, ("clip",)), (1, 3, DRAWS), x0_hat)
    x = sampler.draw(x0_hat, likelihood, Inner(R, R, progress), noise)[0]
    x = MODES @ x
    return x.mean(1), torch.cov(x)


def exact(force: float = 0.0) -> tuple[Tensor, Tensor]:
    precision = torch.eye(3, dtype=torch.float64) / R**2 + 1 / BETA**2
    covariance = torch.linalg.inv(precision)
    push = X0_HAT / R**2 + Y / BETA**2 + force * torch.tensor([1.0, 0, 0], dtype=torch.float64)
    return MODES @ covariance @ push, MODES @ covariance @ MODES.T


def check(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> None:
    """Every mode on its own scale: the common one is much narrower than the differences."""
    std = wanted[1].diagonal().sqrt()
    assert ((found[0] - wanted[0]) / std).abs().max() < 6 / DRAWS**0.5
    assert ((found[1] - wanted[1]) / (std * std[:, None])).abs().max() < 0.07


@pytest.mark.parametrize("force", [0.0, 8.0])
def test_exact_conditional(force: float) -> None:
    check(draw(ExactConditional(), force=force), exact(force))


@pytest.mark.parametrize("progress", [0.0, 0.5])
@pytest.mark.parametrize("force", [0.0, 8.0])
@pytest.mark.parametrize("steps", [1, 4, 15])
def test_truncated_chain_is_langevin(steps: int, force: float, progress: float) -> None:
    """Same mean and covariance as the literal chain, long before either has converged."""
    eta = 5e-4
    check(
        draw(TruncatedChain(steps, eta), progress, force),
        draw(Langevin(steps, eta), progress, force),
    )


def test_long_chain_is_exact() -> None:
    check(draw(TruncatedChain(20_000, 1e-6, decay=1.0)), exact())
    check(draw(Langevin(200, 4e-5, decay=1.0)), exact())


def test_step_cap_keeps_the_time_of_the_chain() -> None:
    """Capped, a chain that would diverge is the fine chain that runs as long."""
    eta, steps = 2e-3, 20
    with pytest.raises(UserError, match="step_cap"):
        draw(TruncatedChain(steps, eta))
    fine = draw(TruncatedChain(steps * 100, eta / 100))
    capped = draw(TruncatedChain(steps, eta, step_cap=0.05))
    check(capped, fine)


def test_closed_form_is_asked_for() -> None:
    likelihood = bind(SpectralLikelihood(0.8), torch.randn(1, 800))
    noise = NoiseStream(ClipNoise(0, ("a",)), (1, 2, 800), torch.zeros(1))
    for sampler in (ExactConditional(), TruncatedChain(2, 1e-4)):
        with pytest.raises(ValueError, match="exponent 1"):
            sampler.draw(torch.zeros(1, 2, 800), likelihood, Inner(1.0, 1.0, 0.0), noise)
