"""A prior whose posterior is known: white Gaussian noise."""

from __future__ import annotations

import torch
from torch import Tensor

from avdiff.audio.representation import STFT
from avdiff.priors.base import DiffusionPrior
from avdiff.types import SAMPLE_RATE


class GaussianPrior(DiffusionPrior):
    """p(x) = N(0, std^2 I), whose denoiser is D(x; sigma) = std^2 / (std^2 + sigma^2) x.

    Attributes:
        std: in waveform units.
    """

    local = True

    def __init__(self, std: float = 0.05, sample_rate: int = SAMPLE_RATE) -> None:
        super().__init__()
        if std <= 0:
            raise ValueError(f"std is {std}; a standard deviation must be positive")
        self.std = std
        self.sigma_data = std
        self.sample_rate = sample_rate

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        variance = self.std**2
        return x * (variance / (variance + sigma[:, None] ** 2))

    def estimate(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        stft, variance = STFT().to(x), self.std**2
        share = variance / (variance + sigma.square())
        return stft.inverse(share * stft(x), x.shape[-1]), share * sigma.square()

    def deviation(self, samples: int, cond: Tensor | None = None) -> Tensor:
        stft = STFT()
        return torch.full((1, stft.bins, samples // stft.hop + 1), self.std)
