"""Real recordings as clip folders (see `datamodules.clips`): videos of talkers, spoken audio without video, noises."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from avdiff.audio.io import read_audio, resample
from avdiff.errors import UserError
from avdiff.files import naming, whole
from avdiff.types import SAMPLE_RATE, SAMPLES_PER_FRAME
from avdiff.video.decode import VideoFrames, read_track
from avdiff.video.faces import FaceDetector
from avdiff.video.talkers import Talker, find_talkers, seen_longest

WINDOW = 4 * SAMPLE_RATE  # samples of a stored clip
SILENCE = 1e-4  # root mean square, of full scale
TOO_SHORT = "holds less than a second of sound"

#: How the names of files end that PyAV (or libsndfile) knows how to read: containers that may hold pictures, and sound alone.
VIDEO = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".m2ts", ".m2v", ".m4v", ".mkv", ".mov", ".mp4"),
    *(".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".ogv", ".qt", ".rm", ".rmvb", ".ts", ".vob", ".webm", ".wmv"),
)
AUDIO = (
    *(
        ".aac",
        ".ac3",
        ".adts",
        ".aif",
        ".aifc",
        ".aiff",
        ".amr",
        ".ape",
        ".au",
        ".avr",
        ".awb",
        ".caf",
        ".dts",
        ".eac3",
    ),
    *(
        ".flac",
        ".g722",
        ".gsm",
        ".htk",
        ".ircam",
        ".m4a",
        ".m4b",
        ".mka",
        ".mp1",
        ".mp2",
        ".mp3",
        ".mpc",
        ".nist",
        ".oga",
    ),
    *(
        ".ogg",
        ".opus",
        ".qcp",
        ".ra",
        ".rf64",
        ".snd",
        ".sph",
        ".spx",
        ".tta",
        ".voc",
        ".w64",
        ".wav",
        ".wave",
        ".weba",
    ),
    *(".wma", ".wv"),
)

T = TypeVar("T")
Clip = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]  # audio (T,), mouth (F, 96, 96), seen (F,)


def held_out() -> frozenset[str]:
    """Names (without suffix) of the GRID s1 clips that are kept for testing."""
    lines = Path(__file__).with_name("held_out_grid_s1.txt").read_text().splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


def find(folder: Path, suffixes: Sequence[str]) -> tuple[list[Path], list[Path]]:
    """Files of some kinds below a folder, sorted by name, and all else that lies there: other files, and folders that cannot be
    looked into. Links to folders are followed; a folder that several of them lead to is looked into once.

    Raises:
        UserError: the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give the folder that holds the recordings")
    there, closed = list[Path](), list[Path]()
    waiting, seen = [folder], set[str]()
    for root in waiting:  # those that are linked come last: what is there twice is there by its own name
        for path, folders, files in os.walk(root, onerror=lambda error: closed.append(Path(error.filename))):
            if (real := os.path.realpath(path)) in seen:
                folders.clear()
                continue
            seen.add(real)
            folders.sort()
            waiting += [Path(path, name) for name in folders if Path(path, name).is_symlink()]
            there += [Path(path, name) for name in files]
    found = sorted(file for file in there if file.suffix.lower() in suffixes)
    if not found:
        raise UserError(f"{folder} holds no file ending in {', '.join(suffixes)}; is it the right folder?")
    return found, sorted({*there, *closed} - {*found})


def audio_clips(files: Iterable[Path], left_out: Callable[[str], None]) -> Iterator[Clip]:
    """Each file cut into stretches of up to 4 s, without video; a stretch of less than 1 s or of silence is left out.

    Files of less than 1 s are joined with those that follow them in the same folder: a word and the next, a key and the next.

    Args:
        files: in order.
        left_out: told of each file that gives no clip, and why, and of what of others is damaged.
    """
    for name, audio in _joined(files, left_out):
        stretches = [audio[start:stop] for start, stop in _stretches(audio)]
        heard = [stretch for stretch in stretches if not _silent(stretch)]
        if not heard:
            left_out(f"{name} {'is silence' if stretches else TOO_SHORT}")
        for stretch in heard:
            yield stretch, None, None


