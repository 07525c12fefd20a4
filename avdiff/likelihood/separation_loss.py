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
    """How alike two waveforms are, from 0 (of a whole clip, to 1; frame by frame, to their number). The domain is not known from
    the paper."""

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
class FrameCosine(Similarity):
    """Cosine over frequency of the two spectrograms of |U|^exponent, frame by frame, summed over frames.

    What a cosine similarity along the frequency axis gives. It grows with the length of the clip as the sum over bins of eq. (16)
    does, beside which a cosine of whole clips is lost: 400 frames of 4 s make the paper's weight 20 count 400 times as much.

    Attributes:
        exponent: 1 for magnitudes, 2/3 for those of the compressed likelihood.
        n_fft: window of the STFT in samples.
        hop: hop of the STFT in samples.
        epsilon: share of the off-screen speaker's root mean square magnitude below which a bin is quiet: keeps the slope of a
            compressed magnitude finite.
    """

    exponent: float = 1.0
    n_fft: int = 510
    hop: int = 160
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.exponent <= 1:
            raise ValueError(f"exponent is {self.exponent}; it must lie in (0, 1], where 1 is the plain magnitude")

    def value(self, a: Tensor, b: Tensor) -> Tensor:
        (_, ours, _), (_, theirs, _) = self._magnitudes(a, b)
        return _cosine(ours, theirs, (-2,))[0].sum((-2, -1))

    def grad(self, a: Tensor, b: Tensor) -> Tensor:
        (spectrum, ours, slopes), (_, theirs, _) = self._magnitudes(a, b)
        _, slope = _cosine(ours, theirs, (-2,))
        return FrameSTFT(self.n_fft, self.hop).to(a).adjoint(slope * slopes * spectrum, a.shape[-1])

    def _magnitudes(self, a: Tensor, b: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Of both: U, |U|^exponent, and the slope of that over |U|, smooth at 0."""
        stft, p = FrameSTFT(self.n_fft, self.hop).to(a), self.exponent
        other = stft(b)
        floor = (self.epsilon * other.abs().square().mean((-2, -1), keepdim=True).sqrt()).clamp_min(_SMALLEST).square()
        found = []
        for spectrum in (stft(a), other):
            power = spectrum.real.square() + spectrum.imag.square() + floor
            found.append((spectrum, power ** (p / 2) - floor ** (p / 2), p * power ** (p / 2 - 1)))
        return found


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
