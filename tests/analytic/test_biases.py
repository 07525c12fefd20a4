"""Every sampler on priors that are not white: measured means, covariances and mode weights beside the closed form.

None of these settings is exact: the figures are what was measured, with a Monte-Carlo error of a few of the last digits, and
change when a sampler does.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.rng import ClipNoise
from avdiff.samplers.base import PosteriorSampler
from avdiff.samplers.conditional import ConditionalSampler
from avdiff.samplers.daps import DAPS
from avdiff.samplers.dps import DPS, Literal, PerSource
from avdiff.samplers.gauss_newton import GaussNewton
from avdiff.samplers.gaussian import ExactConditional
from avdiff.samplers.hmc import DampedHMC, SplitHMC
from avdiff.samplers.langevin import Langevin
from avdiff.samplers.ode import Euler
from avdiff.samplers.paradiffuse import ParaDiffUSE
from avdiff.samplers.schedule import PolySchedule
from avdiff.samplers.width import PosteriorWidth, Proportional, Width
from tests.gaussian import GaussianProduct, MixtureProduct, Modes, bind

S, BETA, DRAWS = 0.05, 0.02, 4_000


def daps(conditional: ConditionalSampler, width: Width | None = None) -> DAPS:
    width = width or PosteriorWidth()
    return DAPS(PolySchedule(100, 1.0, 0.002), conditional, Euler(1), width, denoise_last=False)


SAMPLERS: dict[str, PosteriorSampler] = {
    "DAPS": daps(ExactConditional()),
    "DAPS, r = sigma": daps(ExactConditional(), Proportional()),
    "DAPS, Langevin": daps(Langevin(15, 2e-4)),
    "DAPS, damped HMC": daps(DampedHMC(15, 2e-4, 0.5)),
    "DAPS, split HMC": daps(SplitHMC(15, 2e-4, 0.5)),
    "DAPS, Gauss-Newton": daps(GaussNewton(15, 2e-4, jumps=1)),
    "DPS": DPS(PolySchedule(200, 2.0, 1e-4, 10), PerSource()),
    "DPS, literal, churn": DPS(PolySchedule(200, 2.0, 1e-4, 10), Literal(), churn=50),
    "ParaDiffUSE": ParaDiffUSE(),
}


@dataclass(frozen=True)
class Figures:
    """Relative to the posterior.

    Attributes:
        mean: distance of the found mean from the true one, in deviations of the posterior.
        total: trace of the covariance.
        agreement: of the two covariances as matrices, 1 if they are proportional.
        first: weight of the first mode; the true one is 0.725.
    """

    mean: float
    total: float
    agreement: float
    first: float | None = None


def compare(mean: Tensor, covariance: Tensor, true_mean: Tensor, true_covariance: Tensor) -> tuple[float, float, float]:
    off = (mean - true_mean).norm() / true_covariance.trace().sqrt()
    inner = (covariance * true_covariance).sum() / (covariance.norm() * true_covariance.norm())
    return float(off), float(covariance.trace() / true_covariance.trace()), float(inner)


def coloured(sampler: PosteriorSampler) -> Figures:
    """Two sources, coloured differently and of different level, in blocks of 3 samples."""
    lag = (torch.arange(3)[:, None] - torch.arange(3)).abs().double()
    covariances = torch.stack([S**2 * 0.8**lag, (0.6 * S) ** 2 * (-0.5) ** lag])
    prior, y = GaussianProduct(covariances, S), torch.tensor([0.08, -0.03, 0.05], dtype=torch.float64)
    likelihood = bind(GaussianLikelihood(BETA), y.repeat(DRAWS)[None])
    x = sampler.sample(prior, likelihood, (1, 2, 3 * DRAWS), like=y, rng=ClipNoise(1, ("clip",)))[0]
    draws = x.unflatten(-1, (DRAWS, 3)).movedim(0, 1)
    true_mean, true_covariance = prior.posterior(y, BETA)
    return Figures(*compare(draws.mean(0), draws.flatten(1).T.cov(), true_mean, true_covariance.view(6, 6)))


def modes(sampler: PosteriorSampler) -> Figures:
    """A source with two modes, 0.3 N(-0.1, 0.02^2) + 0.7 N(0.1, 0.02^2), and a Gaussian one, heard as -0.03."""
    prior = MixtureProduct([Modes((0.3, 0.7), (-0.1, 0.1), (0.02, 0.02)), Modes((1.0,), (0.0,), (S,))], S)
    y = torch.full((1, DRAWS), -0.03, dtype=torch.float64)
    x = sampler.sample(prior, bind(GaussianLikelihood(BETA), y), (1, 2, DRAWS), like=y, rng=ClipNoise(1, ("clip",)))[0]
    true_mean, true_covariance, weights = prior.posterior(-0.03, BETA)
    assert weights[0] == pytest.approx(0.725, abs=5e-4)
    return Figures(*compare(x.mean(1), x.cov(), true_mean, true_covariance), float((x[0] < 0).double().mean()))


COLOURED = {
    "DAPS": Figures(0.06, 1.05, 0.999),
    "DAPS, r = sigma": Figures(0.05, 1.06, 0.999),
    "DAPS, Langevin": Figures(0.07, 1.49, 0.998),
    "DAPS, damped HMC": Figures(0.07, 1.28, 0.999),
    "DAPS, split HMC": Figures(0.07, 1.06, 0.999),
    "DAPS, Gauss-Newton": Figures(0.04, 1.07, 0.999),
    "DPS": Figures(1.47, 0.62, 0.926),
    "DPS, literal, churn": Figures(0.16, 0.79, 0.993),
    "ParaDiffUSE": Figures(0.24, 0.91, 0.966),
}
MODES = {
    "DAPS": Figures(0.45, 1.16, 1.000, 0.51),
    "DAPS, r = sigma": Figures(0.41, 1.17, 1.000, 0.53),
    "DAPS, Langevin": Figures(0.44, 1.19, 1.000, 0.52),
    "DAPS, damped HMC": Figures(0.44, 1.17, 1.000, 0.52),
    "DAPS, split HMC": Figures(0.44, 1.16, 1.000, 0.52),
    "DAPS, Gauss-Newton": Figures(0.44, 1.16, 1.000, 0.52),
    "DPS": Figures(0.23, 0.71, 0.996, 0.64),
    "DPS, literal, churn": Figures(0.37, 0.66, 0.999, 0.88),
    "ParaDiffUSE": Figures(0.59, 0.80, 0.986, 0.43),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_coloured_sources(name: str) -> None:
    found, wanted = coloured(SAMPLERS[name]), COLOURED[name]
    assert found.mean == pytest.approx(wanted.mean, abs=0.03)
    assert found.total == pytest.approx(wanted.total, abs=0.06 * max(1, wanted.total))
    assert found.agreement == pytest.approx(wanted.agreement, abs=0.02)


@pytest.mark.parametrize("name", SAMPLERS)
def test_two_modes(name: str) -> None:
    found, wanted = modes(SAMPLERS[name]), MODES[name]
    assert wanted.first is not None
    assert found.mean == pytest.approx(wanted.mean, abs=0.03)
    assert found.first == pytest.approx(wanted.first, abs=0.03)
    assert found.total == pytest.approx(wanted.total, abs=0.06 * max(1, wanted.total))
    assert found.agreement == pytest.approx(wanted.agreement, abs=0.02)
