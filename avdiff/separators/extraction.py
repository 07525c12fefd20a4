"""Systems that take one talker out of a mixture, by their lips: talker by talker, in one batch. What is left is the rest."""

from __future__ import annotations

import time
from abc import abstractmethod

import torch
from torch import Tensor

from avdiff.audio.tiling import Tiling
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.separators.base import Separator, separation
from avdiff.types import NOISE, SAMPLE_RATE, SPEAKER, Observation, Separation, source_names


class ExtractionSeparator(Separator):
    """Every visible talker is extracted; the residual, y less their sum, is all else.

    The network gives no noise and no talker who is not seen. Their estimate is the residual, in equal parts where there are
    several: nothing tells them apart. `info["residual"]` names these sources.

    Args:
        window: samples that the network is run on; a longer mixture is cut into windows of it.
        overlap: samples over which neighbouring windows are cross-faded.
        max_rows: most windows in one call, to bound memory.
    """

    evaluations: int  # of a network, a source

    def __init__(self, window: int = 64_000, overlap: int = 16_000, max_rows: int = 32) -> None:
        super().__init__()
        self.window, self.overlap, self.max_rows = window, overlap, max_rows

    @abstractmethod
    def extract(self, talkers: int, mixture: Tensor, visual: Tensor, seen: Tensor) -> Tensor:
        """The talker of each row.

        Args:
            talkers: in the mixture, seen or not.
            mixture: (N, T).
            visual: (N, F, ...).
            seen: (N, F) bool.

        Returns:
            (N, T) at the level of the mixture; silence for silence.
        """

    @torch.no_grad()
    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        started = time.perf_counter()
        observation.require_rate(SAMPLE_RATE)
        layout, mixture = observation.layout, observation.mixture
        visible = layout.count(SPEAKER)
        others = len(layout) - visible
        found = self._talkers(observation, visible) if visible else mixture.new_zeros(len(mixture), 0, mixture.shape[1])
        rest = mixture - found.sum(1)
        sources = torch.cat([found, rest[:, None].expand(-1, others, -1) / max(others, 1)], dim=1)
        info = {
            "evaluations": self.evaluations,
            "residual": source_names(layout)[visible:],
            "seconds": time.perf_counter() - started,
        }
        return separation(observation, sources, info)

    def _talkers(self, observation: Observation, visible: int) -> Tensor:
        """(B, visible, T)."""
        mixture, visual, seen = observation.mixture, observation.visual, observation.visual_mask
        assert visual is not None
        seen = visual.new_ones(visual.shape[:3], dtype=torch.bool) if seen is None else seen
        tiling = Tiling.cover(mixture.shape[1], self.window, self.overlap)
        heard = tiling.cut(mixture.repeat_interleave(visible, 0)).flatten(0, 1)
        lips, known = cut_lips(tiling, visual.flatten(0, 1), seen.flatten(0, 1))
        talkers = len(observation.layout) - observation.layout.count(NOISE)
        parts = [
            self.extract(talkers, *(rows[start : start + self.max_rows] for rows in (heard, lips, known)))
            for start in range(0, len(heard), self.max_rows)
        ]
        found = torch.cat(parts).unflatten(0, (-1, len(tiling.starts)))
        return tiling.join(found).unflatten(0, (-1, visible))


def cut_lips(tiling: Tiling, visual: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Video (N, F, ...) and (N, F) in the windows of a tiling: (N * windows, F', ...) and (N * windows, F')."""
    frames = tiling.cut_frames(visual.flatten(2)).flatten(0, 1)
    return frames.unflatten(2, visual.shape[2:]), tiling.cut_frames(seen[..., None]).flatten(0, 1)[..., 0]
