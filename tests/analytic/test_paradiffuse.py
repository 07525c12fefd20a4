"""ParaDiffUSE against the recursion that it obeys for white Gaussian priors, and against the posterior that it misses."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.rng import ClipNoise
from avdiff.samplers.paradiffuse import OUVE, ParaDiffUSE
from tests.gaussian import GaussianProduct, bind, white

S, BETA, DRAWS = 0.05, 0.02, 20_000


def found(sampler: ParaDiffUSE, sources: int) -> tuple[float, float, float]:
    """Slope of the sum on y and variance around it, variance of the difference of two sources."""
    y = 0.08 * torch.randn(1, DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    prior = GaussianProduct(white(*[S] * sources), S)
    shape = (1, sources, DRAWS)
    x = sampler.sample(prior, bind(GaussianLikelihood(BETA), y), shape, like=y, rng=ClipNoise(1, ("clip",)))[0]
    slope = float((x.sum(0) * y[0]).sum() / y.square().sum())
    return slope, float((x.sum(0) - slope * y[0]).var()), float((x[0] - x[1]).var())


def expected(sampler: ParaDiffUSE, sources: int) -> tuple[float, float, float]:
    levels = [*sampler.levels.levels(), (0.0, 0.0)]
    slope, total, difference = sources * sampler.share, sources * levels[0][0] ** 2, 2 * levels[0][0] ** 2
    for (tau, s), (then, _) in pairwise(levels):
        c, fall = S**2 / (S**2 + tau**2), tau**2 - then**2
        pull, added = sampler.weight * s * fall / (tau**2 + BETA**2), fall if then else 0.0
        keep = 1 - fall / tau**2 * (1 - c) - pull * (1 + (sources - 1) * c)
        slope, total = keep * slope + sources * pull, keep**2 * total + sources * added
        difference = (1 - fall / tau**2 * (1 - c) - pull * (1 - c)) ** 2 * difference + 2 * added
    return slope, total, difference


@pytest.mark.parametrize(
    ("sampler", "sources", "stated"),
    [
        (ParaDiffUSE(), 2, (0.94, 1.71, 0.52)),
        (ParaDiffUSE(), 3, (0.98, 1.75, 0.52)),
        (ParaDiffUSE(share=0.5), 2, None),
    ],
)
def test_bias_is_as_stated(sampler: ParaDiffUSE, sources: int, stated: tuple[float, float, float] | None) -> None:
    measured, wanted = found(sampler, sources), expected(sampler, sources)
    own = sources * S**2
    truth = (own / (own + BETA**2), own * BETA**2 / (own + BETA**2), 2 * S**2)
    assert measured[0] == pytest.approx(wanted[0], rel=0.01)
    assert measured[1:] == pytest.approx(wanted[1:], rel=5 * (2 / DRAWS) ** 0.5)
    if stated is not None:
        assert [m / t for m, t in zip(wanted, truth, strict=True)] == pytest.approx(stated, abs=0.006)


def test_levels_are_those_of_the_process() -> None:
    """s at both ends against the integral of g^2 e^(-2 theta (t - u)) with g = a (b/a)^u sqrt(2 ln(b/a))."""
    levels = OUVE(steps=5, end=0.03, unit=2.0).levels()
    growth = math.log(10.0)
    for (tau, s), t in ((levels[0], 1.0), (levels[-1], 0.03)):
        cells = 4000
        u = [(i + 0.5) * t / cells for i in range(cells)]
        variance = sum(0.05**2 * 100**v * 2 * growth * math.exp(-3 * (t - v)) for v in u) * t / cells
        assert s == pytest.approx(variance**0.5, rel=1e-4)
        assert tau == pytest.approx(2.0 * s * math.exp(1.5 * t))


def test_thirty_evaluations() -> None:
    y = torch.zeros(1, 10)
    prior = GaussianProduct(white(S, S), S)
    ParaDiffUSE().sample(prior, bind(GaussianLikelihood(BETA), y), (1, 2, 10), like=y, rng=ClipNoise(0, ("a",)))
    assert prior.evaluations == 30
