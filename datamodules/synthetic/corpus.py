"""The embedded corpus: talkers and noises of a split, generated in parallel and kept in a cache folder.

Clip i of a split is always the same clip: asking for more later makes only the clips that are missing.

    <cache>/speech_<split>/   audio.npy int16 (N, 64000), mouth.npy uint8 (N, 100, 96, 96), phonemes.npy uint8 (N, 100),
                              meta.jsonl (one line a clip)
    <cache>/noise_<split>/    audio.npy int16 (N, 64000), meta.jsonl
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from avdiff.extras import need
from avdiff.files import naming, whole
from datamodules.synthetic.natural import draw_natural_spec, make_natural_clip
from datamodules.synthetic.noises import NOISE_SPLITS, make_noise
from datamodules.synthetic.process import Process
from datamodules.synthetic.sentences import SPLITS
from datamodules.synthetic.store import GrowingArray, locked
from datamodules.synthetic.talkers import ClipSpec, TalkerClip, draw_spec, make_clip

VERSION = "1"  # of the generators: another one gives other clips, and a cache of its own
_BATCH = 16  # clips between two writes

Progress = Callable[[int, int], None]  # clips there, clips wanted
Shapes = Mapping[str, tuple[tuple[int, ...], type[np.generic]]]
Made = tuple[dict[str, np.ndarray], dict[str, Any]]
SHAPES: Shapes = {  # of one talker's clip
    "audio": ((64000,), np.int16),
    "mouth": ((100, 96, 96), np.uint8),
    "phonemes": ((100,), np.uint8),
}


@dataclass(frozen=True)
class Corpus:
    """Clips on disk.

    Attributes:
        folder: that holds them.
        clips: how many were asked for; the folder may hold more.
    """

    folder: Path
    clips: int

    @property
    def audio(self) -> np.ndarray:
        """(N, 64000) int16 at 16 kHz."""
        return self._load("audio")

    @property
    def meta(self) -> list[dict[str, Any]]:
        """What is known of every clip."""
        with (self.folder / "meta.jsonl").open() as lines:
            return [json.loads(line) for _, line in zip(range(self.clips), lines, strict=False)]

    def _load(self, name: str) -> np.ndarray:
        return np.load(self.folder / f"{name}.npy", mmap_mode="r")[: self.clips]


class SpeechCorpus(Corpus):
    """Talkers, heard and seen."""

    @property
    def mouth(self) -> np.ndarray:
        """(N, 100, 96, 96) uint8 at 25 fps."""
        return self._load("mouth")

    @property
    def phonemes(self) -> np.ndarray:
        """(N, 100) uint8, indices in `visemes.PHONEMES`."""
        return self._load("phonemes")


class NoiseCorpus(Corpus):
    """Noises."""


def cache_folder() -> Path:
    """Where generated clips are kept: $AVDIFF_CACHE, or ~/.cache/avdiff."""
    root = os.environ.get("AVDIFF_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "avdiff") / "synthetic" / VERSION


def speech_corpus(
    split: str,
    clips: int,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SpeechCorpus:
    """The first `clips` talkers of a split, 4 s each; those that the cache lacks are generated.

    Args:
        split: "train", "val" or "test": no voice, face or sentence is in two of them.
        clips: how many.
        cache: folder; None for `cache_folder()`.
        workers: processes; None for one a core.
        progress: called with (clips there, clips wanted).
    """
    _check(split, SPLITS, clips)
    folder = (cache or cache_folder()) / f"speech_{split}"
    fill(folder, SHAPES, _Talkers(split), clips, workers, progress)
    return SpeechCorpus(folder, clips)


def natural_corpus(
    split: str,
    clips: int,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SpeechCorpus:
    """The first `clips` natural voices of a split, 4 s each, in `natural_<split>`; files as of `speech_corpus`.

    Args:
        split, clips, cache, workers, progress: see `speech_corpus`.

    Raises:
        UserError: clips are missing and the voices are not installed.
    """
    _check(split, SPLITS, clips)
    folder = (cache or cache_folder()) / f"natural_{split}"
    fill(folder, SHAPES, _Naturals(split), clips, workers, progress)
    return SpeechCorpus(folder, clips)


def noise_corpus(
    split: str,
    clips: int,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> NoiseCorpus:
    """The first `clips` noises of a split, 4 s each.

    Args:
        split: "train", "val", "test" (the kinds of training with other seeds) or "unmatched" (other kinds).
        clips, cache, workers, progress: see `speech_corpus`.
    """
    _check(split, NOISE_SPLITS, clips)
    folder = (cache or cache_folder()) / f"noise_{split}"
    fill(folder, {"audio": ((64000,), np.int16)}, _Noises(split), clips, workers, progress)
    return NoiseCorpus(folder, clips)


def _check(split: str, splits: Sequence[str], clips: int) -> None:
    if split not in splits:
        raise ValueError(f"split is {split!r}; expected one of {', '.join(splits)}")
    if clips < 1:
        raise ValueError(f"{clips} clips were asked for; ask for at least one")


def _pcm(audio: np.ndarray) -> np.ndarray:
    return np.round(audio * 32767).astype(np.int16)


def talker(spec: ClipSpec, make: Callable[[ClipSpec], TalkerClip] = make_clip) -> Made:
    """A talker's clip as it is stored."""
    clip = make(spec)
    arrays = {"audio": _pcm(clip.audio), "mouth": clip.mouth, "phonemes": clip.phonemes}
    return arrays, asdict(clip.spec) | {"sentences": clip.sentences, "transcript": clip.transcript}


