"""From a recording to its voices: files in, files out.

`separate_file` takes a video in which the talkers are seen, `separate_mixture` a mixture and one video a talker, or crops of
their mouths. Both write, into one folder,

    person1.wav, person2.wav, ...   one mono float WAV a face
    offscreen.wav                   the talker without a face, where one was asked for
    noise.wav                       all else, and everything above 8 kHz
    tracks.json                     which face is which file, and when it is seen
    preview.mp4                     the video with a named box around every face (only for one video)
    report.html                     players, spectrograms and figures, in one file

All WAVs have the rate, the start and the length of the input's sound, and add up to it (its channels averaged). They hold
nothing but samples and rate, so that equal samples are equal files.

Sound of any length takes no more memory than a few stretches of it: what is read waits in a file in the folder, and the report
plays the first minutes. Of a face, the place in each picture stays in memory, its mouth as long as all are small together.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from math import ceil, log10, sqrt
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile
import torch
from torch import Tensor

from avdiff.audio.consistency import make_consistent
from avdiff.audio.io import Sound, WavFile, join_band, reach, resample
from avdiff.audio.rumble import without_rumble
from avdiff.confidence import Confidence, Witnesses, announced
from avdiff.errors import UserError
from avdiff.extras import lazy
from avdiff.priors.base import ConditionalDiffusionPrior
from avdiff.priors.joint import JointPrior
from avdiff.priors.store import load_prior
from avdiff.report.figures import Panel, png, spectrograms
from avdiff.report.page import Player, Section, Table, write_page
from avdiff.results import Place, results_folder
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Progress
from avdiff.separators.base import NotSeparated, Separator
from avdiff.separators.chunked import Chunked, Piece
from avdiff.spool import Arrays, Spool
from avdiff.types import NOISE, OFFSCREEN, SAMPLE_RATE, SAMPLES_PER_FRAME, SPEAKER, VIDEO_FPS, Observation, Role
from avdiff.video.crops import as_pictures, given_talker
from avdiff.video.decode import SILENT, VideoFrames, probe
from avdiff.video.detectors import find_detector
from avdiff.video.faces import FaceDetector
from avdiff.video.mux import draw_people, write_video
from avdiff.video.talkers import Talker, find_talkers
from avdiff.video.tracking import Person

cv2 = lazy("cv2")

Watch = Callable[[str, float], None]  # told of every stage by its name, and the share of it that is done, 0 to 1

Offscreen = int | Literal["auto"]  # how many speakers are heard and not seen
AUTO: Literal["auto"] = "auto"  # as many as are heard

SHORTEST = 0.1  # s of sound
LOUDEST = 2.0**32  # of full scale, which is 1: samples of 32-bit integers that someone took for floats still pass
SHOWN = 600  # s of a recording that the report plays and pictures
CANCELLED = 0.1  # share of the channels' level below which their average has lost the recording
TRACKS = "tracks.json"
PREVIEW = "preview.mp4"
PAGE = "report.html"
OURS = re.compile(rf"(person\d+|{OFFSCREEN}|{NOISE})\.wav|{TRACKS}|{PREVIEW}|{PAGE}")


@dataclass(frozen=True)
class SeparatedSource:
    """One voice of a recording.

    Attributes:
        path: of its WAV.
        role: what it is.
        decibels: its root mean square below full scale, -inf for silence.
        seen: (start, stop) in seconds, when its face is seen.
        spread: of several draws about their mean, in dB relative to the level of that mean; NaN for a single estimate.
        confidence: of every second, 0 to 1, NaN where the voice is silent; empty where that was not asked for, and of who is not
            seen.
    """

    path: Path
    role: Role
    decibels: float
    seen: tuple[tuple[float, float], ...] = ()
    spread: float = math.nan
    confidence: tuple[float, ...] = ()


@dataclass(frozen=True)
class SeparationReport:
    """What was made of a recording.

    Attributes:
        folder: that everything was written to.
        sources: people in order of appearance, then the off-screen talker, then the noise.
        seconds: of computing.
        evaluations: of the networks, a source; 0 from a method that does not count.
        notes: what a listener should know, in sentences.
        confidence: what that of the sources was found from, and whether someone is heard who is not seen; None where that was
            not asked for.
    """

    folder: Path
    sources: tuple[SeparatedSource, ...]
    seconds: float
    evaluations: int
    notes: tuple[str, ...]
    confidence: Confidence | None = None


@dataclass(frozen=True)
class _Face:
    """One talker that is seen: where, in which video, and the mouth.

    Attributes:
        video: the file, if it was one.
        name: of it, or of the array.
        cropped: whether all that was given is the mouth.
    """

    video: Path | None
    talker: Talker
    name: str = ""
    cropped: bool = False

    @property
    def person(self) -> Person:
        return self.talker.person


@dataclass
class _Heard:
    """The sound of a recording on disk, its channels averaged, and what 16 kHz models hear of it.

    Attributes:
        samples: (n,) at `rate` Hz.
        level: its root mean square.
    """

    samples: Spool
    rate: int
    level: float

    def __len__(self) -> int:
        """Samples at 16 kHz."""
        return ceil(len(self.samples) * SAMPLE_RATE / self.rate)

    def part(self, start: int, stop: int) -> Tensor:
        """Samples start to stop at 16 kHz, without what lies below any voice; start is at a whole second."""
        beside = reach(self.rate) + 1
        first, last = max(0, start // SAMPLE_RATE - beside), ceil(stop / SAMPLE_RATE) + beside
        block = torch.from_numpy(self.samples[first * self.rate : last * self.rate].copy())
        heard = resample(block, self.rate, SAMPLE_RATE) if self.rate != SAMPLE_RATE else block
        return without_rumble(heard)[start - first * SAMPLE_RATE : stop - first * SAMPLE_RATE]


@dataclass
class _Recording:
    """All that is known of a recording before it is separated."""

    source: Path
    heard: _Heard
    faces: list[_Face]
    pictures: int = 0  # of the one video that it is; 0 without
    notes: list[str] = field(default_factory=list)
    made: dict[str, object] = field(default_factory=dict)  # settings, for the record


def separate_file(
    video: Path | str,
    separator: Separator,
    folder: Path | str,
    *,
    offscreen: Offscreen = 0,
    check: bool = False,
    seed: int = 0,
    detector: FaceDetector | None = None,
    stretch: int = 30,
    device: torch.device | str = "cpu",
    made: Mapping[str, object] | None = None,
    watch: Watch | None = None,
) -> SeparationReport:
    """Find every face of a video and separate its voice.

    Args:
        video: of any container that PyAV reads, with sound.
        separator: the method, on `device`.
        folder: to write to; made where missing. Files of an earlier run are replaced, all at once when the new ones are whole; no
            others are touched: where one has the name of a file to be written, that is an error.
        offscreen: talkers who are not seen, 0 or 1. "auto": 1 where someone is heard whom no visible mouth explains, which takes
            the method twice.
        check: separate it with and without an off-screen speaker, to know how sure the result is and whether someone is heard who
            is not seen; takes the method twice.
        seed: of the sampling noise.
        detector: of faces. None: the best that is installed (`avdiff.video.detectors`).
        stretch: seconds that are separated at a time.
        made: settings to be kept in tracks.json, of values that JSON has; `made_by` gives them back.
        watch: told of progress.

    Raises:
        UserError: the input cannot be separated; the sentence says why and what to change.
    """
    video, watch, folder = Path(video), watch or _ignore, Path(folder)
    _check(separator, folder, offscreen, stretch)
    if not probe(video).width:
        raise UserError(f"{video} has no picture; give a video, or --mixture {video} with one --face video a talker.")
    sound = Sound(video, libsndfile=False)
    with results_folder(folder, TRACKS, _files_of, [video]) as place:
        notes: list[str] = []
        heard = _listen(sound, place, notes)
        detector = detector or find_detector()
        faces, frames, pictures = _faces(video, detector, watch, Arrays(place.work))
        notes += [*frames.notes, *detector.notes]
        if not faces and not offscreen:
            raise UserError(
                f"No face was seen for a second or longer in {video}, so there is no one to listen to; "
                f"give --offscreen 1 to separate one unseen talker from the noise.{_besides(frames.notes)}"
            )
        recording = _Recording(video, heard, faces, pictures, notes, dict(made or {}))
        return _separate(recording, separator, place, offscreen, check, seed, stretch, device, watch)


def separate_mixture(
    mixture: Path | str,
    faces: Sequence[Path | str],
    separator: Separator,
    folder: Path | str,
    *,
    mouths: Sequence[Path | str | np.ndarray] = (),
    offscreen: Offscreen = 0,
    check: bool = False,
    seed: int = 0,
    detector: FaceDetector | None = None,
    stretch: int = 30,
    device: torch.device | str = "cpu",
    watch: Watch | None = None,
) -> SeparationReport:
    """Separate a mixture, given one video a talker that starts when the mixture starts.

    Args:
        mixture: a file with sound.
        faces: videos; of each, the person who is seen longest is the talker. Their sound is not used.
        mouths: crops of the mouths of further talkers, who come after those of `faces`: videos, or arrays (F, S, S) or
            (F, S, S, 3) of uint8 at 25 a second. Square, of any size: see `avdiff.video.crops.fit_crop`.
        separator, folder, offscreen, check, seed, detector, stretch, device, watch: see `separate_file`.

    Raises:
        UserError: the input cannot be separated; the sentence says why and what to change.
    """
    mixture, watch, folder = Path(mixture), watch or _ignore, Path(folder)
    videos = [Path(face) for face in faces]
    cropped: list[Path | np.ndarray] = [
        as_pictures(mouth, f"Mouth {k + 1}") if isinstance(mouth, np.ndarray) else Path(mouth)
        for k, mouth in enumerate(mouths)
    ]
    _check(separator, folder, offscreen, stretch)
    if not videos and not cropped and not offscreen:
        raise UserError(
            "No talker was given; give one --face video a talker, or a --mouth crop, or --offscreen 1 for one without video."
        )
    sound = Sound(mixture)
    files = [*videos, *(mouth for mouth in cropped if isinstance(mouth, Path))]
    for path in files:
        if not probe(path).width:
            raise UserError(f"{path} has no picture; give a video that shows the talker.")
    with results_folder(folder, TRACKS, _files_of, [mixture, *files]) as place:
        notes: list[str] = []
        heard = _listen(sound, place, notes)
        detector = detector or find_detector() if videos else None
        arrays = Arrays(place.work)
        talkers = []
        for path in videos:
            assert detector is not None
            found, frames, _ = _faces(path, detector, watch, arrays)
            if not found:
                raise UserError(
                    f"No face was seen for a second or longer in {path}; give a video that shows the talker."
                    f"{_besides(frames.notes)}"
                )
            talkers.append(max(found, key=lambda face: face.talker.pictures))
            notes += frames.notes
            if len(found) > 1:
                notes.append(f"{path.name} shows {len(found)} people; the one seen longest is taken as the talker.")
        talkers += [_mouth(mouth, f"mouth {k + 1}", watch, arrays, notes) for k, mouth in enumerate(cropped)]
        notes += detector.notes if detector is not None else ()
        recording = _Recording(mixture, heard, talkers, 0, notes)
        return _separate(recording, separator, place, offscreen, check, seed, stretch, device, watch)


def _ignore(stage: str, share: float) -> None:
    pass


def _check(separator: Separator, folder: Path, offscreen: Offscreen, stretch: int) -> None:
    if stretch < 1:
        raise UserError(f"Stretches of {stretch} s were asked for; give 1 or more, such as 30.")
    if offscreen not in (0, 1, AUTO):
        raise UserError(
            f"{offscreen} off-screen talkers were asked for; at most one is possible, "
            "because nothing tells apart two voices that have no face."
        )
    if separator.visual_input == "features":
        raise UserError("The method takes visual features made beforehand; for a video choose one that takes mouths.")
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} cannot be written to; give another --output.")


def _listen(sound: Sound, place: Place, notes: list[str]) -> _Heard:
    """Read the sound of a recording and average its channels.

    Raises:
        UserError: it holds what no recording does, or too little.
    """
    spool = Spool(place.work)
    power, apart, peak = 0.0, 0.0, 0.0
    for block in sound:
        mono = block.mean(0, dtype=np.float64)
        largest = float(np.abs(block).max(initial=0))
        if not largest <= LOUDEST:  # NaN is not, either
            at = (len(spool) + int(np.flatnonzero(~(np.abs(block) <= LOUDEST).all(0))[0])) / sound.rate
            what = f"reaches {largest:.1e}" if np.isfinite(largest) else "holds a value that is no finite number"
            raise UserError(
                f"The sound of {sound.path} {what} at {at:.2f} s, where full scale is 1; give a recording without such values."
            )
        peak = max(peak, float(np.abs(mono).max(initial=0)))
        power += float(np.square(mono).sum())
        apart += float(np.square(block, dtype=np.float64).mean(0).sum())
        spool.append(mono.astype(np.float32))
    if len(spool) < SHORTEST * sound.rate:
        raise UserError(
            f"The sound of {sound.path} lasts {len(spool) / sound.rate:.3f} s; "
            f"give a recording of {SHORTEST:g} s or more."
        )
    notes += [*sound.told, *sound.notes]
    level = sqrt(power / len(spool))
    if sound.channels > 1 and level < CANCELLED * sqrt(apart / len(spool)):
        notes.append(
            f"The {sound.channels} channels of the sound cancel each other, so little of it is left in their average; "
            "give a file with one of the channels."
        )
    elif level <= SILENT:
        much = f"almost silent ({20 * log10(level):.0f} dB of full scale)" if level else "silent"
        notes.append(f"The sound of {sound.path.name} is {much}, and so are the WAVs.")
    if peak > 1:
        notes.append(f"The sound exceeds full scale (peak {peak:.2f}); the WAVs keep that, as floats.")
    return _Heard(spool, sound.rate, level)


def _besides(notes: Sequence[str]) -> str:
    """What is wrong with a file, behind another sentence."""
    return "".join(f" Note that {note}." for note in notes)


def _counted(frames: VideoFrames, stage: str, watch: Watch, count: list[int]) -> Iterable[np.ndarray]:
    expected = max(1.0, probe(frames.path).seconds * VIDEO_FPS)
    count[0] = 0
    for index, frame in enumerate(frames):
        watch(stage, min(1.0, index / expected))
        count[0] += 1
        yield frame
    watch(stage, 1.0)


def _faces(video: Path, detector: FaceDetector, watch: Watch, arrays: Arrays) -> tuple[list[_Face], VideoFrames, int]:
    """Who is seen in a video, its frames with their notes, and how many there are."""
    frames, count = VideoFrames(video), [0]
    found = find_talkers(lambda stage: _counted(frames, stage, watch, count), detector, arrays.zeros)
    return [_Face(video, talker, video.name) for talker in found], frames, count[0]


def _mouth(given: Path | np.ndarray, name: str, watch: Watch, arrays: Arrays, notes: list[str]) -> _Face:
    """The talker of whom a crop of the mouth was given."""
    if isinstance(given, np.ndarray):
        return _Face(None, given_talker(lambda stage: given, name.capitalize(), arrays.zeros), name, cropped=True)
    frames, count = VideoFrames(given), [0]
    talker = given_talker(lambda stage: _counted(frames, stage, watch, count), str(given), arrays.zeros)
    notes += frames.notes
    return _Face(given, talker, given.name, cropped=True)


def _separate(
    recording: _Recording,
    separator: Separator,
    place: Place,
    offscreen: Offscreen,
    check: bool,
    seed: int,
    stretch: int,
    device: torch.device | str,
    watch: Watch,
) -> SeparationReport:
    started = time.perf_counter()
    heard, folder, faces = recording.heard, place.folder, recording.faces
    runs = [_Run(place.new, len(faces), 1 if offscreen == AUTO else int(offscreen))]
    if faces and (check or offscreen == AUTO):
        runs.append(_Run(place.work, len(faces), 1 - runs[0].offscreen))
    written = runs if offscreen == AUTO else runs[:1]
    _refuse(folder, _files(runs[0], recording), recording)

    chunked = Chunked(separator, seconds=stretch, overlap=min(2, stretch // 2))
    stretches = len(chunked.plan(len(heard)))
    lips = _lips(separator, device) if len(runs) > 1 else None
    witnesses = Witnesses(len(faces)) if len(runs) > 1 else None
    done, given, told = 0, torch.zeros(0), None

    def window(run: _Run, start: int, stop: int) -> Observation:
        nonlocal given, told
        given = heard.part(start, stop)
        observation = _observation(faces, given, start, run.layout)
        run.listened[chunked.present(observation)] |= bool(given.any())
        moved = observation.to(device)
        if lips is not None and run is runs[0]:
            told = announced(lips, moved)
        return moved

    def callback(progress: Progress) -> None:
        watch("separating", (done + progress.step / progress.steps) / (stretches * len(runs)))

    with ExitStack() as stack:
        voices = [
            stack.enter_context(_Voices([run.folder / f"{name}.wav" for name in run.names], heard)) for run in written
        ]
        noise = ClipNoise(seed, ("recording",))
        streams = [chunked.stream(partial(window, run), len(heard), rng=noise, callback=callback) for run in runs]
        for index in range(stretches):
            pieces = list[Piece]()
            for run, stream in zip(runs, streams, strict=True):
                piece = next(stream)
                pieces.append(piece)
                run.add(piece)
                done += 1
                watch("separating", done / (stretches * len(runs)))
            for writer, piece in zip(voices, pieces, strict=False):
                shared = make_consistent(piece.sources, given[: piece.sources.shape[-1]])
                writer.add(Piece(piece.start, shared), last=index + 1 == stretches)
            if witnesses is not None:
                without, beside = sorted((piece.sources for piece in pieces), key=len)
                witnesses.add(without, beside, told)
    seconds = time.perf_counter() - started

    confidence = None if witnesses is None else witnesses.judge()
    chosen = int(offscreen == AUTO and confidence is not None and not confidence.someone_unseen)
    run, levels = runs[chosen], voices[chosen].decibels()
    if chosen:
        for name in runs[0].names:
            (place.new / f"{name}.wav").unlink()
        for name in run.names:
            (run.folder / f"{name}.wav").rename(place.new / f"{name}.wav")
    sources = tuple(
        SeparatedSource(
            folder / f"{name}.wav",
            role,
            level,
            _intervals(faces[k].person) if role == SPEAKER else (),
            run.spread(k),
            tuple(confidence.voices[k].tolist()) if confidence is not None and role == SPEAKER else (),
        )
        for k, (name, role, level) in enumerate(zip(run.names, run.layout, levels, strict=True))
    )
    recording.notes += [
        f"{source.path.name} is silent: {_why(bool(heard_by))}. What was said is in noise.wav."
        for source, heard_by in zip(sources, run.listened, strict=True)
        if source.role == SPEAKER and source.decibels == float("-inf") and heard.level
    ]
    if confidence is not None:
        recording.notes += _unseen(confidence, run.offscreen, asked=offscreen != AUTO)
    watch("writing the report", 0.0)
    report = SeparationReport(folder, sources, seconds, run.evaluations, tuple(recording.notes), confidence)
    files = _files(run, recording)
    _write_tracks(place.new / TRACKS, recording, report, files)
    if recording.pictures:
        _write_preview(place.new / PREVIEW, recording, run.names)
    watch("writing the report", 0.5)
    _write_report(place.new / PAGE, recording, report, run.names, place.new)
    watch("writing the report", 1.0)
    _refuse(folder, files, recording)
    return report


class _Run:
    """One separation of a recording: with a number of off-screen speakers, into a folder.

    Attributes:
        listened: to whom, while there was sound.
    """

    def __init__(self, folder: Path, faces: int, offscreen: int) -> None:
        self.folder, self.offscreen = folder, offscreen
        self.layout: tuple[Role, ...] = (SPEAKER,) * faces + (OFFSCREEN,) * offscreen + (NOISE,)
        self.names = [f"person{k + 1}" for k in range(faces)] + [OFFSCREEN] * offscreen + [NOISE]
        self.listened = np.zeros(len(self.layout), bool)
        self.evaluations = 0
        self._power, self._spread = torch.zeros(len(self.layout)), torch.zeros(len(self.layout))

    def add(self, piece: Piece) -> None:
        self.evaluations += piece.info.get("evaluations", 0)
        self._power += piece.sources.square().sum(-1)
        if piece.std is not None:
            self._spread += piece.std.nan_to_num().square().sum(-1)

    def spread(self, source: int) -> float:
        power, spread = float(self._power[source]), float(self._spread[source])
        return 10 * math.log10(spread / power) if spread > 0 and power > 0 else math.nan


def _files(run: _Run, recording: _Recording) -> list[str]:
    return [*(f"{name}.wav" for name in run.names), TRACKS, *[PREVIEW] * bool(recording.pictures), PAGE]


def _lips(separator: Separator, device: torch.device | str) -> ConditionalDiffusionPrior | None:
    """A speech prior that says how loud a voice is from its lips: the method's own, or the one that comes with the package."""
    own = getattr(separator, "prior", None)
    prior = (
        own.priors[SPEAKER]
        if isinstance(own, JointPrior) and SPEAKER in own.priors
        else load_prior("speech").to(device)
    )
    return prior if isinstance(prior, ConditionalDiffusionPrior) else None


