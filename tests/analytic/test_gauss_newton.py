"""Gauss-Newton jumps against the long Langevin chain whose law they are to have, for likelihoods of the STFT."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood
from avdiff.likelihood.mixing import SpectralLikelihood
from avdiff.rng import ClipNoise
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream
from avdiff.samplers.gauss_newton import GaussNewton
from avdiff.samplers.langevin import Langevin
from tests.gaussian import bind

ROWS, SAMPLES, R, ETA, STEPS = 8, 4800, 0.3, 4e-5, 100
KEYS = tuple(map(str, range(ROWS)))


def problem(exponent: float) -> tuple[Tensor, BoundLikelihood]:
    """x0_hat, the same in every row, and a likelihood; levels as in SSNAPS."""
    generator = torch.Generator().manual_seed(0)
    y = 0.15 * torch.randn(1, SAMPLES, generator=generator)
    x0_hat = 0.1 * torch.randn(1, 2, SAMPLES, generator=generator)
    return x0_hat.expand(ROWS, -1, -1), bind(SpectralLikelihood(0.8, exponent), y.expand(ROWS, -1))


def run(sampler: ConditionalSampler, exponent: float, seed: int = 0) -> Tensor:
    x0_hat, likelihood = problem(exponent)
    noise = NoiseStream(ClipNoise(seed, KEYS), (ROWS, 2, SAMPLES), x0_hat)
    return sampler.draw(x0_hat, likelihood, Inner(R, R, 0.0), noise)


@cache
def literal(exponent: float) -> Tensor:
    return run(Langevin(STEPS, ETA, decay=1.0), exponent)


def differ(sampler: ConditionalSampler, exponent: float) -> tuple[float, float, float]:
    """From the chain: the mean's displacement, relative; variance of the sum and of the difference, relative."""
    start, _ = problem(exponent)
    chain, found = literal(exponent), run(sampler, exponent, seed=1)
    moved = (chain.mean(0) - start[0]).sum(0)  # the sum of sources: all that the mixture moves
    other = (found.mean(0) - start[0]).sum(0)
    scale = float((other @ moved) / (moved @ moved))
    variances = [float(f(found).var(0).mean() / f(chain).var(0).mean()) for f in (_sum, _difference)]
    return scale - 1, variances[0] - 1, variances[1] - 1


def _sum(x: Tensor) -> Tensor:
    return x[:, 0] + x[:, 1]


def _difference(x: Tensor) -> Tensor:
    return x[:, 0] - x[:, 1]


@pytest.mark.parametrize("exponent", [1.0, 2 / 3])
def test_two_jumps_have_the_law_of_the_chain(exponent: float) -> None:
    for error in differ(GaussNewton(STEPS, ETA, decay=1.0, jumps=2), exponent):
        assert abs(error) < 0.05


def test_one_jump_is_too_wide_for_a_chain_that_is_not_gaussian() -> None:
    """As the docstring states: the variance of the sum by 9 %, with eight jumps no more than by 4 % off."""
    one, many = (differ(GaussNewton(STEPS, ETA, decay=1.0, jumps=jumps), 2 / 3)[1] for jumps in (1, 8))
    assert 0.06 < one < 0.13
    assert abs(many) < 0.05


def test_it_is_stable_where_the_chain_is_not() -> None:
    """A step a hundred times too long: the chain explodes, the jumps settle on the mixture."""
    x0_hat, likelihood = problem(1.0)
    assert not run(Langevin(STEPS, 100 * ETA, decay=1.0), 1.0).abs().max() < 1e3
    x = run(GaussNewton(STEPS, 100 * ETA, decay=1.0, jumps=4), 1.0)
    assert (likelihood.log_prob(x) > 0.2 * likelihood.log_prob(x0_hat)).all()


@pytest.mark.parametrize("exponent", [1.0, 2 / 3, 0.4])
def test_curvature_is_the_gauss_newton_matrix(exponent: float) -> None:
    """Its quadratic form, with A^T A taken as G I once, against |S'(U) A v|^2 / beta^2 by differences."""
    generator = torch.Generator().manual_seed(2)
    y, x, v = (torch.randn(1, SAMPLES, generator=generator, dtype=torch.float64) for _ in range(3))
    likelihood, x, v = SpectralLikelihood(0.8, exponent), x[:, None], v[:, None]
    curvature = bind(likelihood, y).curvature(x)
    found = float((v * curvature.filter(v, lambda h: h)).sum())
    step = 1e-5
    # at y = x the residual is 0, so that the second difference of log p is the Gauss-Newton form
    bound = bind(likelihood, x[:, 0])
    wanted = -2 * float(bound.log_prob(x + step * v)) / step**2
    assert found == pytest.approx(wanted, rel=0.03)
    torch.testing.assert_close(curvature.filter(v, torch.ones_like), v)
