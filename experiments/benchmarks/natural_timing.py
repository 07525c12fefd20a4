"""How exactly the sound of natural voices is where their phonemes are told, and that of re-voiced lips where the speaker's was.

    python -m experiments.benchmarks.natural_timing --clips 8 [--grid FOLDER --align FOLDER]

The voices must be installed (`avdiff prepare voices`). For each clip: the lag at which the envelope of the sound is most like
what it is held against. Natural voices: loud in vowels, less in other sounds, silent in pauses, as the phonemes say.
Re-voiced videos: the envelope of the original sound, with the correlation there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from avdiff.audio.io import resample
from avdiff.types import SAMPLE_RATE
from avdiff.video.decode import read_track
from datamodules import revoiced
from datamodules.synthetic.natural import draw_natural_spec, make_natural_clip
from datamodules.synthetic.talkers import CONTINUOUS
from datamodules.synthetic.visemes import PHONEMES, SILENCE

STEP = SAMPLE_RATE // 100
MOST = 20  # steps of 10 ms
VOWELS = [PHONEMES.index(name) for name in PHONEMES if name[0] in "aeiou"]


def envelope(audio: np.ndarray) -> np.ndarray:
    """Root mean squares of 10 ms, a little smoothed."""
    steps = audio[: len(audio) // STEP * STEP].reshape(-1, STEP)
    return np.convolve(np.sqrt((steps**2).mean(1)), np.ones(3) / 3, "same")


def best(reference: np.ndarray, other: np.ndarray) -> tuple[int, float, float]:
    """By how many ms the other would have to come later to be most like the reference, its correlation there and as it is."""
    inner = slice(MOST, min(len(reference), len(other)) - MOST)
    lags = range(-MOST, MOST + 1)
    alike = [np.corrcoef(reference[inner], np.roll(other, lag)[inner])[0, 1] for lag in lags]
    return 10 * lags[int(np.argmax(alike))], max(alike), alike[MOST]


def main() -> None:
    """Print a line a clip, and means."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--grid", type=Path, help="folder of GRID's videos of a speaker; needs --align")
    parser.add_argument("--align", type=Path)
    options = parser.parse_args()
    rows = []
    for number in range(options.clips):
        clip = make_natural_clip(draw_natural_spec(f"{number:06d}", "train", kind=CONTINUOUS))
        told = np.where(np.isin(clip.phonemes, VOWELS), 1.0, np.where(clip.phonemes == SILENCE, 0.0, 0.4))
        rows.append(best(np.repeat(told, 4), envelope(clip.audio)))
    report("natural voices", rows)
    if options.grid is not None:
        revoiced.mouths = lambda video: (
            np.zeros((75, 96, 96), np.uint8),
            np.ones(75, bool),
        )  # faces do not matter here
        videos = sorted(options.grid.glob("*.mp4"))
        rows = []
        for video in videos[:: max(1, len(videos) // options.clips)][: options.clips]:
            samples, rate, _ = read_track(video)
            original = resample(torch.from_numpy(samples.mean(0)), rate, SAMPLE_RATE).numpy()
            arrays, _ = revoiced.revoice(video, options.align / f"{video.stem}.align", "train", 0)
            audio = arrays["audio"][: int(arrays["lengths"])] / 32767
            rows.append(best(envelope(original[: len(audio)]), envelope(audio)))
        report("re-voiced videos", rows)


def report(name: str, rows: list[tuple[int, float, float]]) -> None:
    """Means, and the spread of the lags."""
    lags, most, alike = map(np.array, zip(*rows, strict=True))
    Console().print(
        f"{name}: {len(rows)} clips; best {lags.mean():.0f} ms later (median {np.median(lags):.0f}, std {lags.std():.0f}, "
        f"{np.mean(np.abs(lags) <= 40):.0%} within a frame); correlation {most.mean():.2f} there, {alike.mean():.2f} as it is",
        soft_wrap=True,
    )


if __name__ == "__main__":
    main()
