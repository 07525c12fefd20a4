"""Small packs of noise-like talkers and noises, made on the fly."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from datamodules.packs import Clip, PackWriter

FRAME = 640  # samples


def write_speech(
    folder: Path, people: int = 12, clips: int = 3, frames: int = 14, splits: tuple[str, ...] = ("test",), seed: int = 0
) -> Path:
    """Talkers p00, p01, ...: white, of any level, with mouths whose pixels are the talker's number; p00's first is silent."""
    writer, rng = PackWriter(folder, settings={"dataset": "people"}), np.random.default_rng(seed)
    for split in splits:
        for person in range(people):
            for clip in range(clips):
                audio = 10 ** rng.uniform(-2, -0.5) * rng.standard_normal(frames * FRAME)
                if (person, clip) == (0, 0):
                    audio *= 1e-5
                mouth = np.full((frames, 96, 96), person, np.uint8)
                about = {"split": split, "speaker": f"{split}-p{person:02d}", "gender": "fm"[person % 2]}
                writer.append(Clip(f"{split}/p{person:02d}/{clip}", audio, about, mouth))
    writer.close()
    return folder


def write_noise(
    folder: Path,
    name: str = "dns",
    clips: int = 20,
    frames: int = 14,
    scenes: int = 0,
    splits: tuple[str, ...] = ("test",),
) -> Path:
    """White noises, of as many scenes in turn."""
    writer, rng = PackWriter(folder, settings={"dataset": name}), np.random.default_rng(1)
    for split in splits:
        for clip in range(clips):
            about = {"split": split, **({"scene": f"scene{clip % scenes}"} if scenes else {})}
            audio = 10 ** rng.uniform(-2, -0.5) * rng.standard_normal(frames * FRAME)
            writer.append(Clip(f"-{split}{clip:03d}", audio, about))
    writer.close()
    return folder
