"""Spectrograms: the STFT of every model and likelihood here, its inverse and its adjoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class STFT(nn.Module):
    """Hann-windowed, centred, one-sided short-time Fourier transform without normalisation.

    SSNAPS uses 510 / 160 (256 bins, 100 frames a second) throughout; BUDDy's network 510 / 128.

    Args:
        n_fft: samples of a window.
        hop: samples between frames.
    """

    window: Tensor

    def __init__(self, n_fft: int = 510, hop: int = 160) -> None:
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, T) -> complex (N, bins, frames), frames = T // hop + 1."""
        return torch.stft(
            x, self.n_fft, self.hop, window=self.window.to(x.dtype), center=True, pad_mode="reflect", return_complex=True
        )

    def inverse(self, spectrogram: Tensor, samples: int) -> Tensor:
        """Complex (N, bins, frames) -> (N, samples): the least-squares signal of a spectrogram."""
        return torch.istft(
            spectrogram, self.n_fft, self.hop, window=self.window.to(spectrogram.real.dtype), center=True, length=samples
        )
