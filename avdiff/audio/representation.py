"""Spectrograms: the STFT of every model and likelihood here, its inverse, its adjoint, and magnitude compression."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torchaudio import functional as AF


class STFT(nn.Module):
    """Hann-windowed, centred, one-sided short-time Fourier transform without normalisation; the ends are mirrored.

    SSNAPS uses 510 / 160 (256 bins, 100 frames a second) throughout; BUDDy's network 510 / 128.

    Args:
        n_fft: samples of a window, even.
        hop: samples between frames.
    """

    window: Tensor
    pad_mode: ClassVar[str] = "reflect"

    def __init__(self, n_fft: int = 510, hop: int = 160) -> None:
        super().__init__()
        if n_fft % 2 or not 0 < hop <= n_fft // 2:
            raise ValueError(f"n_fft is {n_fft} and hop {hop}; n_fft must be even and hop at most half of it")
        self.n_fft, self.hop, self.bins = n_fft, hop, n_fft // 2 + 1
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    @property
    def energy(self) -> Tensor:
        """Mean |STFT|² of white noise of unit variance."""
        return self.window.square().sum()

    def forward(self, x: Tensor) -> Tensor:
        """(..., T) real -> complex (..., bins, frames), frames = T // hop + 1."""
        window, n, hop = self.window.to(x.dtype), self.n_fft, self.hop
        return AF.spectrogram(x, 0, window, n, hop, n, power=None, normalized=False, pad_mode=self.pad_mode)

    def inverse(self, spectrogram: Tensor, samples: int) -> Tensor:
        """Complex (..., bins, frames) -> (..., samples): the least-squares signal of a spectrogram."""
        window, n, hop = self.window.to(spectrogram.real.dtype), self.n_fft, self.hop
        return AF.inverse_spectrogram(spectrogram, samples, 0, window, n, hop, n, normalized=False)


class FrameSTFT(STFT):
    """A: the same transform with zeros beyond the ends, so that A^T A is close to G times the identity throughout.

    Mirrored ends would count twice in a likelihood: Langevin steps that are stable elsewhere diverge there.
    """

    pad_mode: ClassVar[str] = "constant"

    def adjoint(self, spectrogram: Tensor, samples: int) -> Tensor:
        """A^T Z, (..., bins, frames) -> (..., samples): the transpose in the sense of Re<A x, Z> = <x, A^T Z>."""
        weight = self.window.new_full((self.bins, 1), 0.5 * self.n_fft, dtype=spectrogram.real.dtype)
        weight[0] = weight[-1] = self.n_fft  # irfft counts every inner bin twice, the first and the last once
        frames = torch.fft.irfft(spectrogram * weight, n=self.n_fft, dim=-2).mT
        return self._overlap_add(frames * self.window.to(frames.dtype), samples)

    def gain(self, samples: int) -> float:
        """G, the mean eigenvalue of A^T A over signals of that length: about 307 for 510 / 160."""
        frames = self.window.double().square().expand(samples // self.hop + 1, -1)
        return self.bins * float(self._overlap_add(frames, samples).mean())

    def _overlap_add(self, frames: Tensor, samples: int) -> Tensor:
        """(..., M, n_fft) -> (..., samples), the first frame centred on sample 0."""
        count, parts = frames.shape[-2], -(-self.n_fft // self.hop)
        frames = nn.functional.pad(frames, (0, parts * self.hop - self.n_fft)).unflatten(-1, (parts, self.hop))
        out = frames.new_zeros(*frames.shape[:-3], count + parts - 1, self.hop)
        for part in range(parts):
            out[..., part : part + count, :] += frames[..., part, :]
        start = self.n_fft // 2
        return out.flatten(-2)[..., start : start + samples]


def squared_magnitude(spectrum: Tensor) -> Tensor:
    """|X|² of a complex spectrogram, real, bin by bin; several times faster than abs(), and so is its gradient."""
    return spectrum.real.square() + spectrum.imag.square()


def require_centre(**sizes: int) -> None:
    """Raise ValueError for sizes, by the names of their settings, of neighbourhoods that `local_mean` cannot centre."""
    for name, size in sizes.items():
        if size < 1 or size % 2 == 0:
            raise ValueError(f"{name} is {size}; means have a centre and are taken over an odd number")


def local_mean(x: Tensor, bins: int, frames: int) -> Tensor:
    """Mean of (..., bins, frames) over a neighbourhood of odd size; at the edges, of what there is of it."""
    rows, columns = (
        _sums(torch.ones(length, dtype=x.dtype, device=x.device), size, -1)
        for length, size in zip(x.shape[-2:], (bins, frames), strict=True)
    )
    return _sums(_sums(x, bins, -2), frames, -1) / (rows[:, None] * columns)


def _sums(x: Tensor, size: int, dim: int) -> Tensor:
    """Sums of `size`, odd, neighbours along an axis, with zeros beyond its ends.

    Sums of 1, 2, 4, ... neighbours each come from the ones before, and those that make up `size` are added: log2(size)
    additions of whole arrays, without the cancellation of differences of running sums.
    """
    if size == 1:
        return x
    count = x.shape[dim]
    run = nn.functional.pad(x, (0, 0) * (-1 - dim) + (size // 2, size // 2))
    total, start = run.narrow(dim, 0, count), 1
    for width in (2**doublings for doublings in range(1, size.bit_length())):
        length = run.shape[dim] - width // 2
        run = run.narrow(dim, 0, length) + run.narrow(dim, width // 2, length)
        if size & width:
            total, start = total + run.narrow(dim, start, count), start + width
    return total


class Compressed:
    """S(U) = U (|U|^2 + epsilon^2)^((p-1)/2): |U|^p e^(j angle U), made smooth at U = 0.

    Args:
        spectrum: U, complex.
        exponent: p in (0, 1].
        epsilon: magnitude below which S turns linear; a number or a tensor that broadcasts.
    """

    def __init__(self, spectrum: Tensor, exponent: float, epsilon: Tensor | float) -> None:
        self.spectrum, self.exponent = spectrum, exponent
        self._power = squared_magnitude(spectrum) + epsilon**2
        self._gain = self._power ** (0.5 * (exponent - 1))

    @property
    def value(self) -> Tensor:
        """S(U)."""
        return self.spectrum * self._gain

    def derivative(self, direction: Tensor) -> Tensor:
        """S'(U) R, for real and imaginary parts.

        As a real 2x2 matrix a bin it is symmetric, hence its own transpose: the same expression back-propagates.
        """
        radial = self.spectrum.real * direction.real + self.spectrum.imag * direction.imag
        return self._gain * (direction - (1 - self.exponent) * radial / self._power * self.spectrum)

    @property
    def slopes(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues of S'(U) along U and across it, real."""
        magnitude = squared_magnitude(self.spectrum)
        return self._gain * (1 - (1 - self.exponent) * magnitude / self._power), self._gain

    def along(self, direction: Tensor) -> Tensor:
        """The part of R that points along U, bin by bin; where U is 0, none."""
        radial = self.spectrum.real * direction.real + self.spectrum.imag * direction.imag
        magnitude = squared_magnitude(self.spectrum)
        return radial / magnitude.clamp_min(1e-30) * self.spectrum
