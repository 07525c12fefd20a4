"""FlowAVSE as a separator: a network for each number of talkers, talkers extracted one by one (as SSNAPS compares with it)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from avdiff.nets.flowavse import FlowAVSE
from avdiff.separators.extraction import ExtractionSeparator


class FlowAVSESeparator(ExtractionSeparator):
    """FlowAVSE (arXiv 2406.09286). The paper draws 1e-4 of noise at the start; here nothing is drawn.

    Args:
        networks: by number of talkers in the mixtures they were trained on. The largest number that does not exceed the
            mixture's is used, else the smallest.
        steps: of Euler; the paper takes one.
        overlap, max_rows: see `ExtractionSeparator`.
    """

    def __init__(
        self, networks: Mapping[int, FlowAVSE], steps: int = 1, overlap: int = 16_000, max_rows: int = 32
    ) -> None:
        if not networks:
            raise ValueError("networks is empty; give at least one, by number of talkers")
        super().__init__(min(network.window for network in networks.values()), overlap, max_rows)
        self.networks = nn.ModuleDict({str(talkers): network for talkers, network in networks.items()})
        self.steps, self.evaluations = steps, 1 + steps

    def network(self, talkers: int) -> FlowAVSE:
        """For a mixture of so many."""
        trained = sorted(map(int, self.networks))
        chosen = max((count for count in trained if count <= talkers), default=trained[0])
        return self.networks[str(chosen)]  # type: ignore[return-value]

    def extract(self, talkers: int, mixture: Tensor, visual: Tensor, seen: Tensor) -> Tensor:
        return self.network(talkers).extract(mixture, visual, seen, self.steps)
