"""What every network preset costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from avdiff.nets.braven import CROP, BRAVEn
from avdiff.nets.count import count_operations, count_parameters
from avdiff.nets.visual import CachedFeatures
from avdiff.priors.edm import EDMPrior
from avdiff.priors.presets import PRESETS
from avdiff.types import VIDEO_FPS


@dataclass(frozen=True)
class ModelRow:
    """One line of `avdiff models`.

    Attributes:
        name: of the preset.
        parameters: all of them, the lip encoder's and adapter's included where they belong to the preset.
        denoiser_operations: of one network evaluation for one 4 s source.
        video_operations: of encoding 4 s of video, once a separation; 0 without video.
        summary: what it is.
    """

    name: str
    parameters: int
    denoiser_operations: int
    video_operations: int
    summary: str


def model_table(seconds: float = 4.0) -> list[ModelRow]:
    """Every preset and the published visual encoder, counted on the meta device: nothing is computed.

    Args:
        seconds: length of the audio and the video.
    """
    frames = round(seconds * VIDEO_FPS)
    rows = []
    with torch.device("meta"), torch.no_grad():
        for name, preset in PRESETS.items():
            prior = preset().eval()
            rows.append(ModelRow(name, count_parameters(prior), *_operations(prior, seconds, frames), summary(preset)))
        braven, crops = BRAVEn(), torch.zeros(1, frames, CROP, CROP, dtype=torch.uint8)
        video = count_operations(lambda: braven(crops))
    rows.append(ModelRow("braven_large", count_parameters(braven), 0, video, summary(BRAVEn)))
    return rows


def _operations(prior: EDMPrior, seconds: float, frames: int) -> tuple[int, int]:
    columns = round(seconds * prior.sample_rate) // prior.stft.hop + 1
    padded = math.ceil(columns / prior.frame_multiple) * prior.frame_multiple
    spectrogram, c_noise = torch.zeros(1, 2, prior.stft.bins, padded), torch.zeros(1)
    if prior.encoder is None:
        return count_operations(lambda: prior.network(spectrogram, c_noise)), 0
    if isinstance(prior.encoder, CachedFeatures):
        visual = torch.zeros(1, frames, prior.encoder.dim)
    else:
        visual = torch.zeros(1, frames, CROP, CROP, dtype=torch.uint8)
    cond = prior.embed(visual).transpose(1, 2)
    forward = count_operations(lambda: prior.network(spectrogram, c_noise, cond))
    return forward, count_operations(lambda: prior.embed(visual))


def summary(described: object) -> str:
    """The first paragraph of a docstring."""
    return " ".join((described.__doc__ or "").strip().split("\n\n")[0].split())