def _unseen(confidence: Confidence, offscreen: int, *, asked: bool) -> list[str]:
    """What to say of someone who is heard and not seen."""
    spans = " and ".join(f"from {a} to {b} s" for a, b in confidence.spans)
    if not confidence.someone_unseen or not spans:
        if offscreen and asked:
            return ["It is not likely that someone is heard who is not seen; separate it without --offscreen 1."]
        return []
    where = "it is in offscreen.wav" if offscreen else "separate it with --offscreen 1"
    return [f"A voice that is not seen is heard {spans}; {where}."]


def _why(listened: bool) -> str:
    if listened:
        return "the method found nothing of this voice in the sound"
    return "too little of the face is seen while there is sound"


def _observation(faces: list[_Face], mixture: Tensor, start: int, layout: tuple[Role, ...]) -> Observation:
    first = start // SAMPLES_PER_FRAME
    stop = first + ceil(len(mixture) / SAMPLES_PER_FRAME)
    mouths = [face.talker.mouth(first, stop) for face in faces]
    return Observation(
        key=("recording",),
        mixture=mixture[None],
        visual=torch.from_numpy(np.stack([mouth for mouth, _ in mouths]))[None] if mouths else None,
        visual_mask=torch.from_numpy(np.stack([seen for _, seen in mouths]))[None] if mouths else None,
        layout=layout,
    )


