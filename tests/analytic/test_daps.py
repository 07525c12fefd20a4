"""DAPS with the exact conditional against posteriors known in closed form, within Monte-Carlo error."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.rng import ClipNoise
from avdiff.samplers.conditional import ConditionalSampler
from avdiff.samplers.daps import DAPS
from avdiff.samplers.gauss_newton import GaussNewton
from avdiff.samplers.gaussian import ExactConditional
from avdiff.samplers.hmc import SplitHMC
from avdiff.samplers.ode import Euler
from avdiff.samplers.schedule import PolySchedule
from avdiff.samplers.width import PosteriorWidth, Proportional
from tests.gaussian import GaussianProduct, bind, white

S, BETA, DRAWS = 0.05, 0.02, 20_000
TWEEDIE = Euler(1)


def draw(sampler: DAPS, prior: GaussianProduct, y: Tensor, draws: int = DRAWS) -> Tensor:
    """(draws, K, D) posterior samples for one observation y of (D,)."""
    likelihood = bind(GaussianLikelihood(BETA), y.repeat(draws)[None])
    shape = (1, prior.covariances.shape[0], draws * len(y))
    x = sampler.sample(prior, likelihood, shape, like=y, rng=ClipNoise(1, ("clip",)))
    return x[0].unflatten(-1, (draws, len(y))).movedim(0, 1)


def moments(samples: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (K, D) and covariance (K D, K D)."""
    return samples.mean(0), torch.cov(samples.flatten(1).T)


@pytest.mark.parametrize(
    ("conditional", "draws"),
    [
        (ExactConditional(), DRAWS),
        (GaussNewton(steps=100, eta=1.0, jumps=1), DRAWS),
        (SplitHMC(steps=40, eta=1.5e-4, momentum=0.6, decay=1.0), DRAWS // 4),
    ],
    ids=["exact", "Gauss-Newton", "split HMC"],
)
def test_exact_for_white_priors(conditional: ConditionalSampler, draws: int) -> None:
    prior, y = GaussianProduct(white(S, S, S), S), torch.tensor([0.08], dtype=torch.float64)
    sampler = DAPS(PolySchedule(30, 2.0), conditional, TWEEDIE, PosteriorWidth(), denoise_last=False)
    mean, covariance = moments(draw(sampler, prior, y, draws))
    true_mean, true_covariance = prior.posterior(y, BETA)
    error = S / draws**0.5  # one standard error of a mean
    torch.testing.assert_close(mean, true_mean, atol=4 * error, rtol=0)
    torch.testing.assert_close(covariance, true_covariance.view(3, 3), atol=6 * S * error, rtol=0)


def test_sigma_as_width_is_too_wide() -> None:
    """r = sigma with Tweedie's mean: 20 steps add some 20 % variance where the mixture is silent on it."""
    prior, y = GaussianProduct(white(S, S), S), torch.tensor([0.08], dtype=torch.float64)
    sampler = DAPS(PolySchedule(20, 2.0), ExactConditional(), TWEEDIE, Proportional(), denoise_last=False)
    samples = draw(sampler, prior, y)[:, :, 0]
    excess = (samples[:, 0] - samples[:, 1]).var() / (2 * S**2)
    variance, sigmas = 0.0, sampler.schedule.sigmas()
    for sigma in sigmas:  # the recursion that the difference of two sources obeys
        variance = (S**2 / (S**2 + sigma**2)) ** 2 * (variance + sigma**2) + sigma**2
    assert excess == pytest.approx(variance / S**2, rel=0.05)
    assert excess > 1.15


def test_ode_doubles_the_variance() -> None:
    """The ODE's end point already spreads like the prior; adding r on top ends near twice the variance, whatever r."""
    prior, y = GaussianProduct(white(S, S), S), torch.tensor([0.08], dtype=torch.float64)
    sampler = DAPS(PolySchedule(60, 2.0), ExactConditional(), Euler(40), PosteriorWidth(), denoise_last=False)
    samples = draw(sampler, prior, y, 5000)[:, :, 0]
    assert (samples[:, 0] - samples[:, 1]).var() / (2 * S**2) == pytest.approx(2.0, rel=0.12)


def test_coloured_and_unequal_priors() -> None:
    """One width for all directions is an approximation that small steps at small sigma make good."""
    lag = (torch.arange(3)[:, None] - torch.arange(3)).abs().double()
    covariances = torch.stack([S**2 * 0.8**lag, (0.6 * S) ** 2 * (-0.5) ** lag])
    prior, y = GaussianProduct(covariances, S), torch.tensor([0.08, -0.03, 0.05], dtype=torch.float64)
    sampler = DAPS(PolySchedule(200, 1.0, 0.002), ExactConditional(), TWEEDIE, PosteriorWidth(), denoise_last=False)
    mean, covariance = moments(draw(sampler, prior, y, draws=5000))
    true_mean, true_covariance = prior.posterior(y, BETA)
    torch.testing.assert_close(mean, true_mean, atol=0.05 * S, rtol=0)
    torch.testing.assert_close(covariance, true_covariance.view(6, 6), atol=0.03 * S**2, rtol=0)
