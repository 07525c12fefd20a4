"""Recordings of noise as clips of a pack: whole, mono, 16 kHz."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from avdiff.audio.io import read_audio, resample
from avdiff.types import SAMPLE_RATE
from datamodules.packs import Clip
from datamodules.preparation import Item, Maker, Stopwatch, Unusable

POINTER = b"version https://git-lfs"  # how a file begins whose content git-LFS has not fetched
SILENCE = 1e-4  # root mean square, of full scale
SHORTEST = 1.0  # seconds of a clip


def is_pointer(file: Path) -> bool:
    """Whether a file is only what git-LFS keeps in place of it."""
    return file.stat().st_size < 1024 and file.read_bytes().startswith(POINTER)


@dataclass(frozen=True)
class WholeSounds(Maker):
    """One clip a file."""

    def make(self, item: Item, watch: Stopwatch) -> Sequence[Clip]:
        if is_pointer(item.path):
            raise Unusable("git-LFS pointer", f"{item.path} is not fetched; run git lfs pull in its repository")
        with watch("decode"):
            samples, rate = read_audio(item.path)
        if not np.isfinite(samples).all():
            raise Unusable("damaged", f"{item.path} holds values that are not finite")
        with watch("resample"):
            audio = resample(torch.from_numpy(samples.mean(axis=0)), rate, SAMPLE_RATE).numpy()
        if len(audio) < SHORTEST * SAMPLE_RATE:
            raise Unusable("too short", f"{item.path} has {len(audio) / SAMPLE_RATE:.2f} s")
        if np.sqrt(np.mean(np.square(audio, dtype=np.float64))) < SILENCE:
            raise Unusable("silent", f"{item.path} is silence")
        return [Clip(item.id, audio, item.about)]