@dataclass(frozen=True)
class _Talkers:
    split: str

    def __call__(self, index: int) -> Made:
        return talker(draw_spec(f"{index:06d}", self.split))


@dataclass(frozen=True)
class _Naturals:
    split: str

    def __call__(self, index: int) -> Made:
        return talker(draw_natural_spec(f"{index:06d}", self.split), make_natural_clip)


@dataclass(frozen=True)
class _Noises:
    split: str

    def __call__(self, index: int) -> Made:
        clip = make_noise(self.split, index)
        return {"audio": _pcm(clip.audio)}, {"kind": clip.kind}


def fill(
    folder: Path,
    shapes: Shapes,
    make: Callable[[int], Made],
    clips: int,
    workers: int | None,
    progress: Progress | None,
) -> None:
    """Make what a folder of clips lacks, in parallel.

    Args:
        folder: to fill.
        shapes: of a clip's arrays.
        make: gives clip i; it can be pickled.
        clips: how many there shall be.
        workers: processes; None for one a core.
        progress: called with (clips there, clips wanted).
    """
    if _whole(folder, shapes) >= clips:
        return  # whoever is making more meanwhile need not be waited for
    with locked(folder):
        have = _whole(folder, shapes)
        arrays = {name: GrowingArray(folder / f"{name}.npy", *shape) for name, shape in shapes.items()}
        for array in arrays.values():
            array.resize(have)
        meta = folder / "meta.jsonl"
        known = _lines(meta)[:have]
        with whole(meta) as partial:
            partial.write_bytes(b"".join(known))
        made = _make(make, range(have, clips), workers or os.cpu_count() or 1)
        for start in range(have, clips, _BATCH):
            batch = [next(made) for _ in range(min(_BATCH, clips - start))]
            for name, array in arrays.items():
                array.append(np.stack([clip[name] for clip, _ in batch]))
            with naming(meta), meta.open("a") as out:
                out.writelines(json.dumps(about) + "\n" for _, about in batch)
            if progress:
                progress(start + len(batch), clips)


def _lines(file: Path) -> list[bytes]:
    """The lines before the first that is cut off or damaged."""
    lines = file.read_bytes().splitlines(keepends=True) if file.exists() else []
    return list(takewhile(_sound, lines))


def _sound(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _whole(folder: Path, shapes: Shapes) -> int:
    """Clips of which every file has its part: a killed run may have counted its last ones in some files only, and a full disk
    or a broken copy may have left a file damaged."""
    counts = [len(GrowingArray(folder / f"{name}.npy", *shape)) for name, shape in shapes.items()]
    return min(*counts, len(_lines(folder / "meta.jsonl")))


def _make(make: Callable[[int], Made], indices: range, workers: int) -> Iterator[Made]:
    workers = min(workers, len(indices))
    if workers == 1:
        yield from map(make, indices)
        return
    need("cv2")  # here, where it can be told: the processes have nobody to tell
    idle: SimpleQueue[Process] = SimpleQueue()
    for _ in range(workers):
        idle.put(Process("datamodules.synthetic.worker"))

    def ask(index: int) -> Made:
        process = idle.get()
        try:
            return process((make, index))
        finally:
            idle.put(process)

    with ThreadPoolExecutor(workers) as pool:
        for start in range(0, len(indices), _BATCH):  # a batch at a time: finished clips wait in memory
            yield from pool.map(ask, indices[start : start + _BATCH])
