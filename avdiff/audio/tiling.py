"""Cutting a long signal into overlapping windows, and cross-fading them back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.types import SAMPLES_PER_FRAME


@dataclass(frozen=True)
class Tiling:
    """Equal windows that cover a length, each starting on a video frame, spread as evenly as they can be.

    Attributes:
        length: samples of the signal.
        window: samples of a window, a multiple of 640.
        starts: first sample of each window.
    """

    length: int
    window: int
    starts: tuple[int, ...]

    @classmethod
    def cover(cls, length: int, window: int, overlap: int) -> Tiling:
        """Tile `length` samples by windows that overlap by at least `overlap` samples."""
        if window % SAMPLES_PER_FRAME or not 0 < overlap < window:
            raise ValueError(
                f"window {window} must be a multiple of {SAMPLES_PER_FRAME} and overlap {overlap} smaller than it"
            )
        if length <= window:
            return cls(length, window, (0,))
        last = -(-(length - window) // SAMPLES_PER_FRAME)  # frames, so that the last window reaches the end
        stride = (window - overlap) // SAMPLES_PER_FRAME
        count = -(-last // stride) + 1
        return cls(length, window, tuple(round(i * last / (count - 1)) * SAMPLES_PER_FRAME for i in range(count)))

    @property
    def padded(self) -> int:
        """Samples that the windows cover: at least `length`."""
        return self.starts[-1] + self.window if len(self.starts) > 1 else self.length

    def cut(self, x: Tensor) -> Tensor:
        """(N, length) -> (N, windows, window), zero-padded at the end."""
        if len(self.starts) == 1:
            return x.unsqueeze(1)
        x = torch.nn.functional.pad(x, (0, self.padded - self.length))
        return torch.stack([x[:, start : start + self.window] for start in self.starts], dim=1)

    def cut_frames(self, x: Tensor) -> Tensor:
        """(N, F, D) at 25 fps -> (N, windows, window / 640, D), the last frame repeated where video ends early."""
        if len(self.starts) == 1:
            return x.unsqueeze(1)
        frames, wanted = self.window // SAMPLES_PER_FRAME, self.padded // SAMPLES_PER_FRAME
        if x.shape[1] < wanted:
            x = torch.cat([x, x[:, -1:].expand(-1, wanted - x.shape[1], -1)], dim=1)
        firsts = [start // SAMPLES_PER_FRAME for start in self.starts]
        return torch.stack([x[:, first : first + frames] for first in firsts], dim=1)

    def cut_map(self, x: Tensor, hop: int) -> Tensor:
        """Values of a centred STFT, (N, bins, length // hop + 1) -> (N, windows, bins, window // hop + 1).

        The last frame is repeated beyond the end. Windows must start on frames: `hop` divides 640.
        """
        if len(self.starts) == 1:
            return x.unsqueeze(1)
        wanted = self.padded // hop + 1
        x = torch.cat([x, x[..., -1:].expand(*x.shape[:-1], wanted - x.shape[-1])], dim=-1)
        frames = self.window // hop + 1
        return torch.stack([x[..., start // hop : start // hop + frames] for start in self.starts], dim=1)

    def join(self, windows: Tensor) -> Tensor:
        """(N, windows, window) -> (N, length), linear cross-fades over every overlap; undoes `cut`."""
        return self._join(windows, self.starts)[..., : self.length]

    def join_map(self, windows: Tensor, hop: int) -> Tensor:
        """(N, windows, bins, window // hop + 1) -> (N, bins, length // hop + 1), cross-faded; undoes `cut_map`."""
        starts = tuple(start // hop for start in self.starts)
        return self._join(windows, starts)[..., : self.length // hop + 1]

    def _join(self, windows: Tensor, starts: tuple[int, ...]) -> Tensor:
        """(N, windows, ..., W) -> (N, ..., starts[-1] + W)."""
        if len(starts) == 1:
            return windows[:, 0]
        size = windows.shape[-1]
        ramp = torch.arange(1, size + 1, device=windows.device, dtype=windows.dtype)
        weights = []
        for i, start in enumerate(starts):
            weight = torch.ones_like(ramp)
            if i:
                weight = torch.minimum(weight, ramp / (starts[i - 1] + size - start + 1))
            if i + 1 < len(starts):
                weight = torch.minimum(weight, ramp.flip(0) / (start + size - starts[i + 1] + 1))
            weights.append(weight)
        out = windows.new_zeros(windows.shape[0], *windows.shape[2:-1], starts[-1] + size)
        total = windows.new_zeros(starts[-1] + size)
        for i, (start, weight) in enumerate(zip(starts, weights, strict=True)):
            out[..., start : start + size] += weight * windows[:, i]
            total[start : start + size] += weight
        return out / total
