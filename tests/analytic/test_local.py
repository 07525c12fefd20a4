"""The conditional with a variance a bin."""

import pytest
import torch

from avdiff.likelihood.mixing import GaussianLikelihood, SpectralLikelihood
from avdiff.rng import ClipNoise
from avdiff.samplers.conditional import Inner, NoiseStream
from avdiff.samplers.local import LocalGaussian
from avdiff.types import NOISE, OFFSCREEN, Observation

SAMPLES = 32_000


def draw(x0_hat: torch.Tensor, mixture: torch.Tensor, sigma: float, sampler: LocalGaussian) -> torch.Tensor:
    observation = Observation(("a",), mixture, None, None, (OFFSCREEN, NOISE))
    likelihood = SpectralLikelihood(beta=1e-3, exponent=1.0).bind(observation)
    noise = NoiseStream(ClipNoise(0, ("a",)), (1, 2, SAMPLES), x0_hat)
    return sampler.draw(x0_hat, likelihood, Inner(sigma, sigma, 0.5), noise)


def test_white_gaussian_sources_get_the_posterior_width() -> None:
    """x0_hat of N(0, s²) at noise sigma has variance s⁴/(s²+sigma²); the draw's spread must be s sigma/sqrt(s²+sigma²)."""
    s, sigma = 0.05, 0.08
    generator = torch.Generator().manual_seed(0)
    x0_hat = s**2 / (s**2 + sigma**2) ** 0.5 * torch.randn(1, 2, SAMPLES, generator=generator)
    sampler = LocalGaussian(bins=31, frames=31)
    x = draw(x0_hat, x0_hat.sum(1), sigma, sampler)
    difference = (x - x0_hat)[0, 0] - (x - x0_hat)[0, 1]  # the direction that the mixture does not fix
    expected = s * sigma / (s**2 + sigma**2) ** 0.5
    assert (difference.std() / 2**0.5).item() == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("beta", [0.02, 0.05])
def test_the_sum_of_known_white_sources_is_as_wide_as_the_mixture_leaves_it(beta: float) -> None:
    """Each varies by c = s² sigma² / (s² + sigma²) before the mixture is heard, their sum by 2 c beta² / (2 c + beta²) after."""
    s, sigma = 0.05, 0.08
    c = s**2 * sigma**2 / (s**2 + sigma**2)
    likelihood = GaussianLikelihood(beta).bind(
        Observation(("a",), torch.zeros(1, SAMPLES), None, None, (OFFSCREEN, NOISE))
    )
    noise = NoiseStream(ClipNoise(0, ("a",)), (1, 2, SAMPLES), torch.zeros(1))
    at = Inner(sigma, sigma, 0.5, torch.full((1, 2, 256, SAMPLES // 160 + 1), s))
    x = LocalGaussian(known=True).draw(torch.zeros(1, 2, SAMPLES), likelihood, at, noise)
    assert x.sum(1).square().mean().item() == pytest.approx(2 * c * beta**2 / (2 * c + beta**2), rel=0.03)


def test_the_parts_add_up_to_the_mixture() -> None:
    generator = torch.Generator().manual_seed(1)
    x0_hat, mixture = torch.randn(1, 2, SAMPLES, generator=generator), torch.randn(1, SAMPLES, generator=generator)
    x = draw(x0_hat, mixture, 0.5, LocalGaussian())
    assert (x.sum(1) - mixture).abs().max() < 1e-3


def test_the_unexplained_goes_where_a_source_has_energy() -> None:
    time = torch.arange(SAMPLES) / 16_000
    low, high = torch.sin(2 * torch.pi * 500 * time), torch.sin(2 * torch.pi * 3000 * time)
    x0_hat = torch.stack([0.05 * low, 0.05 * high])[None]
    x = draw(x0_hat, (0.1 * low + 0.1 * high)[None], 0.01, LocalGaussian(temperature=0.0))
    assert torch.corrcoef(torch.stack([x[0, 0], low]))[0, 1] > 0.999
    assert torch.corrcoef(torch.stack([x[0, 1], high]))[0, 1] > 0.999


def test_a_leak_does_not_call_for_more_where_the_variances_are_known() -> None:
    """Half of a voice in the estimate of the noise: known variances send what is missing to the voice alone."""
    voice = 0.1 * torch.sin(2 * torch.pi * 500 * torch.arange(SAMPLES) / 16_000)
    x0_hat = torch.stack([0.25 * voice, 0.25 * voice])[None]
    deviation = torch.tensor([1.0, 1e-4]).view(1, 2, 1, 1).expand(1, 2, 256, SAMPLES // 160 + 1)
    observation = Observation(("a",), voice[None], None, None, (OFFSCREEN, NOISE))
    likelihood = SpectralLikelihood(beta=1e-3, exponent=1.0).bind(observation)
    noise = NoiseStream(ClipNoise(0, ("a",)), (1, 2, SAMPLES), x0_hat)
    sampler = LocalGaussian(known=True, temperature=0.0)
    x = sampler.draw(x0_hat, likelihood, Inner(0.05, 0.05, 0.5, deviation), noise)[0]
    assert (x @ voice / (voice @ voice)).tolist() == pytest.approx([0.75, 0.25], abs=1e-3)
