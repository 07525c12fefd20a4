"""Conditional samplers against the Gaussian conditional and against each other."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import Curvature, GaussianSum
from avdiff.likelihood.mixing import GaussianLikelihood, SpectralLikelihood
from avdiff.rng import ClipNoise
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream
from avdiff.samplers.gauss_newton import GaussNewton
from avdiff.samplers.gaussian import ExactConditional, TruncatedChain
from avdiff.samplers.hmc import DampedHMC, SplitHMC
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

    def curvature(self, x: Tensor) -> Curvature:
        return bind(GaussianLikelihood(self.gaussian.std), self.gaussian.mixture).curvature(x)


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


def check(found: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], spread: float = 0.07) -> None:
    """Every mode on its own scale: the common one is much narrower than the differences."""
    std = wanted[1].diagonal().sqrt()
    assert ((found[0] - wanted[0]) / std).abs().max() < 6 / DRAWS**0.5
    assert ((found[1] - wanted[1]) / (std * std[:, None])).abs().max() < spread


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


STIFFEST = 1 / R**2 + 3 / BETA**2  # precision of the sum of sources


def test_split_hmc_is_exact_for_steps_that_are_not_small() -> None:
    """Langevin's chain diverges at this step."""
    check(draw(SplitHMC(60, 2 / STIFFEST, momentum=0.5, decay=1.0), force=8.0), exact(force=8.0))


def test_damped_hmc_is_biased_as_stated() -> None:
    mean, covariance = exact()
    momentum, eta = 0.5, 1.2 / STIFFEST
    precisions = covariance.diagonal().reciprocal()
    wide = covariance.diagonal() / (1 - eta * precisions / (2 * (1 + momentum)))
    assert wide[0] / covariance[0, 0] == pytest.approx(1 / 0.6)
    check(draw(DampedHMC(80, eta, momentum, decay=1.0)), (mean, wide.diag()))


@pytest.mark.parametrize("steps", [1, 12])
def test_hmc_without_momentum_is_langevin(steps: int) -> None:
    check(draw(DampedHMC(steps, 5e-4, momentum=0.0), 0.5, 8.0), draw(Langevin(steps, 5e-4), 0.5, 8.0))


class Counted:
    """A likelihood that counts its gradients."""

    def __init__(self) -> None:
        self.bound, self.gradients = bind(GaussianLikelihood(BETA), torch.full((1, 50), Y, dtype=torch.float64)), 0

    def grad(self, x: Tensor, sigma: float) -> Tensor:
        self.gradients += 1
        return self.bound.grad(x, sigma)


@pytest.mark.parametrize("sampler", [Langevin(23, 1e-4), DampedHMC(23, 1e-4), SplitHMC(23, 1e-4)])
def test_a_step_costs_one_gradient(sampler: ConditionalSampler) -> None:
    likelihood = Counted()
    noise = NoiseStream(ClipNoise(3, ("clip",)), (1, 3, 50), torch.zeros(1, dtype=torch.float64))
    sampler.draw(torch.zeros(1, 3, 50, dtype=torch.float64), likelihood, Inner(R, R, 0.0), noise)
    assert likelihood.gradients == 23


def test_hmc_gets_further_than_langevin_with_as_many_gradients() -> None:
    """Differences between sources spread slowly beside a stiff sum: momentum carries them."""
    wanted = exact()[1][2, 2]
    chains = (Langevin(12, 0.2 / STIFFEST, decay=1.0), SplitHMC(12, 0.2 / STIFFEST, momentum=0.9, decay=1.0))
    langevin, hmc = (draw(chain)[1][2, 2] / wanted for chain in chains)
    assert langevin < 0.5
    assert hmc > 1.5 * langevin


@pytest.mark.parametrize("force", [0.0, 8.0])
@pytest.mark.parametrize("jumps", [1, 3])
def test_gauss_newton_is_the_chain_of_small_steps(jumps: int, force: float) -> None:
    steps, eta = 4, 1e-4
    fine = draw(TruncatedChain(1000 * steps, eta / 1000), force=force)
    check(draw(GaussNewton(steps, eta, jumps=jumps), force=force), fine)
    long = draw(TruncatedChain(2000 * steps, eta / 1000), force=force)
    check(draw(GaussNewton(steps, eta, jumps=jumps, polish=steps), force=force), long, spread=0.3)


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
