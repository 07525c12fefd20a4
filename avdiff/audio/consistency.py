"""Mixture consistency: what separates a method's estimates from their mixture is shared out, so that they add up.

With residual r = y - sum_k s_k, source k receives r * p_k / sum_j p_j. Wisdom et al. (arXiv 1811.08521) take p equal or
the source's energy; here p_k is the source's power around each sample, so that a talker who is silent stays silent.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def make_consistent(sources: Tensor, mixture: Tensor, window: int = 512) -> Tensor:
    """Change estimates as little as makes them add up to the mixture.

    Args:
        sources: (..., K, T) estimates, the noise last; at least one.
        mixture: (..., T).
        window: samples over which a source's power is averaged. No paper says: 32 ms at 16 kHz, about a phoneme's half.

    Returns:
        (..., K, T) whose sum over K is `mixture` to rounding. Where every estimate is zero the last one takes all.
    """
    residual = mixture.unsqueeze(-2) - sources.sum(-2, keepdim=True)
    squares = sources.square().flatten(0, -2).unsqueeze(1)
    power = F.avg_pool1d(squares, 2 * (window // 2) + 1, 1, window // 2, count_include_pad=False)
    power = power.squeeze(1).view_as(sources)
    floor = torch.zeros_like(power)
    floor[..., -1, :] = torch.finfo(power.dtype).tiny
    power = power + floor
    return sources + residual * (power / power.sum(-2, keepdim=True))
