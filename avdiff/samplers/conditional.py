"""The inner problem of DAPS: a draw from p(x0 | x_t, y) once p(x0 | x_t) is taken as N(x0_hat, r_t^2 I)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood, GaussianSum
from avdiff.rng import ClipNoise


@dataclass
class NoiseStream:
    """Normal draws of one sampling run, each under a counter of its own.

    Attributes:
        rng: the clips' noise.
        shape: (B, K, T).
        like: gives device and dtype.
        drawn: draws so far.
    """

    rng: ClipNoise
    shape: tuple[int, int, int]
    like: Tensor
    drawn: int = field(default=0, init=False)

    def normal(self) -> Tensor:
        """(B, K, T)."""
        return self.block(1)[:, :, 0]

    def block(self, count: int) -> Tensor:
        """(B, K, count, T): several draws under one counter, which spares the seeding."""
        batch, sources, length = self.shape
        out = self.rng.normal((batch, sources, count, length), self.drawn, like=self.like)
        self.drawn += 1
        return out


@dataclass(frozen=True)
class Inner:
    """Where the annealing stands when it asks for a draw.

    Attributes:
        sigma: noise level t_i, in waveform units.
        width: r_t, standard deviation of p(x0 | x_t).
        progress: i / N_A, from 0 up to but not including 1.
        deviation: of the sources a priori, (B, K, bins, frames), where the sampler needs it and the prior has it.
    """

    sigma: float
    width: float
    progress: float
    deviation: Tensor | None = None


class ConditionalSampler(ABC):
    """Draws from N(x0; x0_hat, r^2 I) p(y | x0), up to its normaliser (SSNAPS, eq. 7-8)."""

    @property
    def needs_closed_form(self) -> bool:
        """Whether it works only with a likelihood that is Gaussian."""
        return False

    @property
    def needs_deviation(self) -> bool:
        """Whether it makes use of the deviation of the sources a priori."""
        return False

    @abstractmethod
    def draw(self, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream) -> Tensor:
        """(B, K, T) near x0_hat (B, K, T)."""


def gaussian_of(likelihood: BoundLikelihood, name: str) -> GaussianSum:
    """The closed form of a likelihood.

    Raises:
        ValueError: it has none.
    """
    if likelihood.gaussian is None:
        raise ValueError(f"{name} needs a Gaussian likelihood; {CLOSED_FORM_ADVICE}")
    return likelihood.gaussian


CLOSED_FORM_ADVICE = (
    "use a SpectralLikelihood with exponent 1 or a GaussianLikelihood, or take Langevin as the conditional sampler"
)
