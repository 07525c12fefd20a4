"""The loss that keeps an off-screen talker apart from the talkers whose lips are seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from avdiff.audio.representation import FrameSTFT
from avdiff.types import OFFSCREEN, SPEAKER, Role

_SMALLEST = 1e-12  # floor of a norm: two silences are not alike, and have no gradient


def _cosine(a: Tensor, b: Tensor, dim: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Cosine of the angle between a and b over `dim` (kept), and its gradient in a."""
    norm_a = a.square().sum(dim, keepdim=True).sqrt().clamp_min(_SMALLEST)
    norm_b = b.square().sum(dim, keepdim=True).sqrt().clamp_min(_SMALLEST)
    unit_a, unit_b = a / norm_a, b / norm_b
    cosine = (unit_a * unit_b).sum(dim, keepdim=True)
    return cosine, (unit_b - cosine * unit_a) / norm_a


class Similarity(ABC):
    """How alike two waveforms are, from 0 to 1. The domain is not known from the paper."""

    @abstractmethod
    def value(self, a: Tensor, b: Tensor) -> Tensor:
        """(..., T) and (..., T) to (...)."""

    @abstractmethod
    def grad(self, a: Tensor, b: Tensor) -> Tensor:
        """Gradient of `value` in a, b held fixed: (..., T)."""


@dataclass(frozen=True)
class WaveformCosine(Similarity):
    """Squared cosine of the two waveforms. Squared, because a signed one would reward a copy in anti-phase."""

    def value(self, a: Tensor, b: Tensor) -> Tensor:
        return _cosine(a, b, (-1,))[0].square().squeeze(-1)

    def grad(self, a: Tensor, b: Tensor) -> Tensor:
        cosine, slope = _cosine(a, b, (-1,))
        return 2 * cosine * slope


@dataclass(frozen=True)
class MagnitudeCosine(Similarity):
    """Cosine of the two magnitude spectrograms; never negative, so it needs no square.

    Attributes:
        n_fft: window of the STFT in samples.
        hop: hop of the STFT in samples.
    """

    n_fft: int = 510
    hop: int = 160

    def value(self, a: Tensor, b: Tensor) -> Tensor:
        stft = FrameSTFT(self.n_fft, self.hop).to(a)
        return _cosine(stft(a).abs(), stft(b).abs(), (-2, -1))[0].squeeze(-1).squeeze(-1)

    def grad(self, a: Tensor, b: Tensor) -> Tensor:
        stft = FrameSTFT(self.n_fft, self.hop).to(a)
        spectrum = stft(a)
        _, slope = _cosine(spectrum.abs(), stft(b).abs(), (-2, -1))
        return stft.adjoint(slope * torch.sgn(spectrum), a.shape[-1])


@dataclass(frozen=True)
class SeparationLoss:
    """lambda * sum_k similarity(s_k, sg(s_off)) over the visible speakers k, for sigma < t_sep (SSNAPS, eq. 18-19).

    Stop-gradient: the off-screen speaker is held fixed, so only speakers with lips are pushed. The paper uses 20 and
    0.25 with two speakers, 5 and 0.14 with three (that 20 and 5 are the weights is inferred: 20 is above t_max).

    Attributes:
        weight: lambda, relative to L of eq. (16).
        t_sep: noise level, in waveform units, below which the loss acts.
        similarity: the domain.
    """

    weight: float = 20.0
    t_sep: float = 0.25
    similarity: Similarity = field(default_factory=WaveformCosine)

    def bind(self, layout: tuple[Role, ...]) -> BoundSeparationLoss | None:
        """The loss for one layout, or None where there is nothing to keep apart.

        Raises:
            ValueError: more than one off-screen speaker.
        """
        hidden = layout.count(OFFSCREEN)
        if hidden > 1:
            raise ValueError(
                f"{hidden} off-screen speakers were asked for, at most one can be separated: without lips nothing "
                "tells their order, so two would share one posterior; give the others a video"
            )
        visible = layout.count(SPEAKER)
        return BoundSeparationLoss(self, visible) if hidden and visible else None


@dataclass(frozen=True)
class BoundSeparationLoss:
    """`SeparationLoss` for sources in the order of the layout: visible speakers, the off-screen one, noise.

    Attributes:
        settings: the loss.
        visible: number of visible speakers; the source after them is the off-screen one.
    """

    settings: SeparationLoss
    visible: int

    def active(self, sigma: float) -> bool:
        """Whether the loss acts at noise level sigma."""
        return sigma < self.settings.t_sep

    def value(self, x: Tensor) -> Tensor:
        """(B, K, T) to (B,)."""
        return self.settings.weight * self.settings.similarity.value(*self._split(x)).sum(-1)

    def grad(self, x: Tensor) -> Tensor:
        """(B, K, T), zero for every source but the visible speakers."""
        out = torch.zeros_like(x)
        out[:, : self.visible] = self.settings.weight * self.settings.similarity.grad(*self._split(x))
        return out

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        seen = x[:, : self.visible]
        return seen, x[:, self.visible : self.visible + 1].expand_as(seen)
