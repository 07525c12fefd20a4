"""RAVSS as a separator: talkers who are seen, talkers who are not, and noise, by one network at once."""

from __future__ import annotations

import time

import torch
from torch import Tensor

from avdiff.audio.levels import fit_gains
from avdiff.audio.tiling import Tiling
from avdiff.nets.ravss import RAVSS
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback
from avdiff.separators.base import Separator, separation
from avdiff.separators.extraction import cut_lips
from avdiff.types import NOISE, OFFSCREEN, SAMPLE_RATE, SPEAKER, Observation, Separation


class RAVSSSeparator(Separator):
    """RAVSS (arXiv 2407.19224), noise being one more source without a cue (as SSNAPS compares with it).

    Its loss sees neither levels nor signs. They are restored in each window: every source is turned so that it correlates
    with the mixture, then all get the gains, none negative, with which they add up to it as nearly as they can. A talker whose
    mouth is not seen in a window counts there as one without video.

    Args:
        network: RAVSS.
        overlap: samples over which neighbouring windows are cross-faded.
    """

    def __init__(self, network: RAVSS, overlap: int = 16_000) -> None:
        super().__init__()
        self.network, self.overlap = network, overlap

    @torch.no_grad()
    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        started = time.perf_counter()
        observation.require_rate(SAMPLE_RATE)
        layout, mixture, visual = observation.layout, observation.mixture, observation.visual
        visible, clips = layout.count(SPEAKER), len(mixture)
        tiling = Tiling.cover(mixture.shape[1], self.network.window, self.overlap)
        windows = len(tiling.starts)
        heard = tiling.cut(mixture).flatten(0, 1)
        lips = seen = None
        if visible:
            assert visual is not None
            seen = observation.visual_mask
            seen = visual.new_ones(visual.shape[:3], dtype=torch.bool) if seen is None else seen
            lips, seen = cut_lips(tiling, visual.flatten(0, 1), seen.flatten(0, 1))
            lips, seen = (
                part.unflatten(0, (clips, visible, windows)).transpose(1, 2).flatten(0, 1) for part in (lips, seen)
            )
        found = self._windows(heard, lips, seen, layout.count(OFFSCREEN), layout.count(NOISE))
        found = found.unflatten(0, (clips, windows)).transpose(1, 2).flatten(0, 1)
        sources = tiling.join(found).unflatten(0, (clips, len(layout)))
        info = {"evaluations": 1, "seconds": time.perf_counter() - started}
        return separation(observation, sources, info)

    def _windows(self, heard: Tensor, lips: Tensor | None, seen: Tensor | None, hidden: int, noises: int) -> Tensor:
        """(N, T), (N, P, F, ...) and (N, P, F) -> (N, P + hidden + noises, T) at the level of the mixture."""
        visible = 0 if lips is None else lips.shape[1]
        out = heard.new_zeros(len(heard), visible + hidden + noises, heard.shape[1])
        cued = torch.ones(len(heard), 0, dtype=torch.bool) if seen is None else seen.any(2).cpu()
        rms = heard.square().mean(-1, keepdim=True).sqrt()
        scaled = torch.where(rms > 0, heard / rms.clamp_min(1e-12), 0.0)
        for pattern in torch.unique(cued, dim=0) if visible else cued[:1]:
            rows = (cued == pattern).all(1).nonzero()[:, 0].to(heard.device)
            here, gone = (part.nonzero()[:, 0].to(heard.device) for part in (pattern, ~pattern))
            shown = None if lips is None or not len(here) else lips[rows][:, here]
            known = None if seen is None or not len(here) else seen[rows][:, here]
            found = self.network(scaled[rows], shown, known, hidden + len(gone), bool(noises))
            against = (found * heard[rows, None]).sum(-1, keepdim=True) < 0
            found = torch.where(against, -found, found)
            rest = torch.arange(visible, visible + hidden + noises, device=heard.device)
            order = torch.cat([here, gone, rest])
            out[rows[:, None], order[None]] = found * fit_gains(found, heard[rows])[..., None]
        return out
