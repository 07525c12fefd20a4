"""What a set of clips sounds like, in numbers: level, long-term spectrum, pitch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from avdiff.audio.representation import STFT, squared_magnitude
from avdiff.extras import lazy

librosa = lazy("librosa")

#: edges of the bands of the long-term spectrum, Hz: an octave each from 125 Hz on
BANDS = (0, 125, 250, 500, 1000, 2000, 4000, 8000)
_PITCH = (60.0, 400.0)  # Hz


@dataclass(frozen=True)
class ClipStatistics:
    """Of one clip.

    Attributes:
        level: root mean square in dB relative to 1.
        bands: share of the power in each of BANDS, dB.
        pitch: of the voiced frames, Hz, (F,).
        voiced: share of the frames that have a pitch.
    """

    level: float
    bands: tuple[float, ...]
    pitch: np.ndarray
    voiced: float


def describe(clip: Tensor, rate: int, pitch: bool = True) -> ClipStatistics:
    """Statistics of (T,). Pitch is found by pYIN (Mauch and Dixon, ICASSP 2014) between 60 and 400 Hz.

    Args:
        clip: (T,).
        rate: Hz, 16000 or more.
        pitch: whether to look for it; else there is none.
    """
    power = squared_magnitude(STFT()(clip.float())).mean(-1)
    hertz = torch.linspace(0, rate / 2, len(power))
    shares = [power[(hertz >= low) & (hertz < high)].sum() for low, high in pairwise(BANDS)]
    total = power.sum().clamp_min(1e-20)
    bands = tuple(float(10 * torch.log10((share / total).clamp_min(1e-9))) for share in shares)
    level = float(20 * torch.log10(clip.square().mean().sqrt().clamp_min(1e-9)))
    if not pitch:
        return ClipStatistics(level, bands, np.zeros(0), 0.0)
    found, voiced, _ = librosa.pyin(clip.double().numpy(), fmin=_PITCH[0], fmax=_PITCH[1], sr=rate, frame_length=1024)
    return ClipStatistics(level, bands, found[voiced], float(voiced.mean()))


def envelope_correlation(a: Tensor, b: Tensor, frame: int = 640) -> float:
    """Correlation of the loudness (log power of every `frame` samples, silence at -50 dB) of two clips (T,), -1 to 1."""

    def loudness(x: Tensor) -> Tensor:
        power = x[: len(x) // frame * frame].unflatten(0, (-1, frame)).square().mean(-1)
        return (power / power.mean().clamp_min(1e-20) + 1e-5).log10()

    return float(torch.corrcoef(torch.stack([loudness(a), loudness(b)]))[0, 1])


def summary(clips: Sequence[ClipStatistics], audio: Tensor, spoken: Tensor | None = None) -> dict[str, float]:
    """Figures of a set, by what they are called in a table.

    Args:
        clips: statistics of each.
        audio: the clips, (N, T).
        spoken: (N, T), what was said by the lips that they were made for, in the same order.
    """
    levels = np.array([clip.level for clip in clips])
    bands = np.array([clip.bands for clip in clips]).mean(axis=0)
    out = {"level, dB": levels.mean(), "its deviation, dB": levels.std()}
    for (low, high), share in zip(pairwise(BANDS), bands, strict=True):
        out[f"{low}-{high} Hz, dB of the whole"] = share
    pitch = np.concatenate([clip.pitch for clip in clips])
    if len(pitch):
        for name, quantile in (("lower quartile", 25), ("median", 50), ("upper quartile", 75)):
            out[f"pitch, {name}, Hz"] = np.percentile(pitch, quantile)
    if any(clip.voiced for clip in clips):
        out["voiced frames, %"] = 100 * np.mean([clip.voiced for clip in clips])
    if spoken is not None and len(audio) > 1:
        own = [envelope_correlation(a, b) for a, b in zip(audio, spoken, strict=True)]
        other = [envelope_correlation(a, b) for a, b in zip(audio, spoken.roll(1, 0), strict=True)]
        out["loudness follows its lips, correlation"] = np.mean(own)
        out["loudness follows another's, correlation"] = np.mean(other)
    return {name: float(value) for name, value in out.items()}
