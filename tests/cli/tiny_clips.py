"""Clips for a training of seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.clips import CleanClips


class TinyClips(CleanClips):
    """Coloured noise and random mouths, kept in the current folder."""

    def generate(self, split: str, clips: int) -> Path:
        folder = Path("clips", split)
        if not folder.exists():
            folder.mkdir(parents=True)
            rng = np.random.default_rng(0)
            audio = np.cumsum(rng.standard_normal((clips, 6400)), axis=1) * 100
            np.save(folder / "audio.npy", audio.clip(-32768, 32767).astype(np.int16))
            np.save(folder / "mouth.npy", rng.integers(0, 256, (clips, 10, 96, 96), dtype=np.uint8))
        return folder
