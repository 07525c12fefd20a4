"""The visual mask network as a separator."""

from __future__ import annotations

from torch import Tensor

from avdiff.nets.visual_mask import VisualMask
from avdiff.separators.extraction import ExtractionSeparator


class VisualMaskSeparator(ExtractionSeparator):
    """A mask for each visible talker, whatever their number.

    Args:
        network: that gives it.
        overlap, max_rows: see `ExtractionSeparator`.
    """

    evaluations = 1

    def __init__(self, network: VisualMask, overlap: int = 16_000, max_rows: int = 32) -> None:
        super().__init__(network.window, overlap, max_rows)
        self.network = network

    def extract(self, talkers: int, mixture: Tensor, visual: Tensor, seen: Tensor) -> Tensor:
        return self.network.extract(mixture, visual, seen)
