"""What every supervised system costs."""

from __future__ import annotations

import torch

from avdiff.nets.braven import CROP
from avdiff.nets.count import count_operations, count_parameters
from avdiff.nets.flowavse import FlowAVSE
from avdiff.nets.ravss import RAVSS
from avdiff.nets.visual import CachedFeatures, VisualEncoder
from avdiff.priors.table import ModelRow, summary
from avdiff.separators.presets import PRESETS, System
from avdiff.types import SAMPLE_RATE, VIDEO_FPS


def system_table(seconds: float = 4.0) -> list[ModelRow]:
    """Every preset, counted on the meta device: nothing is computed. Operations are those of one talker; RAVSS's, of a mixture of
    two talkers and noise.

    Args:
        seconds: length of the audio and the video.
    """
    rows = []
    with torch.device("meta"), torch.no_grad():
        for name, preset in PRESETS.items():
            system = preset().eval().requires_grad_(False)
            rows.append(ModelRow(name, count_parameters(system), *_operations(system, seconds), summary(preset)))
    return rows


def _video(encoder: VisualEncoder, talkers: int, seconds: float) -> torch.Tensor:
    frames = round(seconds * VIDEO_FPS)
    if isinstance(encoder, CachedFeatures):
        return torch.zeros(talkers, frames, encoder.dim)
    return torch.zeros(talkers, frames, CROP, CROP, dtype=torch.uint8)


def _operations(system: System, seconds: float) -> tuple[int, int]:
    """All but the video's, and the video's."""
    samples = round(seconds * SAMPLE_RATE)
    if isinstance(system, RAVSS):
        visual = _video(system.encoder, 2, seconds)
        mixture, seen = torch.zeros(1, samples), torch.ones(1, 2, visual.shape[1], dtype=torch.bool)
        video = count_operations(lambda: system.embed(visual[None], seen))
        return count_operations(lambda: system(mixture, visual[None], seen)) - video, video
    visual = _video(system.encoder, 1, seconds)
    seen = torch.ones(1, visual.shape[1], dtype=torch.bool)
    if isinstance(system, FlowAVSE):
        frames = samples // system.stft.hop + 1
        frames += -frames % system.frame_multiple
        planes, time = torch.zeros(1, 2, system.stft.bins, frames), torch.ones(1)
        first, second = system.embed(visual, seen, frames)
        stages = count_operations(lambda: system.predictor(planes, first))
        stages += count_operations(lambda: system.flow(planes, planes, second, time))
        return stages, count_operations(lambda: system.embed(visual, seen, frames))
    spectrum = torch.zeros(1, system.stft.bins, samples // system.stft.hop + 1, dtype=torch.complex64)
    video = count_operations(lambda: system.encoder(visual))
    return count_operations(lambda: system.mask(spectrum, visual, seen)) - video, video
