"""What a prior promises, and the product of priors that a sampler sees."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn


class DiffusionPrior(nn.Module, ABC):
    """p(x) known through its minimum mean square error denoiser, E[x0 | x0 + sigma n = x, cond].

    The same call trains and samples. Tweedie's formula turns it into a score: (D(x; sigma) - x) / sigma^2
    (SSNAPS, eq. 4).

    Attributes:
        sigma_data: standard deviation of the data that the prior was trained on, in waveform units. Mixtures are
            scaled to it before sampling.
        sample_rate: Hz.
        window: length in samples that the prior was trained on, or None if it takes any length.
        conditional: whether it takes video, i.e. has `embed` and `null`.
        local: whether it takes noise whose level differs from bin to bin and says how sure it is, i.e. has `estimate`.
        oracle: whether it is told the sources themselves, i.e. has `reveal`. No such prior is part of a method.
    """

    sigma_data: float
    sample_rate: int
    window: int | None = None
    conditional: bool = False
    local: bool = False
    oracle: bool = False

    @property
    def evaluated(self) -> nn.Module | None:
        """The network that runs once an evaluation: what is compiled and timed. None for a prior without one."""
        return None

    @abstractmethod
    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        """E[x0 | x, sigma, cond].

        Args:
            x: (N, T) noisy waveforms.
            sigma: (N,) noise standard deviations in waveform units, > 0.
            cond: (N, F, D) from `embed` or `null`, or None for a prior without video.

        Returns:
            (N, T).
        """

    def estimate(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean of p(x0 | x0 + n = x, cond) and the variance of its error, for Gaussian n of a level of its own in every bin.

        Bins are those of a centred STFT, 510 / 160 Hann; levels those of white noise with as much energy there.

        Args:
            x: (N, T).
            sigma: (N, bins, frames) deviation of n, > 0.
            cond: (N, F, D) or None.

        Returns:
            (N, T) and (N, bins, frames).
        """
        raise NotImplementedError(f"{type(self).__name__} takes white noise only")

    def deviation(self, samples: int, cond: Tensor | None = None) -> Tensor | None:
        """Deviation of the data in each bin of a centred STFT, given what is seen; None where the prior cannot say.

        Args:
            samples: T.
            cond: (N, F, D) or None.

        Returns:
            (N or 1, bins, frames) in waveform units: that of white noise with as much energy in the bin.
        """
        return None

    def reveal(self, sources: Tensor) -> Tensor:
        """The condition of a prior that is told the truth, once a separation.

        Args:
            sources: (N, T) the sources themselves, at the level of the prior's data.

        Returns:
            (N, F, D).
        """
        raise NotImplementedError(f"{type(self).__name__} is not told the sources")


class ConditionalDiffusionPrior(DiffusionPrior):
    """p(x | v): a diffusion prior that also takes video, and can do without it (a learned null feature)."""

    conditional: bool = True

    @abstractmethod
    def embed(self, visual: Tensor, mask: Tensor | None = None) -> Tensor:
        """Video to conditioning, once a separation.

        Args:
            visual: (N, F, ...) the visual input of this prior, 25 fps.
            mask: (N, F) bool, True where the face was seen; other frames get the null feature.

        Returns:
            (N, F, D).
        """

    @abstractmethod
    def null(self, count: int, frames: int) -> Tensor:
        """(count, frames, D): the condition of a talker who is not seen."""


class BoundPrior(Protocol):
    """A product of priors tied to one observation: all that a sampler knows of them. No sampler changes it."""

    @property
    def sigma_data(self) -> float:
        """Std of the data in waveform units."""
        ...

    @property
    def noise(self) -> Tensor:
        """(K,) bool: the sources that are noise. All others are voices."""
        ...

    @property
    def evaluations(self) -> int:
        """Network evaluations so far, a source: both guidance branches count (SSNAPS, Table VII)."""
        ...

    def denoise(self, x: Tensor, sigma: float) -> Tensor:
        """(B, K, T) -> (B, K, T): every source's denoiser at one noise level."""
        ...

    def estimate(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Every source's mean and variance in noise of its own level in every bin; see `DiffusionPrior.estimate`. No guidance.

        Args:
            x: (B, K, T).
            sigma: (B, K, bins, frames).

        Returns:
            (B, K, T) and (B, K, bins, frames).

        Raises:
            UserError: a prior takes white noise only.
        """
        ...

    def deviation(self, samples: int) -> Tensor | None:
        """Deviation of each source in each bin before the mixture is heard, or None where a prior cannot say.

        Returns:
            (B, K, bins, frames) in waveform units: that of white noise with as much energy in the bin.
        """
        ...

    def rescaled(self, gains: Tensor) -> BoundPrior:
        """The product of priors by which every source is that much louder: factors of amplitudes, (B, K).

        Its evaluations are counted with those of this one.
        """
        ...