def _stretches(audio: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, last + 1) of the parts of up to 4 s that last a second."""
    for start in range(0, len(audio) - SAMPLE_RATE + 1, WINDOW):
        yield start, min(start + WINDOW, len(audio))


def _silent(audio: np.ndarray) -> bool:
    return float(np.sqrt(np.mean(np.square(audio, dtype=np.float64)))) <= SILENCE


def _attempted(
    files: Iterable[Path], left_out: Callable[[str], None], read: Callable[[Path], T]
) -> Iterator[tuple[Path, T]]:
    """What is read of each file, but those that cannot be read, whatever they do: the others go on."""
    for file in files:
        try:
            got = read(file)
        except UserError as error:
            left_out(str(error))
        except Exception as error:  # noqa: BLE001 - decoders fail in many ways, and hours of others would be lost
            left_out(f"{file} cannot be read ({type(error).__name__}: {error})")
        else:
            yield file, got


def _sound(
    samples: np.ndarray, rate: int, file: Path, notes: Iterable[str], left_out: Callable[[str], None]
) -> np.ndarray:
    """(channels, n) -> (m,) at 16 kHz.

    Raises:
        UserError: it holds a value that is not finite.
    """
    if not np.isfinite(samples).all():
        raise UserError(f"{file} holds values that are not finite")
    for note in notes:
        left_out(f"part of {file}: {note}")
    return resample(torch.from_numpy(samples.mean(axis=0)), rate, SAMPLE_RATE).numpy()


def _joined(files: Iterable[Path], left_out: Callable[[str], None]) -> Iterator[tuple[str, np.ndarray]]:
    """The sound of each file at 16 kHz, or of several short ones of a folder, together up to 4 s; and what to call it."""

    def read(file: Path) -> np.ndarray:
        notes: list[str] = []
        samples, rate = read_audio(file, notes)
        return _sound(samples, rate, file, notes, left_out)

    short: list[tuple[Path, np.ndarray]] = []

    def together() -> tuple[str, np.ndarray]:
        first, last = short[0][0], short[-1][0]
        joined = np.concatenate([audio for _, audio in short])
        short.clear()
        return str(first) if first == last else f"{first} to {last.name}", joined

    for file, audio in _attempted(files, left_out, read):
        if len(audio) >= SAMPLE_RATE:
            yield str(file), audio
            continue
        if short and (file.parent != short[0][0].parent or sum(len(a) for _, a in short) + len(audio) > WINDOW):
            yield together()
        short.append((file, audio))
    if short:
        yield together()


def video_clips(files: Iterable[Path], left_out: Callable[[str], None], detector: FaceDetector) -> Iterator[Clip]:
    """The person seen longest in each video, cut into stretches of up to 4 s; a video without a face is left out.

    Args:
        files: in order.
        left_out: told of each file that gives no clip, and why, and of what of others is damaged.
        detector: of faces.
    """

    def read(file: Path) -> tuple[np.ndarray, Talker]:
        samples, rate, notes = read_track(file)
        audio = _sound(samples, rate, file, notes, left_out)
        if len(audio) < SAMPLE_RATE:
            raise UserError(f"{file} {TOO_SHORT}")
        if _silent(audio):
            raise UserError(f"{file} is silence")
        frames = VideoFrames(file)
        found = find_talkers(lambda stage: frames, detector)
        if not found:
            raise UserError(f"{file} shows no face")
        for note in frames.notes:
            left_out(f"part of {file}: {note}")
        return audio, seen_longest(found)

    for _, (audio, talker) in _attempted(files, left_out, read):
        for start, stop in _stretches(audio):
            first = start // SAMPLES_PER_FRAME
            mouth, seen = talker.mouth(first, first + (stop - start) // SAMPLES_PER_FRAME)
            yield audio[start:stop], mouth, seen


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
    made = {"audio": np.stack(audio), "lengths": np.asarray(lengths)}
    if mouths:
        made |= {"mouth": np.stack(mouths), "seen": np.stack(seens)}
    with ExitStack() as written:  # all are there before any takes the place of an earlier run's
        for name, array in made.items():
            partial = written.enter_context(whole(folder / f"{name}.npy"))
            with partial.open("wb") as out, naming(folder / f"{name}.npy"):
                np.save(out, array)
    for name in {"mouth", "seen"} - {*made}:  # of other sound
        (folder / f"{name}.npy").unlink(missing_ok=True)
    return len(audio)


def level_range(audio: np.ndarray) -> float:
    """Levels of the frames of 20 ms of (T,) samples at 16 kHz, from the quietest tenth to the loudest twentieth, in dB.

    A recording with little range has a noise floor that a prior would learn as speech.
    """
    frames = audio[: len(audio) // 320 * 320].reshape(-1, 320).astype(np.float32)
    levels = 10 * np.log10((frames**2).mean(1) + 1e-11)
    return float(np.percentile(levels, 95) - np.percentile(levels, 10))


def wide_ranged(clips: Iterable[Clip], least: float) -> Iterator[Clip]:
    """Of clips of 2 s or more, those whose `level_range` is `least` dB or more."""
    for clip in clips:
        if len(clip[0]) >= 2 * SAMPLE_RATE and level_range(clip[0]) >= least:
            yield clip


def _pad(array: np.ndarray) -> np.ndarray:
    out = np.zeros((WINDOW // SAMPLES_PER_FRAME, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
