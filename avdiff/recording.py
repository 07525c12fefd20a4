"""From a recording to its voices: files in, files out.

`separate_file` takes a video in which the talkers are seen, `separate_mixture` a mixture and one video a talker. Both
write, into one folder,

    person1.wav, person2.wav, ...   one mono float WAV a face
    offscreen.wav                   the talker without a face, where one was asked for
    noise.wav                       all else, and everything above 8 kHz
    tracks.json                     which face is which file, and when it is seen
    preview.mp4                     the video with a named box around every face (only for one video)
    report.html                     players, spectrograms and figures, in one file

All WAVs have the rate, the start and the length of the input's sound, and add up to it (its channels averaged).
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from pathlib import Path

import cv2
import numpy as np
import soundfile
import torch
from torch import Tensor

from avdiff.audio.consistency import make_consistent
from avdiff.audio.io import join_band, read_audio, resample, split_band
from avdiff.errors import UserError
from avdiff.files import whole
from avdiff.report.figures import Panel, png, spectrograms
from avdiff.report.page import Player, Section, Table, write_page
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Progress
from avdiff.separators.base import Separator
from avdiff.separators.chunked import Chunked, Piece
from avdiff.types import NOISE, OFFSCREEN, SAMPLE_RATE, SAMPLES_PER_FRAME, SPEAKER, VIDEO_FPS, Observation, Role
from avdiff.video.decode import VideoFrames, probe, read_track
from avdiff.video.faces import DlibFaces, FaceDetector
from avdiff.video.mux import draw_people, write_video
from avdiff.video.talkers import Talker, find_talkers
from avdiff.video.tracking import Person

Watch = Callable[[str, float], None]  # told of every stage by its name, and the share of it that is done, 0 to 1

SHORTEST = 0.1  # s of sound
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
    """

    path: Path
    role: Role
    decibels: float
    seen: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class SeparationReport:
    """What was made of a recording.

    Attributes:
        folder: that everything was written to.
        sources: people in order of appearance, then the off-screen talker, then the noise.
        seconds: of computing.
        evaluations: of the networks, a source; 0 from a method that does not count.
        notes: what a listener should know, in sentences.
    """

    folder: Path
    sources: tuple[SeparatedSource, ...]
    seconds: float
    evaluations: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Face:
    """One talker that is seen: where, in which video, and the mouth."""

    video: Path
    talker: Talker

    @property
    def person(self) -> Person:
        return self.talker.person


@dataclass
class _Recording:
    """All that is known of a recording before it is separated."""

    source: Path
    mixture: np.ndarray  # (n,) mono
    rate: int
    faces: list[_Face]
    notes: list[str] = field(default_factory=list)


def separate_file(
    video: Path | str,
    separator: Separator,
    folder: Path | str,
    *,
    offscreen: int = 0,
    seed: int = 0,
    detector: FaceDetector | None = None,
    stretch: int = 30,
    device: torch.device | str = "cpu",
    watch: Watch | None = None,
) -> SeparationReport:
    """Find every face of a video and separate its voice.

    Args:
        video: of any container that PyAV reads, with sound.
        separator: the method, on `device`.
        folder: to write to; made where missing. Files of an earlier run are replaced, no others are touched: where one has the
            name of a file to be written, that is an error.
        offscreen: talkers who are not seen, 0 or 1.
        seed: of the sampling noise.
        detector: of faces. None: the one that works without a download.
        stretch: seconds that are separated at a time.
        watch: told of progress.

    Raises:
        UserError: the input cannot be separated; the sentence says why and what to change.
    """
    video, watch = Path(video), watch or _ignore
    _check(separator, Path(folder), offscreen, stretch)
    media = probe(video)
    if not media.width:
        raise UserError(f"{video} has no picture; give a video, or --mixture {video} with one --face video a talker.")
    samples, rate, notes = read_track(video)
    faces, frames = _faces(video, detector or DlibFaces(), watch)
    if not faces and not offscreen:
        raise UserError(
            f"No face was seen for a second or longer in {video}, so there is no one to listen to; "
            "give --offscreen 1 to separate one unseen talker from the noise."
        )
    recording = _Recording(video, _mono(samples, notes), rate, faces, notes + frames.notes)
    return _separate(recording, separator, Path(folder), offscreen, seed, stretch, device, watch)


