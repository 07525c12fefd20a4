"""Sums of neighbouring frames in phase: what longer windows would show of a spectrogram, at its own bins and frames."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CoherentSums(nn.Module):
    """Several linear views of a spectrogram, each bin the windowed sum of frames around it, turned into phase.

    A sinusoid of frequency f advances by 2 pi f hop from frame to frame. View (m, d) turns the m frames to each side of a
    frame back by the advance of a sinusoid at bin k + d and adds them up under a Hann window, which is, but for a constant,
    the STFT with a window of about n_fft + m hop samples. A stationary partial near that frequency adds up in phase, noise
    does not. Convolutions with weights shared by all bins cannot do this: the advance differs from bin to bin. The filters
    of a network on such views are deep filters (Mack and Habets, "Deep Filtering", IEEE SPL 2020). Ours.

    Args:
        views: (m, d) of each: frames to each side, and offset of the frequency in bins.
        bins, n_fft, hop: of the spectrogram.
    """

    weights: Tensor

    def __init__(self, views: Sequence[tuple[int, float]], bins: int = 256, n_fft: int = 510, hop: int = 160) -> None:
        super().__init__()
        self.views, self.reach = tuple((int(m), float(d)) for m, d in views), max(int(m) for m, _ in views)
        with torch.device("cpu"):  # it looks at values, which a meta device has not
            frame = torch.arange(-self.reach, self.reach + 1, dtype=torch.float64)
            bin_ = torch.arange(bins, dtype=torch.float64)[:, None]
            columns = []
            for m, d in self.views:
                window = (0.5 + 0.5 * torch.cos(math.pi * frame / (m + 1))).where(frame.abs() <= m, torch.zeros(()))
                window = window / window.square().sum().sqrt()
                advance = 2 * math.pi * (bin_ + d) / n_fft * hop * frame
                real, imag = window * advance.cos(), -window * advance.sin()
                # (bins, 2 planes, frames) for the real and for the imaginary part of the sum
                columns += [torch.stack([real, -imag], 1), torch.stack([imag, real], 1)]
            weights = torch.stack(columns, -1).flatten(1, 2).float()  # (bins, 2 * frames, 2 * views)
        self.register_buffer("weights", weights.to(torch.empty(0).device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2, bins, frames), real and imaginary part -> (N, views, 2, bins, frames), silent beyond the ends."""
        count, _, bins, frames = x.shape
        near = F.pad(x.to(self.weights.dtype), (self.reach, self.reach)).unfold(-1, frames, 1)
        near = near.permute(2, 0, 4, 1, 3).reshape(bins, count * frames, -1)
        sums = torch.bmm(near, self.weights).view(bins, count, frames, len(self.views), 2)
        return sums.permute(1, 3, 4, 0, 2)
