"""Mixtures of real recordings whose parts are known: GRID talkers side by side in a video, and ESC-10 noise.

GRID talker s1 is in the shipped priors' training data, the 60 clips of `held_out_grid_s1.txt` are not; the other talkers
and fold 3 of ESC-10 are in none of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avdiff.audio.io import read_audio, resample, write_wav
from avdiff.audio.mixing import PAPER_LEVELS, mix
from avdiff.types import NOISE, SPEAKER, Role
from avdiff.video.decode import VideoFrames
from avdiff.video.mux import write_video
from datamodules.real import AUDIO, VIDEO, find, held_out

RATE = 44_100  # Hz, of the files made here


@dataclass(frozen=True)
class RecordedMixture:
    """One mixture as files, with its parts.

    Attributes:
        key: of the case.
        video: the talkers side by side, the mixture as its sound (AAC).
        mixture: the mixture as WAV.
        faces: one video a talker.
        layout: one role a source.
        sources: (K, T) at 44.1 kHz, as they are in the mixture.
    """

    key: str
    video: Path
    mixture: Path
    faces: tuple[Path, ...]
    layout: tuple[Role, ...]
    sources: Tensor


def recorded_mixtures(data: Path, folder: Path, count: int) -> Iterator[RecordedMixture]:
    """Make mixtures one after the other, the same for the same data: s1 with each other talker, then each talker alone.

    Levels are drawn from SSNAPS's ranges (`avdiff.audio.mixing.PAPER_LEVELS`).

    Args:
        data: with grid/s1, grid/others and esc10.
        folder: to write to.
        count: mixtures of two talkers, and as many of one.
    """
    first = [file for file in find(data / "grid" / "s1", VIDEO)[0] if file.stem in held_out()]
    others = find(data / "grid" / "others", VIDEO)[0]
    noises = [file for file in find(data / "esc10", AUDIO)[0] if file.name.startswith("3-")]
    for talkers in (2, 1):
        for index in range(count):
            rng = np.random.default_rng([talkers, index])
            other = others[index % len(others)]
            faces = (
                (first[index % len(first)], other)
                if talkers == 2
                else (other if index % 2 else first[index % len(first)],)
            )
            noise = noises[int(rng.integers(len(noises)))]
            yield _make(f"real{talkers}-{index:02d}", faces, noise, rng, folder)


def _mono(file: Path) -> Tensor:
    samples, rate = read_audio(file)
    return resample(torch.from_numpy(samples.mean(axis=0)), rate, RATE)


def _make(key: str, faces: tuple[Path, ...], noise: Path, rng: np.random.Generator, folder: Path) -> RecordedMixture:
    voices = [_mono(face) for face in faces]
    length = min(len(voice) for voice in voices)
    speech = torch.stack([voice[:length] for voice in voices])
    background = _mono(noise)
    background = background.repeat(-(-length // len(background)))[:length]
    sources = mix(speech, background, *PAPER_LEVELS[len(faces)].draw(rng.uniform))
    sources = sources * 0.5 / sources.sum(0).abs().max()
    folder.mkdir(parents=True, exist_ok=True)
    video, mixture = folder / f"{key}.mp4", folder / f"{key}.wav"
    heard = sources.sum(0).numpy()
    write_wav(mixture, heard, RATE)
    pictures = (np.concatenate(frames, axis=1) for frames in zip(*(VideoFrames(face) for face in faces), strict=False))
    write_video(video, pictures, audio=heard, rate=RATE)
    return RecordedMixture(key, video, mixture, faces, (*[SPEAKER] * len(faces), NOISE), sources)
