"""A denoiser of any length out of one that was trained on a few seconds."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from avdiff.audio.representation import STFT
from avdiff.audio.tiling import Tiling
from avdiff.priors.base import DiffusionPrior
from avdiff.types import SAMPLES_PER_FRAME


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
    tiling = _tiling(prior, x, overlap)
    parts = [
        prior.denoise(*rows) for rows in _rows(tiling, x, sigma.repeat_interleave(len(tiling.starts)), cond, max_rows)
    ]
    return tiling.join(torch.cat(parts).unflatten(0, (len(x), -1)))


def tiled_estimate(
    prior: DiffusionPrior, x: Tensor, sigma: Tensor, cond: Tensor | None, overlap: int, max_rows: int
) -> tuple[Tensor, Tensor]:
    """`prior.estimate` in the same way.

    Args:
        sigma: (N, bins, frames).

    Returns:
        (N, T) and (N, bins, frames).
    """
    tiling = _tiling(prior, x, overlap)
    hop = STFT().hop
    maps = tiling.cut_map(sigma, hop).flatten(0, 1)
    parts = [prior.estimate(*rows) for rows in _rows(tiling, x, maps, cond, max_rows)]
    means, variances = (torch.cat(part).unflatten(0, (len(x), -1)) for part in zip(*parts, strict=True))
    return tiling.join(means), tiling.join_map(variances, hop)


def _tiling(prior: DiffusionPrior, x: Tensor, overlap: int) -> Tiling:
    length = x.shape[1]
    if prior.window is None or length <= prior.window:
        return Tiling(length, length, (0,))
    return Tiling.cover(length, prior.window // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME, overlap)


def _rows(
    tiling: Tiling, x: Tensor, sigma: Tensor, cond: Tensor | None, max_rows: int
) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Windows and what belongs to them, at most `max_rows` at a time."""
    rows = tiling.cut(x).flatten(0, 1)
    conds = None if cond is None else tiling.cut_frames(cond).flatten(0, 1)
    for i in range(0, len(rows), max_rows):
        some = slice(i, i + max_rows)
        yield rows[some], sigma[some], None if conds is None else conds[some]
