"""Levels of estimates that have none: those at which their sum comes nearest to the mixture."""

from __future__ import annotations

import torch
from torch import Tensor


def fit_gains(estimates: Tensor, mixture: Tensor, sweeps: int = 200) -> Tensor:
    """argmin over g >= 0 of |y - sum_k g_k s_k|², by coordinate descent. Silent estimates get 0.

    What systems trained with a scale-invariant loss leave open. Each estimate alone on the mixture would be too loud by what it
    has of the others.

    Args:
        estimates: (..., K, T).
        mixture: (..., T).
        sweeps: over all K.

    Returns:
        (..., K).
    """
    s, y = estimates.double(), mixture.double()
    norm = s.square().sum(-1).sqrt()
    s = s / norm.clamp_min(1e-30)[..., None]
    gram, match = s @ s.mT, (s @ y[..., None])[..., 0]
    g = torch.zeros_like(match)
    for _ in range(sweeps):
        for k in range(s.shape[-2]):
            others = (gram[..., k, :] * g).sum(-1) - gram[..., k, k] * g[..., k]
            g[..., k] = (match[..., k] - others).clamp_min(0)
    return torch.where(norm > 0, g / norm.clamp_min(1e-30), 0.0).to(estimates.dtype)
