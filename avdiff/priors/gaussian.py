"""A prior whose posterior is known: white Gaussian noise."""

from __future__ import annotations

from torch import Tensor

from avdiff.priors.base import DiffusionPrior
from avdiff.types import SAMPLE_RATE


class GaussianPrior(DiffusionPrior):
    """p(x) = N(0, std^2 I), whose denoiser is D(x; sigma) = std^2 / (std^2 + sigma^2) x.

    Attributes:
        std: in waveform units.
    """

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
