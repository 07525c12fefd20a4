"""Features of the DCASE 2020 scene classifier, as published: log-mel spectrogram with its first two differences."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torchaudio.transforms import MelSpectrogram

SCENE_RATE = 44_100  # Hz
N_FFT, HOP, MELS = 2048, 1024, 128
REACH = 4  # frames that the differences take off each end


@lru_cache
def _mel() -> MelSpectrogram:
    return MelSpectrogram(
        SCENE_RATE,
        n_fft=N_FFT,
        hop_length=HOP,
        n_mels=MELS,
        f_min=0.0,
        f_max=SCENE_RATE / 2,
        power=2.0,
        mel_scale="htk",
    )


def log_mel(clip: Tensor) -> Tensor:
    """(..., T) at 44.1 kHz -> (..., 128, T // 1024 + 1), scaled to 0..1 for every clip. Silence gives zeros."""
    found = torch.log(_mel().to(clip.device)(clip.float()) + 1e-8)
    found = found - found.amin((-2, -1), keepdim=True)
    return found / found.amax((-2, -1), keepdim=True).clamp_min(1e-12)


def with_differences(x: Tensor) -> Tensor:
    """(..., F, N) -> (..., 3, F, N - 8): the features and their first and second differences over five frames each."""
    first = _difference(x)
    second = _difference(first)
    return torch.stack([x[..., REACH:-REACH], first[..., REACH // 2 : -(REACH // 2)], second], -3)


def _difference(x: Tensor) -> Tensor:
    """Slope over five frames, where all five are there: (x[t+1] - x[t-1]) / 10 + (x[t+2] - x[t-2]) / 5."""
    return (x[..., 3:-1] - x[..., 1:-3]) / 10 + (x[..., 4:] - x[..., :-4]) / 5
