"""Videos of talkers as clips: 16 kHz sound and the aligned mouth of whoever is seen, cut as `avdiff separate` cuts them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from avdiff.audio.io import resample
from avdiff.errors import UserError
from avdiff.types import SAMPLE_RATE, SAMPLES_PER_FRAME, VIDEO_FPS
from avdiff.video.decode import VideoFrames, probe, read_track
from avdiff.video.detectors import AUTO, find_detector
from avdiff.video.faces import Face, FaceDetector
from avdiff.video.talkers import Talker, find_talkers, seen_longest
from datamodules.packs import Clip
from datamodules.preparation import Item, Maker, Stopwatch, Unusable

SILENCE = 1e-4  # root mean square, of full scale
SHORTEST = VIDEO_FPS  # pictures of a clip


@lru_cache(maxsize=1)
def _detector(faces: str) -> FaceDetector:
    """One for all videos of a process: it takes a second to load."""
    return find_detector(faces)


class _Watched(FaceDetector):
    """A detector whose time is told: where faces are, and where the points of those found are."""

    def __init__(self, inner: FaceDetector, watch: Stopwatch) -> None:
        self.inner, self.watch = inner, watch
        self.stride, self.same_person = inner.stride, inner.same_person

    def detect(self, frame: np.ndarray) -> list[Face]:
        with self.watch("detect"):
            return self.inner.detect(frame)

    def align(self, frame: np.ndarray, box: np.ndarray) -> Face | None:
        with self.watch("points"):
            return self.inner.align(frame, box)

    def follow(self, frame: np.ndarray, face: Face) -> Face | None:
        with self.watch("points"):
            return self.inner.follow(frame, face)

    def describe(self, frame: np.ndarray, face: Face) -> np.ndarray | None:
        with self.watch("identity"):
            return self.inner.describe(frame, face)


@dataclass(frozen=True)
class _Film:
    """A video as it was read: (T,) sound at 16 kHz, who is seen, and for how many pictures both last."""

    audio: np.ndarray
    talkers: list[Talker]
    pictures: int


def _read(path: Path, watch: Stopwatch, faces: str) -> _Film:
    """Everything of a video.

    Raises:
        Unusable, UserError: it cannot be used.
    """
    media = probe(path)
    if not media.width:
        raise Unusable("no video stream", f"{path} has no picture")
    if not media.rate:
        raise Unusable("no sound", f"{path} has no audio stream")
    with watch("decode"):
        try:
            samples, rate, notes = read_track(path)
        except UserError as error:
            raise Unusable("sound cannot be decoded", str(error)) from error
        audio = resample(torch.from_numpy(samples.mean(axis=0)), rate, SAMPLE_RATE).numpy()
    if notes:
        raise Unusable("damaged", notes[0])
    if not np.isfinite(audio).all():
        raise Unusable("damaged", f"the sound of {path} holds values that are not finite")
    if np.sqrt(np.mean(np.square(audio, dtype=np.float64))) < SILENCE:
        raise Unusable("silent", f"the sound of {path} is silence")
    frames = VideoFrames(path, threads=1)
    count = 0

    def watched(stage: str) -> Iterable[np.ndarray]:
        nonlocal count
        count = 0
        for frame in watch.stages("decode", iter(frames)):
            count += 1
            yield frame

    with watch("track and crop"):
        talkers = find_talkers(watched, _Watched(_detector(faces), watch))
    if frames.notes:
        raise Unusable("damaged", frames.notes[0])
    if not count:
        raise Unusable("no picture can be decoded", f"the video stream of {path} holds no picture that decodes")
    pictures = min(count, len(audio) // SAMPLES_PER_FRAME)
    if pictures < SHORTEST:
        raise Unusable("too short", f"{path} has {pictures / VIDEO_FPS:.2f} s of sound with pictures")
    if not talkers:
        raise Unusable("no face", f"no face was seen for a second or longer in {path}")
    return _Film(audio, talkers, pictures)


@dataclass(frozen=True)
class _Videos(Maker):
    """Makes clips of videos with one detector.

    Args:
        faces: the detector, one of `avdiff.video.detectors.CHOICES`.
    """

    faces: str = AUTO

    def begin(self) -> None:
        _detector(self.faces)


@dataclass(frozen=True)
class WholeVideos(_Videos):
    """One clip a video, with the person who is seen longest: for videos that are of one talker each.

    Args:
        faces: the detector, one of `avdiff.video.detectors.CHOICES`.
    """

    def make(self, item: Item, watch: Stopwatch) -> Sequence[Clip]:
        film = _read(item.path, watch, self.faces)
        mouth, seen = seen_longest(film.talkers).mouth(0, film.pictures)
        if not seen.any():
            raise Unusable("no face", f"no face was seen in {item.path} while there was sound")
        about = {**item.about, "faces": len(film.talkers)}
        return [Clip(item.id, film.audio[: film.pictures * SAMPLES_PER_FRAME], about, mouth, seen)]


@dataclass(frozen=True)
class LoneTalkers(_Videos):
    """Every stretch of a video in which exactly one person is seen is a clip: of others the sound may hold the voice too.

    Args:
        faces: the detector, one of `avdiff.video.detectors.CHOICES`.
        longest: seconds of a clip; a longer stretch is cut.
    """

    longest: float = 60.0

    def make(self, item: Item, watch: Stopwatch) -> Sequence[Clip]:
        film = _read(item.path, watch, self.faces)
        seen = np.stack([talker.person.seen(film.pictures) for talker in film.talkers])
        alone = seen & (seen.sum(0) == 1)
        clips: list[Clip] = []
        for who, talker in enumerate(film.talkers):
            for first, last in _stretches(alone[who], round(self.longest * VIDEO_FPS)):
                audio = film.audio[first * SAMPLES_PER_FRAME : last * SAMPLES_PER_FRAME]
                if np.sqrt(np.mean(np.square(audio, dtype=np.float64))) >= SILENCE:
                    about = {**item.about, "person": who, "start": first / VIDEO_FPS}
                    clips.append(Clip(f"{item.id}#{len(clips):03d}", audio, about, *talker.mouth(first, last)))
        if not clips:
            raise Unusable("no one alone", f"in {item.path} nobody is seen alone for a second with sound")
        return clips


def _stretches(seen: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Runs of True of a second or more, cut so that none is longer than `longest`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    out = []
    for first, last in edges.reshape(-1, 2).tolist():
        parts = -(-(last - first) // longest)
        cuts = [first + (last - first) * part // parts for part in range(parts + 1)]
        out += [(a, b) for a, b in pairwise(cuts) if b - a >= SHORTEST]
    return out
