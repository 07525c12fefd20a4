"""Audio files in and out, and the two bands of a recording: what the 16 kHz models hear, and the rest."""

from __future__ import annotations

from math import ceil, gcd
from pathlib import Path

import numpy as np
import soundfile
import torch
from scipy.signal import resample_poly
from torch import Tensor
from torchaudio.functional import resample as sinc_resample

from avdiff.errors import UserError
from avdiff.types import SAMPLE_RATE
from avdiff.video.decode import read_track

ODD_RATIO = 1000  # a reduced ratio beyond this makes torchaudio's kernel table larger than the signal


def read_audio(path: Path | str, notes: list[str] | None = None) -> tuple[np.ndarray, int]:
    """Read an audio file, or the sound of a video on the video's timeline.

    Args:
        notes: takes what was damaged or missing, in sentences.

    Returns:
        samples (channels, n) float32 and the rate in Hz.

    Raises:
        UserError: no such file, not a media file, no sound in it.
    """
    path = Path(path)
    if path.is_file():
        try:
            samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, TypeError):  # TypeError: of headerless samples it asks for the rate
            pass  # not a format of libsndfile: the containers of video, m4a, ...
        else:
            if not len(samples):
                raise UserError(f"{path} holds no samples; give a recording that is not empty.")
            return np.ascontiguousarray(samples.T), rate
    samples, rate, told = read_track(path)
    if notes is not None:
        notes += told
    return samples, rate


def write_wav(path: Path | str, samples: np.ndarray | Tensor, rate: int) -> None:
    """Write mono float32 WAV, which neither clips nor rounds. `samples` is (n,), `rate` in Hz."""
    soundfile.write(path, np.asarray(samples, np.float32), rate, subtype="FLOAT", format="WAV")


def resample(x: Tensor, rate: int, to: int) -> Tensor:
    """Band-limited resampling, (..., n) at `rate` -> (..., ceil(n * to / rate)) at `to` (both in Hz)."""
    ratio = gcd(rate, to)
    if max(rate, to) // ratio > ODD_RATIO:
        return torch.from_numpy(resample_poly(x.numpy(), to // ratio, rate // ratio, axis=-1).astype(np.float32))
    return sinc_resample(x, rate, to, lowpass_filter_width=64, rolloff=0.97)


def split_band(x: Tensor, rate: int) -> tuple[Tensor, Tensor]:
    """Split a recording into what models hear and what they do not.

    Args:
        x: (..., n) at `rate` Hz.

    Returns:
        (..., ceil(n * 16000 / rate)) at 16 kHz, and the rest (..., n) at `rate` = x - up(down(x)): what is above
        8 kHz and the resampler's error. `join_band` of the first plus the second is x.
    """
    heard = resample(x, rate, SAMPLE_RATE) if rate != SAMPLE_RATE else x
    return heard, x - join_band(heard, rate, x.shape[-1])


def join_band(heard: Tensor, rate: int, length: int) -> Tensor:
    """(..., m) at 16 kHz -> (..., length) at `rate` Hz, linear in its input, with length = m * rate / 16000 at most."""
    if rate == SAMPLE_RATE:
        return heard
    if length > ceil(heard.shape[-1] * rate / SAMPLE_RATE):
        raise ValueError(f"{heard.shape[-1]} samples at 16 kHz do not fill {length} samples at {rate} Hz")
    return resample(heard, SAMPLE_RATE, rate)[..., :length]