def separate_mixture(
    mixture: Path | str,
    faces: Sequence[Path | str],
    separator: Separator,
    folder: Path | str,
    *,
    offscreen: int = 0,
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
        separator, folder, offscreen, seed, detector, stretch, device, watch: see `separate_file`.

    Raises:
        UserError: the input cannot be separated; the sentence says why and what to change.
    """
    mixture, watch = Path(mixture), watch or _ignore
    _check(separator, Path(folder), offscreen, stretch)
    if not faces and not offscreen:
        raise UserError("No talker was given; give one --face video a talker, or --offscreen 1 for one without video.")
    notes: list[str] = []
    samples, rate = read_audio(mixture, notes)
    mono = _mono(samples, notes)
    detector = detector or DlibFaces() if faces else None
    talkers = []
    for path in map(Path, faces):
        assert detector is not None
        found, frames = _faces(path, detector, watch)
        if not found:
            raise UserError(f"No face was seen for a second or longer in {path}; give a video that shows the talker.")
        talkers.append(max(found, key=lambda face: face.talker.pictures))
        notes += frames.notes
        if len(found) > 1:
            notes.append(f"{path.name} shows {len(found)} people; the one seen longest is taken as the talker.")
    recording = _Recording(mixture, mono, rate, talkers, notes)
    return _separate(recording, separator, Path(folder), offscreen, seed, stretch, device, watch)


def _ignore(stage: str, share: float) -> None:
    pass


def _check(separator: Separator, folder: Path, offscreen: int, stretch: int) -> None:
    if stretch < 1:
        raise UserError(f"Stretches of {stretch} s were asked for; give 1 or more, such as 30.")
    if offscreen not in (0, 1):
        raise UserError(
            f"{offscreen} off-screen talkers were asked for; at most one is possible, "
            "because nothing tells apart two voices that have no face."
        )
    if separator.visual_input == "features":
        raise UserError("The method takes visual features made beforehand; for a video choose one that takes mouths.")
    there = next(part for part in (folder, *folder.absolute().parents) if part.exists())
    if there.is_dir() and not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"{there} cannot be written to; give another --output.")


def _mono(samples: np.ndarray, notes: list[str]) -> np.ndarray:
    """The average of the channels, (channels, n) -> (n,)."""
    mono = samples.mean(0)
    if len(samples) > 1 and _rms(mono) < CANCELLED * _rms(samples):
        notes.append(
            f"The {len(samples)} channels of the sound cancel each other, so little of it is left in their average; "
            "give a file with one of the channels."
        )
    if np.abs(mono).max() > 1:
        notes.append(f"The sound exceeds full scale (peak {np.abs(mono).max():.2f}); the WAVs keep that, as floats.")
    return mono


def _rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(samples, dtype=np.float64))))


def _counted(frames: VideoFrames, stage: str, watch: Watch) -> Iterable[np.ndarray]:
    expected = max(1.0, probe(frames.path).seconds * VIDEO_FPS)
    for index, frame in enumerate(frames):
        watch(stage, min(1.0, index / expected))
        yield frame
    watch(stage, 1.0)


def _faces(video: Path, detector: FaceDetector, watch: Watch) -> tuple[list[_Face], VideoFrames]:
    frames = VideoFrames(video)
    found = find_talkers(lambda stage: _counted(frames, stage, watch), detector)
    return [_Face(video, talker) for talker in found], frames


def _separate(
    recording: _Recording,
    separator: Separator,
    folder: Path,
    offscreen: int,
    seed: int,
    stretch: int,
    device: torch.device | str,
    watch: Watch,
) -> SeparationReport:
    started = time.perf_counter()
    if len(recording.mixture) < SHORTEST * recording.rate:
        raise UserError(
            f"The sound of {recording.source} lasts {len(recording.mixture) / recording.rate:.3f} s; "
            f"give a recording of {SHORTEST:g} s or more."
        )
    layout: tuple[Role, ...] = (SPEAKER,) * len(recording.faces) + (OFFSCREEN,) * offscreen + (NOISE,)
    names = [f"person{k + 1}" for k in range(len(recording.faces))] + [OFFSCREEN] * offscreen + [NOISE]
    paths = [folder / f"{name}.wav" for name in names]
    _prepare(folder, paths, recording)

    heard, rest = split_band(torch.from_numpy(recording.mixture), recording.rate)
    chunked = Chunked(separator, seconds=stretch, overlap=min(2, stretch // 2))
    stretches = len(chunked.plan(len(heard)))
    evaluations, pieces = 0, 0

    def window(start: int, stop: int) -> Observation:
        return _observation(recording.faces, heard[start:stop], start, layout).to(device)

    def callback(progress: Progress) -> None:
        watch("separating", (pieces + progress.step / progress.steps) / stretches)

    with _Voices(paths, rest, recording.rate) as voices:
        noise = ClipNoise(seed, ("recording",))
        for piece in chunked.stream(window, len(heard), rng=noise, callback=callback):
            pieces += 1
            evaluations += piece.info.get("evaluations", 0)
            mixture = heard[piece.start : piece.start + piece.sources.shape[-1]]
            voices.add(Piece(piece.start, make_consistent(piece.sources, mixture)), last=pieces == stretches)
            watch("separating", pieces / stretches)
    seconds = time.perf_counter() - started

    sources = tuple(
        SeparatedSource(path, role, level, _intervals(recording.faces[k].person) if role == SPEAKER else ())
        for k, (path, role, level) in enumerate(zip(paths, layout, voices.decibels(), strict=True))
    )
    recording.notes += [
        f"{source.path.name} is silent: too little of the face is seen while there is sound. What was said is in noise.wav."
        for source in sources
        if source.role == SPEAKER and source.decibels == float("-inf")
    ]
    watch("writing the report", 0.0)
    report = SeparationReport(folder, sources, seconds, evaluations, tuple(recording.notes))
    _write_tracks(folder / TRACKS, recording, report)
    if _is_one_video(recording):
        _write_preview(folder / PREVIEW, recording, names)
    watch("writing the report", 0.5)
    _write_report(folder / PAGE, recording, report, names)
    watch("writing the report", 1.0)
    return report


def _is_one_video(recording: _Recording) -> bool:
    return bool(probe(recording.source).width) and all(face.video == recording.source for face in recording.faces)


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
    """WAVs that grow as stretches are finished.

    Resampling needs what comes after, so the last second that is known is held back until more is.
    """

    def __init__(self, paths: Sequence[Path], rest: Tensor, rate: int) -> None:
        try:
            self.files = [soundfile.SoundFile(path, "w", rate, 1, "FLOAT", format="WAV") for path in paths]
        except soundfile.LibsndfileError as error:
            raise UserError(f"A WAV cannot be written: {error} Give another --output folder.") from error
        self.rest = rest
        self.rate = rate
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
        stop = len(self.rest) if last else max(0, whole - 1) * self.rate
        block = join_band(self.known, self.rate, stop - self.first * self.rate)
        block = block[:, self.written - self.first * self.rate :].clone()
        block[-1] += self.rest[self.written : stop]
        for file, samples in zip(self.files, block, strict=True):
            file.write(samples.numpy())
            file.flush()
        self.energy += block.double().square().sum(-1).numpy()
        self.written = stop
        keep = max(self.first, stop // self.rate - 1)
        self.known, self.first = self.known[:, (keep - self.first) * SAMPLE_RATE :], keep

    def decibels(self) -> list[float]:
        power = self.energy / max(1, self.written)
        return [10 * float(np.log10(p)) if p else float("-inf") for p in power]


def _prepare(folder: Path, paths: Sequence[Path], recording: _Recording) -> None:
    """Make the folder, remove what an earlier run left, and refuse to write over what is not of one."""
    mine = [*paths, folder / TRACKS, folder / PREVIEW, folder / PAGE]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder} cannot be made a folder ({error.strerror}); give another --output.") from error
    inputs = {recording.source.resolve(), *(face.video.resolve() for face in recording.faces)}
    earlier = _files_of(folder / TRACKS)
    for path in mine:
        if path.resolve() in inputs:
            raise UserError(f"{path} is both input and output; give another --output folder.")
        if path.exists() and path.name not in earlier:
            raise UserError(
                f"{path} is there already and was not written by a separation; move it, or give another --output."
            )
    for name in earlier:
        if (folder / name).resolve() not in inputs:
            (folder / name).unlink(missing_ok=True)
    _write_json(folder / TRACKS, {"input": recording.source.name, "sources": [], "files": [path.name for path in mine]})


def _files_of(tracks: Path) -> list[str]:
    """The files that an earlier run wrote, by its own account; none where there was no such run."""
    try:
        known = json.loads(tracks.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    if not isinstance(known, dict) or not {"input", "sources", "files"} <= set(known):
        return []
    return [name for name in known["files"] if isinstance(name, str) and OURS.fullmatch(name)]


def _write_json(path: Path, content: object) -> None:
    text = json.dumps(content, indent=1)
    text = re.sub(r"\[[-\d.,\s]+\]", lambda numbers: re.sub(r"\s+", " ", numbers[0]), text)  # a box a line
    with whole(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def _intervals(person: Person) -> tuple[tuple[float, float], ...]:
    seen = person.seen(max(track.stop for track in person.tracks))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], seen.astype(np.int8), [0]])))
    return tuple((a / VIDEO_FPS, b / VIDEO_FPS) for a, b in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def _write_tracks(path: Path, recording: _Recording, report: SeparationReport) -> None:
    entries: list[dict[str, object]] = []
    for k, source in enumerate(report.sources):
        entry: dict[str, object] = {"file": source.path.name, "role": source.role}
        if source.role == SPEAKER:
            face = recording.faces[k]
            entry["video"] = face.video.name
            entry["seen"] = source.seen
            entry["boxes"] = [
                [(track.start + i) / VIDEO_FPS, *(round(float(edge), 1) for edge in track.box[i])]
                for track in face.person.tracks
                for i in np.flatnonzero(track.seen).tolist()
            ]
        entries.append(entry)
    files = [source.path.name for source in report.sources] + [TRACKS, PAGE]
    content = {
        "input": recording.source.name,
        "rate": recording.rate,
        "seconds": len(recording.mixture) / recording.rate,
        "boxes": "seconds, left, top, right, bottom; pixels of the file, turned as it asks",
        "sources": entries,
        "notes": report.notes,
        "files": files + [PREVIEW] * _is_one_video(recording),
    }
    _write_json(path, content)


def _write_preview(path: Path, recording: _Recording, names: Sequence[str]) -> None:
    shown = [face.person for face in recording.faces]
    frames = draw_people(VideoFrames(recording.source), shown, names[: len(shown)])
    write_video(path, frames, audio=recording.mixture, rate=recording.rate)


def _write_report(path: Path, recording: _Recording, report: SeparationReport, names: Sequence[str]) -> None:
    signals = {"mixture": resample(torch.from_numpy(recording.mixture), recording.rate, SAMPLE_RATE).numpy()}
    for name, source in zip(names, report.sources, strict=True):
        samples, rate = soundfile.read(source.path, dtype="float32")
        signals[name] = resample(torch.from_numpy(samples), rate, SAMPLE_RATE).numpy()
    rows = [
        (s.path.name, f"{s.decibels:.1f}", ", ".join(f"{a:.2f}–{b:.2f} s" for a, b in s.seen) or "–")
        for s in report.sources
    ]
    length = len(recording.mixture) / recording.rate
    facts = f"{length:.2f} s at {recording.rate} Hz, separated in {report.seconds:.1f} s"
    facts += f" with {report.evaluations} network evaluations a source." if report.evaluations else "."
    panels = [Panel(name, signal) for name, signal in signals.items()]
    sections = [
        Section(
            "Voices",
            text=[facts, *report.notes],
            pictures=[still] if (still := _still(recording, names)) else [],
            players=[[Player(name, signal) for name, signal in signals.items()]],
            tables=[Table(("file", "level, dB of full scale", "face seen"), rows)],
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
    if not _is_one_video(recording) or not recording.faces:
        return None
    shown = [face.person for face in recording.faces]
    stop = max(track.stop for person in shown for track in person.tracks)
    best = int(np.sum([person.seen(stop) for person in shown], axis=0).argmax())
    frames = draw_people(VideoFrames(recording.source), shown, names[: len(shown)])
    image = next(islice(frames, best, None))
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()


__all__ = ["SeparatedSource", "SeparationReport", "Watch", "separate_file", "separate_mixture"]
