"""Non-negative matrix factorisation with the Itakura-Saito divergence: V = H W is fitted to a power spectrogram.

Févotte, Bertin, Durrieu, Neural Computation 21 (2009), with the exponent 1/2 that makes every update lower the cost
(Févotte, Idier, Neural Computation 23, 2011). Matrices are frames first: power (..., N, F), H (..., N, R), W (..., R, F).
"""

from __future__ import annotations

import torch
from torch import Tensor

from avdiff.audio.representation import STFT, squared_magnitude
from avdiff.priors.gaussian import GaussianPrior
from avdiff.types import SAMPLE_RATE

LEAST = 1e-12  # of a factor, so that no pattern dies for good


def update_activations(power: Tensor, variance: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """H <- H ((P / V²) W^T / (1 / V) W^T)^(1/2): never raises sum P / V + ln V, V = H W + anything fixed."""
    inverse = variance.reciprocal()
    ratio = ((power * inverse.square()) @ w.mT) / (inverse @ w.mT).clamp_min(LEAST)
    return (h * ratio.sqrt()).clamp_min(LEAST)


def update_patterns(power: Tensor, variance: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """W <- W (H^T (P / V²) / H^T (1 / V))^(1/2); see `update_activations`."""
    inverse = variance.reciprocal()
    ratio = (h.mT @ (power * inverse.square())) / (h.mT @ inverse).clamp_min(LEAST)
    return (w * ratio.sqrt()).clamp_min(LEAST)


def normalised(h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """The same H W with every pattern of mean 1."""
    scale = w.mean(-1, keepdim=True)
    return h * scale.mT, w / scale


def activations(power: Tensor, w: Tensor, iterations: int, floor: float, h: Tensor | None = None) -> Tensor:
    """H for known patterns.

    Args:
        power: (..., N, F).
        w: (..., R, F).
        iterations: updates.
        floor: variance that every bin has besides.
        h: (..., N, R) to start from; None for equal ones.
    """
    if h is None:
        h = power.mean(-1, keepdim=True).clamp_min(LEAST).expand(*power.shape[:-1], w.shape[-2]) / w.shape[-2]
    for _ in range(iterations):
        h = update_activations(power, h @ w + floor, h, w)
    return h


class FactorisedPrior(GaussianPrior):
    """A source whose spectrogram is a product of few patterns, found in the noisy signal itself: nothing was learned before.

    |X|² ~ H W + sigma² with H and W free, after which the denoiser is a Wiener filter, HW / (HW + sigma²) X. This is the
    noise model of VAE-MCEM and of NMF, as a prior that stands wherever a denoiser does. Before anything is heard the
    source is white. Ours.

    Args:
        rank: patterns.
        iterations: updates of both factors.
        std: deviation of a source at its usual level, in waveform units.
        sample_rate: Hz.
    """

    def __init__(self, rank: int = 10, iterations: int = 50, std: float = 0.05, sample_rate: int = SAMPLE_RATE) -> None:
        super().__init__(std, sample_rate)
        if rank < 1 or iterations < 1:
            raise ValueError(f"rank is {rank} and iterations {iterations}; both must be at least 1")
        self.rank, self.iterations = rank, iterations

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        stft = STFT()
        shape = (len(x), stft.bins, x.shape[-1] // stft.hop + 1)
        return self.estimate(x, sigma[:, None, None].expand(shape), cond)[0]

    def estimate(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        stft = STFT().to(x)
        noisy, other = stft(x), sigma.square()
        variance = self._variance((squared_magnitude(noisy) / stft.energy).mT, other.mT).mT
        share = variance / (variance + other)
        return stft.inverse(share * noisy, x.shape[-1]), share * other

    def _variance(self, power: Tensor, other: Tensor) -> Tensor:
        """H W for H W + other ~ power, all (N, frames, bins)."""
        count, frames, bins = power.shape
        # The same start for every clip, and a random one: equal patterns would stay equal.
        generator = torch.Generator().manual_seed(0)
        h, w = (
            torch.rand(shape, generator=generator).to(power).add(0.1).expand(count, -1, -1)
            for shape in ((frames, self.rank), (self.rank, bins))
        )
        h = h * power.mean((1, 2), keepdim=True).clamp_min(LEAST) / self.rank
        for _ in range(self.iterations):
            h = update_activations(power, h @ w + other, h, w)
            w = update_patterns(power, h @ w + other, h, w)
            h, w = normalised(h, w)
        return h @ w
