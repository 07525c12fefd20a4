"""Visual front ends: mouth crops in, one feature vector a video frame out."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn


class VisualEncoder(nn.Module, ABC):
    """Lips to features.

    Attributes:
        dim: size of a feature vector.
    """

    dim: int

    @abstractmethod
    def forward(self, crops: Tensor) -> Tensor:
        """(N, F, 96, 96) uint8 grey mouth crops at 25 fps -> (N, F, dim)."""
