"""A denoiser of any length out of one that was trained on a few seconds."""

from __future__ import annotations

import torch
from torch import Tensor

from avdiff.audio.tiling import Tiling
from avdiff.priors.base import DiffusionPrior


def tiled_denoise(
    prior: DiffusionPrior, x: Tensor, sigma: Tensor, cond: Tensor | None, overlap: int, max_rows: int
) -> Tensor:
    """`prior.denoise` on overlapping windows in one batch, cross-faded.

    The sampler then runs once over the whole stretch, so that no speaker can swap at a window's border.

    Args:
        x: (N, T).
        sigma: (N,).
        cond: (N, F, D) or None.
        overlap: least overlap of two windows, in samples.
        max_rows: most windows in one network call, to bound memory.

    Returns:
        (N, T).
    """
    count, length = x.shape
    tiling = Tiling.cover(length, prior.window or length, overlap) if _long(prior, length) else None
    rows = x if tiling is None else tiling.cut(x).flatten(0, 1)
    windows = rows.shape[0] // count
    sigmas = sigma.repeat_interleave(windows)
    if cond is not None and tiling is not None:
        cond = tiling.cut_frames(cond).flatten(0, 1)
    parts = [
        prior.denoise(
            rows[i : i + max_rows], sigmas[i : i + max_rows], None if cond is None else cond[i : i + max_rows]
        )
        for i in range(0, rows.shape[0], max_rows)
    ]
    clean = parts[0] if len(parts) == 1 else torch.cat(parts)
    return clean if tiling is None else tiling.join(clean.unflatten(0, (count, windows)))


def _long(prior: DiffusionPrior, length: int) -> bool:
    return prior.window is not None and length > prior.window
