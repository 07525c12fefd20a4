"""What a posterior sampler promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise

TOO_FAR = 100.0  # times the larger of the noise level and the data: no sample gets there, a diverging one soon does


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


class Divergence(UserError):
    """A sampler's state left every plausible range.

    Attributes:
        clips: rows of the batch that did.
    """

    def __init__(self, clips: list[int], step: int, sigma: float) -> None:
        self.clips = clips
        rows = ", ".join(map(str, clips))
        super().__init__(
            f"sampling diverged for clip(s) {rows} of the batch at annealing step {step}, noise level {sigma:.3g}; "
            "set bounded: true on the joint prior; if it is, lower the sampler's eta or raise the likelihood's beta"
        )

    @classmethod
    def check(cls, x: Tensor, limit: float, *, step: int, sigma: float) -> None:
        """Raise if any clip of x, (B, K, T), is not finite or beyond `limit`."""
        fine = x.flatten(1).abs().amax(1) <= limit  # False for NaN too
        if not fine.all():
            raise cls((~fine).nonzero().flatten().tolist(), step, sigma)


class PosteriorSampler(ABC):
    """Draws from p(x | y) given a product prior and a likelihood. Subclasses are frozen dataclasses."""

    @property
    def needs_closed_form(self) -> bool:
        """Whether it works only with a likelihood that is Gaussian."""
        return False

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
