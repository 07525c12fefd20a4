"""A prior that goes wrong for one clip of a batch."""

from __future__ import annotations

import torch
from torch import Tensor

from avdiff.priors.gaussian import GaussianPrior


class FragilePrior(GaussianPrior):
    """White noise, and infinity for every state that belongs to the first clip of the toy list.

    Args:
        std: in waveform units.
        samples: length of a clip.
    """

    def __init__(self, std: float, samples: int) -> None:
        super().__init__(std)
        self.samples = samples
        self.victim: Tensor | None = None

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor | None = None) -> Tensor:
        clean = super().denoise(x, sigma, cond)
        if self.victim is None:  # the first evaluation of a run is that of a batch which begins with the first clip
            self.victim = x[0].clone()
            clean[0] = torch.inf
        return clean
