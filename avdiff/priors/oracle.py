"""Priors that were told the truth: with them a sampler is judged without a network's faults."""

from __future__ import annotations

import torch
from torch import Tensor

from avdiff.audio.representation import STFT, local_mean, require_centre, squared_magnitude
from avdiff.priors.base import DiffusionPrior
from avdiff.types import SAMPLE_RATE

_LEAST = 1e-12  # floor of a variance, in squared waveform units: keeps silence finite


class LocalGaussianPrior(DiffusionPrior):
    """p(x) = N(0, v) in every bin of an STFT, whose denoiser is the Wiener filter v / (v + sigma^2).

    v, the condition, is the power spectrogram of the source itself (`reveal`), smoothed: an oracle, no method. The posterior
    of a mixture is then known in every bin (`local_posterior`), so that what a sampler loses against it is the sampler's own.
    Exact up to the redundancy of the STFT: neighbouring bins share samples, and two filters one after the other are not quite
    their product.

    Args:
        bins, frames: neighbourhood that |S|^2 is a mean over, odd. Without one the phase would be all that is left to find.
        sigma_data: level that mixtures are scaled to, in waveform units; that of the priors beside it.
    """

    local = True
    oracle = True

    def __init__(
        self, bins: int = 3, frames: int = 3, sigma_data: float = 0.05, sample_rate: int = SAMPLE_RATE
    ) -> None:
        super().__init__()
        require_centre(bins=bins, frames=frames)
        if sigma_data <= 0:
            raise ValueError(f"sigma_data is {sigma_data}; a standard deviation must be positive")
        self.bins, self.frames = bins, frames
        self.sigma_data = sigma_data
        self.sample_rate = sample_rate

    def reveal(self, sources: Tensor) -> Tensor:
        stft = STFT().to(sources)
        power = squared_magnitude(stft(sources)) / stft.energy
        return local_mean(power, self.bins, self.frames).clamp_min(_LEAST).mT

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        variance = _given(cond)
        stft = STFT().to(x)
        share = variance / (variance + sigma[:, None, None] ** 2)
        return stft.inverse(share * stft(x), x.shape[-1])

    def estimate(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        variance = _given(cond)
        stft = STFT().to(x)
        share = variance / (variance + sigma.square())
        return stft.inverse(share * stft(x), x.shape[-1]), share * sigma.square()

    def deviation(self, samples: int, cond: Tensor | None = None) -> Tensor:
        return _given(cond).sqrt()


def _given(cond: Tensor | None) -> Tensor:
    """The variance of every bin, (N, bins, frames), from (N, frames, bins)."""
    if cond is None:
        raise ValueError("LocalGaussianPrior has no variances; give it those that `reveal` makes of the sources")
    return cond.mT


def local_posterior(variance: Tensor, std: float) -> tuple[Tensor, Tensor]:
    """The posterior of independent N(0, v_k), heard together with noise of N(0, std^2), bin by bin.

    Args:
        variance: v_k, (B, K, bins, frames).
        std: of the likelihood, in waveform units.

    Returns:
        g_k = v_k / (sum_j v_j + std^2), (B, K, bins, frames), which times the mixture's bin is the mean; and the covariance
        of the sources, v_j [j = k] - v_j g_k, (B, K, K, bins, frames).
    """
    gain = variance / (variance.sum(1, keepdim=True) + std**2)
    own = torch.diag_embed(variance.movedim(1, -1)).movedim((-2, -1), (1, 2))
    return gain, own - variance[:, :, None] * gain[:, None]
