"""What a likelihood promises. It owns the forward model and the loss, never a denoiser."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from avdiff.types import Observation


@dataclass(frozen=True)
class GaussianSum:
    """y = sum_k x_k + std * n in the time domain: a likelihood with a closed form.

    Attributes:
        mixture: (B, T).
        std: standard deviation of n, in waveform units.
    """

    mixture: Tensor
    std: float


class Curvature(Protocol):
    """H, the Gauss-Newton precision of log p(y | x) in the sum of the sources: symmetric, known through its functions."""

    def filter(self, signal: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
        """gain(H) signal.

        Args:
            signal: (B, 1, T).
            gain: function of H's eigenvalues, elementwise.

        Returns:
            (B, 1, T).
        """
        ...


class BoundLikelihood(Protocol):
    """log p(y | x) of one observation."""

    @property
    def gaussian(self) -> GaussianSum | None:
        """The closed form, where the likelihood is Gaussian in the time domain."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """(B, K, T) sources -> (B,), up to a constant."""
        ...

    def grad(self, x: Tensor, sigma: float) -> Tensor:
        """Gradient of `log_prob` plus `tilt` in x at sigma: (B, K, T), or (B, 1, T) where all sources share it."""
        ...

    def curvature(self, x: Tensor) -> Curvature:
        """Of log p(y | x) around x, (B, K, T)."""
        ...

    def tilt(self, x: Tensor, sigma: float) -> Tensor | None:
        """What a guidance loss adds to the gradient at noise level sigma, (B, K, T); None where there is none.

        It is no part of `log_prob`, nor of the closed form.
        """
        ...


class Likelihood(ABC):
    """Frozen settings of a likelihood, waiting for a mixture."""

    @property
    def closed_form(self) -> bool:
        """Whether the bound likelihood has its `gaussian`."""
        return False

    @abstractmethod
    def bind(self, observation: Observation) -> BoundLikelihood:
        """Tie the likelihood to a mixture that is already at the priors' level."""