class _Voices:
    """WAVs that grow as stretches are finished; the last, of the noise, takes what is left of the recording.

    Resampling needs what comes after, so the last second that is known is held back until more is.
    """

    def __init__(self, paths: Sequence[Path], heard: _Heard) -> None:
        self.files = [WavFile(path, heard.rate) for path in paths]
        self.heard = heard
        self.rate = heard.rate
        self.beside = reach(heard.rate)
        self.written = 0
        self.first = 0  # second that `known` starts with
        self.known = torch.zeros(len(paths), 0)
        self.energy = np.zeros(len(paths))

    def __enter__(self) -> _Voices:
        return self

    def __exit__(self, *error: object) -> None:
        for file in self.files:
            file.close()

    def add(self, piece: Piece, *, last: bool) -> None:
        self.known = torch.cat([self.known, piece.sources], dim=-1)
        whole = self.first + self.known.shape[-1] // SAMPLE_RATE
        stop = len(self.heard.samples) if last else max(0, whole - self.beside) * self.rate
        if stop <= self.written and not last:
            return
        block = join_band(self.known, self.rate, stop - self.first * self.rate)
        block = block[:, self.written - self.first * self.rate :].clone()
        block[-1] = torch.from_numpy(self.heard.samples[self.written : stop].copy()) - block[:-1].sum(0)
        if not block.isfinite().all():
            span = f"seconds {self.written / self.rate:.1f} to {stop / self.rate:.1f}"
            raise NotSeparated(
                f"{span} could not be separated: the method's result is not finite; try another --method"
            )
        for file, samples in zip(self.files, block, strict=True):
            file.write(samples.numpy())
        self.energy += block.double().square().sum(-1).numpy()
        self.written = stop
        keep = max(self.first, stop // self.rate - self.beside)
        self.known, self.first = self.known[:, (keep - self.first) * SAMPLE_RATE :], keep

    def decibels(self) -> list[float]:
        power = self.energy / max(1, self.written)
        return [10 * float(np.log10(p)) if p else float("-inf") for p in power]


def _refuse(folder: Path, files: Sequence[str], recording: _Recording) -> None:
    """Refuse to write over what is an input, or was not written by a separation."""
    inputs = {recording.source.resolve(), *(face.video.resolve() for face in recording.faces if face.video)}
    earlier = _files_of(folder / TRACKS)
    for path in (folder / name for name in files):
        if path.resolve() in inputs:
            raise UserError(f"{path} is both input and output; give another --output folder.")
        if os.path.lexists(path) and path.name not in earlier:
            raise UserError(
                f"{path} is there already and was not written by a separation; move it, or give another --output."
            )


def default_folder(recording: Path, parent: Path = Path()) -> Path:
    """NAME_separated in a folder, the current one; with a number behind it where that holds the voices of another recording."""
    number, folder = 1, parent / f"{recording.stem}_separated"
    while (folder / TRACKS).exists() and _record(folder / TRACKS).get("of") != identity(recording):
        number += 1
        folder = parent / f"{recording.stem}_separated_{number}"
    return folder


def made_by(folder: Path) -> dict[str, object] | None:
    """The settings that the voices in a folder were made with, as `separate_file` was given them; None where it holds none."""
    made = _record(folder / TRACKS).get("made")
    return made if isinstance(made, dict) and earlier_files(folder) else None


def earlier_files(folder: Path) -> list[str]:
    """Names of the files that an earlier separation left in a folder, by its own account."""
    return _files_of(folder / TRACKS)


def identity(recording: Path) -> str:
    """What tells a recording from others of its name, and does not give away where it lies."""
    return hashlib.sha256(os.fsencode(recording.resolve())).hexdigest()[:16]


def _record(tracks: Path) -> dict[str, object]:
    """What an earlier run says of itself; nothing where there was no such run."""
    try:
        known = json.loads(tracks.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def _files_of(tracks: Path) -> list[str]:
    """The files that an earlier run wrote, by its own account; none where there was no such run."""
    known = _record(tracks)
    files = known.get("files")
    if not {"input", "sources"} <= set(known) or not isinstance(files, list):
        return []
    return [name for name in files if isinstance(name, str) and OURS.fullmatch(name)]


def _intervals(person: Person) -> tuple[tuple[float, float], ...]:
    seen = person.seen(max(track.stop for track in person.tracks))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    return tuple((a / VIDEO_FPS, b / VIDEO_FPS) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _write_tracks(path: Path, recording: _Recording, report: SeparationReport, files: Sequence[str]) -> None:
    entries: list[dict[str, object]] = []
    for k, source in enumerate(report.sources):
        entry: dict[str, object] = {"file": source.path.name, "role": source.role}
        if source.role == SPEAKER:
            face = recording.faces[k]
            entry["mouth" if face.cropped else "video"] = face.name
            entry["seen"] = source.seen
            if source.confidence:
                entry["confidence"] = [None if math.isnan(c) else round(c, 3) for c in source.confidence]
            if not face.cropped:
                entry["boxes"] = f"\0{k}"  # no name holds this character
        entries.append(entry)
    sure = report.confidence
    content = {
        "input": recording.source.name,
        "of": identity(recording.source),
        "rate": recording.heard.rate,
        "seconds": len(recording.heard.samples) / recording.heard.rate,
        "boxes": "seconds, left, top, right, bottom; pixels of the file, turned and stretched as it asks",
        **({} if sure is None else {"confidence": "of every second of a voice, from 0 to 1; null where it is silent"}),
        **({} if sure is None else {"unseen": _unseen_entry(sure)}),
        "sources": entries,
        "notes": report.notes,
        **({"made": recording.made} if recording.made else {}),
        "files": files,
    }
    text, *parts = re.split(r'"\\u0000(\d+)"', json.dumps(content, indent=1))
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        for number, after in zip(parts[::2], parts[1::2], strict=True):
            begin = "["
            for box in _boxes(recording.faces[int(number)].person):
                file.write(f"{begin}\n    {json.dumps(box)}")
                begin = ","
            file.write(("[" if begin == "[" else "") + "]" + after)
        file.write("\n")


def _unseen_entry(confidence: Confidence) -> dict[str, object]:
    """What is said of a speaker who is not seen: share of the power of all voices in dB, and where one is heard."""
    shares = [confidence.share, *confidence.unseen.tolist()]
    whole, *seconds = (round(share, 1) if math.isfinite(share) else None for share in shares)
    heard = confidence.spans if confidence.someone_unseen else []
    return {"share_db": whole, "seconds_db": seconds, "heard": heard}


def _boxes(person: Person) -> Iterator[list[float]]:
    """Seconds, left, top, right and bottom of every picture in which a face was seen, one at a time: there are many."""
    for track in person.tracks:
        for i in np.flatnonzero(track.seen).tolist():
            yield [(track.start + i) / VIDEO_FPS, *(round(float(edge), 1) for edge in track.box[i])]


def _write_preview(path: Path, recording: _Recording, names: Sequence[str]) -> None:
    shown = [face.person for face in recording.faces]
    frames = draw_people(VideoFrames(recording.source), shown, names[: len(shown)])
    write_video(path, frames, audio=recording.heard.samples, rate=recording.heard.rate)


def _write_report(
    path: Path, recording: _Recording, report: SeparationReport, names: Sequence[str], folder: Path
) -> None:
    rate = recording.heard.rate
    shown = min(len(recording.heard.samples), SHOWN * rate)
    signals = {"mixture": recording.heard.samples[:shown]}
    for name in names:
        signals[name] = soundfile.read(folder / f"{name}.wav", shown, dtype="float32")[0]
    signals = {name: resample(torch.from_numpy(x.copy()), rate, SAMPLE_RATE).numpy() for name, x in signals.items()}
    sure = report.confidence
    rows = [
        (
            s.path.name,
            f"{s.decibels:.1f}",
            *([] if sure is None else [f"{sure.overall(k):.2f}" if s.confidence else "–"]),
            ", ".join(f"{a:.2f}–{b:.2f} s" for a, b in s.seen) or "–",
        )
        for k, s in enumerate(report.sources)
    ]
    header = ("file", "level, dB of full scale", *([] if sure is None else ["confidence"]), "face seen")
    length = len(recording.heard.samples) / rate
    facts = f"{length:.2f} s at {rate} Hz, separated in {report.seconds:.1f} s"
    facts += f" with {report.evaluations} network evaluations a source." if report.evaluations else "."
    if shown < len(recording.heard.samples):
        facts += f" Players and spectrograms hold the first {SHOWN // 60} minutes, the WAVs all of it."
    panels = [Panel(name, signal) for name, signal in signals.items()]
    sections = [
        Section(
            "Voices",
            text=[facts, *report.notes],
            pictures=[still] if (still := _still(recording, names)) else [],
            players=[[Player(name, signal) for name, signal in signals.items()]],
            tables=[Table(header, rows)],
        ),
        Section(
            "Spectrograms",
            text=["What models hear, up to 8 kHz. All that lies above is in noise.wav."],
            pictures=[png(spectrograms([panels[i : i + 2] for i in range(0, len(panels), 2)], SAMPLE_RATE))],
        ),
    ]
    write_page(path, f"The voices of {recording.source.name}", sections, rate=SAMPLE_RATE)


def _still(recording: _Recording, names: Sequence[str]) -> bytes | None:
    """The first picture in which most faces are seen, with their names; None without a video of them all."""
    if not recording.pictures or not recording.faces:
        return None
    shown = [face.person for face in recording.faces]
    stop = max(track.stop for person in shown for track in person.tracks)
    best = int(np.sum([person.seen(stop) for person in shown], axis=0).argmax())
    frames = draw_people(VideoFrames(recording.source), shown, names[: len(shown)])
    image = next(islice(frames, best, None))
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


__all__ = [
    "SeparatedSource",
    "SeparationReport",
    "Watch",
    "default_folder",
    "earlier_files",
    "made_by",
    "separate_file",
    "separate_mixture",
]
