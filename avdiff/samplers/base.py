"""What a posterior sampler promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise


@dataclass(frozen=True)
class Progress:
    """Where a sampler is; handed to its callback after every annealing step.

    Attributes:
        step: steps done, 1 to `steps`.
        steps: steps in all.
        sigma: noise level just done, in waveform units.
        denoised: (B, K, T) current estimate.
    """

    step: int
    steps: int
    sigma: float
    denoised: Tensor


class Callback(Protocol):
    def __call__(self, progress: Progress) -> None: ...


class PosteriorSampler(ABC):
    """Draws from p(x | y) given a product prior and a likelihood. Subclasses are frozen dataclasses."""

    @abstractmethod
    def sample(
        self,
        prior: BoundPrior,
        likelihood: BoundLikelihood,
        shape: tuple[int, int, int],
        *,
        like: Tensor,
        rng: ClipNoise,
        callback: Callback | None = None,
    ) -> Tensor:
        """One posterior sample.

        Args:
            shape: (B, K, T).
            like: a tensor that gives device and dtype.

        Returns:
            (B, K, T) at the priors' level.
        """
