"""Real recordings as clip folders (see `datamodules.clips`): videos of talkers, spoken audio without video, noises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from avdiff.audio.io import read_audio, resample
from avdiff.errors import UserError
from avdiff.types import SAMPLE_RATE, SAMPLES_PER_FRAME
from avdiff.video.decode import VideoFrames, read_track
from avdiff.video.faces import FaceDetector
from avdiff.video.talkers import Talker, find_talkers, seen_longest

WINDOW = 4 * SAMPLE_RATE  # samples of a stored clip
VIDEO = (".mp4", ".mpg", ".mov", ".mkv", ".avi", ".webm")
AUDIO = (".wav", ".flac", ".ogg", ".mp3", ".g722")

Clip = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]  # audio (T,), mouth (F, 96, 96), seen (F,)


def held_out() -> frozenset[str]:
    """Names (without suffix) of the GRID s1 clips that are kept for testing."""
    lines = Path(__file__).with_name("held_out_grid_s1.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def find(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """Files of some kinds below a folder, sorted by name.

    Raises:
        UserError: the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds the recordings")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    if not files:
        raise UserError(f"{folder} holds no file ending in {', '.join(suffixes)}; is it the right folder?")
    return files


def audio_clips(files: Iterable[Path], left_out: Callable[[str], None]) -> Iterator[Clip]:
    """Each file cut into stretches of up to 4 s, without video; a stretch of less than 1 s or of silence is left out.

    Files of less than 1 s are joined with those that follow them in the same folder: a word and the next, a key and the next.

    Args:
        files: in order.
        left_out: told of each file that cannot be read, and why.
    """
    for audio in _joined(files, left_out):
        for start in range(0, len(audio), WINDOW):
            stretch = audio[start : start + WINDOW]
            if len(stretch) >= SAMPLE_RATE and np.sqrt(np.mean(stretch**2)) > 1e-4:
                yield stretch, None, None


def _joined(files: Iterable[Path], left_out: Callable[[str], None]) -> Iterator[np.ndarray]:
    """The sound of each file at 16 kHz, or of several short ones of a folder, together up to 4 s."""
    short: list[np.ndarray] = []
    folder = None
    for file in files:
        try:
            samples, rate = read_audio(file)
        except UserError as error:
            left_out(str(error))
            continue
        audio = resample(torch.from_numpy(samples.mean(axis=0)), rate, SAMPLE_RATE).numpy()
        if len(audio) >= SAMPLE_RATE:
            yield audio
            continue
        if short and (file.parent != folder or sum(map(len, short)) + len(audio) > WINDOW):
            yield np.concatenate(short)
            short = []
        folder = file.parent
        short.append(audio)
    if short:
        yield np.concatenate(short)


def _talkers(frames: VideoFrames, detector: FaceDetector) -> list[Talker]:
    return find_talkers(lambda stage: frames, detector)


def video_clips(files: Iterable[Path], left_out: Callable[[str], None], detector: FaceDetector) -> Iterator[Clip]:
    """The person seen longest in each video, cut into stretches of up to 4 s; a video without a face is left out.

    Args:
        files: in order.
        left_out: told of each file that cannot be read or shows no face.
        detector: of faces.
    """
    for file in files:
        try:
            found = _talkers(VideoFrames(file), detector)
            samples, rate, _ = read_track(file)
        except UserError as error:
            left_out(str(error))
            continue
        if not found:
            left_out(f"{file} shows no face")
            continue
        talker = seen_longest(found)
        audio = resample(torch.from_numpy(samples.mean(axis=0)), rate, SAMPLE_RATE).numpy()
        for start in range(0, len(audio), WINDOW):
            stretch = audio[start : start + WINDOW]
            if len(stretch) >= SAMPLE_RATE:
                first = start // SAMPLES_PER_FRAME
                mouth, seen = talker.mouth(first, first + len(stretch) // SAMPLES_PER_FRAME)
                yield stretch, mouth, seen


def write_clips(folder: Path, clips: Iterable[Clip], progress: Callable[[int], None] | None = None) -> int:
    """Write a clip folder; returns the number of clips.

    Raises:
        UserError: there are none.
    """
    audio, lengths, mouths, seens = [], [], [], []
    for count, (samples, mouth, seen) in enumerate(clips, 1):
        samples = samples[:WINDOW]
        peak = max(1.0, float(np.abs(samples).max()) / 0.99)
        stored = np.zeros(WINDOW, np.int16)
        stored[: len(samples)] = np.round(samples / peak * 32767)
        audio.append(stored)
        lengths.append(len(samples) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME)
        if mouth is not None and seen is not None:
            frames = min(len(mouth), WINDOW // SAMPLES_PER_FRAME)
            mouths.append(_pad(mouth[:frames]))
            seens.append(_pad(seen[:frames]))
        if progress is not None:
            progress(count)
    if not audio:
        raise UserError(f"no recording for {folder} holds a second of sound; give more of them, or longer ones")
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "audio.npy", np.stack(audio))
    np.save(folder / "lengths.npy", np.asarray(lengths))
    if mouths:
        np.save(folder / "mouth.npy", np.stack(mouths))
        np.save(folder / "seen.npy", np.stack(seens))
    else:  # what may be there is of other sound
        for name in ("mouth", "seen"):
            (folder / f"{name}.npy").unlink(missing_ok=True)
    return len(audio)


def _pad(array: np.ndarray) -> np.ndarray:
    out = np.zeros((WINDOW // SAMPLES_PER_FRAME, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
