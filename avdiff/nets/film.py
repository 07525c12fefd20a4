"""FiLM: a feature sequence that scales and shifts feature maps (Perez et al., arXiv 1709.07871)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


def resample_time(features: Tensor, steps: int) -> Tensor:
    """(N, D, F) -> (N, D, steps): repeated where time is finer than video, averaged where it is coarser."""
    if steps >= features.shape[-1]:
        return F.interpolate(features, size=steps, mode="nearest")
    return F.adaptive_avg_pool1d(features, steps)


class FiLM(nn.Module):
    """h <- (1 + gamma(v)) h + beta(v), one (gamma, beta) a channel and time step, broadcast over frequency.

    Zero-initialised: a new network does not see the video at all.

    Args:
        dim: size of a conditioning vector.
        channels: of the feature map.
    """

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.project = nn.Conv1d(dim, 2 * channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor, cond: Tensor) -> Tensor:
        """h (N, C, H, W), cond (N, D, F) -> (N, C, H, W)."""
        gamma, beta = resample_time(self.project(cond), h.shape[-1]).unsqueeze(2).chunk(2, dim=1)
        return h * (1 + gamma) + beta
