"""What training mixtures are made of: clips of talkers and of noise, wherever they are kept."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from avdiff.errors import UserError, at_least
from avdiff.types import SAMPLES_PER_FRAME
from datamodules.clips import ClipFolder
from datamodules.ledger import lines
from datamodules.packed import located
from datamodules.packs import Pack
from datamodules.synthetic.corpus import noise_corpus, speech_corpus


class Parts(ABC):
    """Clips of one split, of which any stretch is read.

    Attributes:
        people: (N, M) text: what tells the talker of each clip from others, such as voice and face. Talkers differ where all
            of it does. Clips whose talker is not named count as one person's.
        frames: (N,) length at 25 fps.
        shape: of one frame of what is seen.
        dtype: of it.
    """

    people: np.ndarray
    frames: np.ndarray
    shape: tuple[int, ...] = (96, 96)
    dtype: type[np.generic] = np.uint8

    def __len__(self) -> int:
        return len(self.frames)

    @abstractmethod
    def audio(self, clip: int, start: int, frames: int) -> np.ndarray:
        """(T,) float32 at 16 kHz from a frame on."""

    @abstractmethod
    def seen(self, clip: int, start: int, frames: int) -> np.ndarray:
        """(F,) bool; nothing where the clip has no video."""

    @abstractmethod
    def visual(self, clip: int, start: int, frames: int) -> np.ndarray:
        """(F, *shape) of a clip with video."""


class PackParts(Parts):
    """Clips of a pack.

    Args:
        pack: whose.
        features: feature set that is seen instead of the mouth crops.
    """

    def __init__(self, pack: Pack, features: str | None = None) -> None:
        self.pack, self.features = pack, features
        self.frames = pack.samples // SAMPLES_PER_FRAME
        named = {line["id"]: str(line.get("speaker") or pack.folder) for _, _, line in lines(pack.folder, "manifest")}
        self.people = np.array([[named[clip]] for clip in pack.ids.tolist()])
        if features is not None:
            self.shape, self.dtype = (int(pack.feature_card(features)["dim"]),), np.float16

    def audio(self, clip: int, start: int, frames: int) -> np.ndarray:
        return self.pack.audio(clip, start * SAMPLES_PER_FRAME, frames * SAMPLES_PER_FRAME)

    def seen(self, clip: int, start: int, frames: int) -> np.ndarray:
        return self.pack.seen(clip, start, frames)

    def visual(self, clip: int, start: int, frames: int) -> np.ndarray:
        if self.features is None:
            return self.pack.mouth(clip, start, frames)
        return self.pack.features(clip, self.features, start, frames)


class FolderParts(Parts):
    """Clips of a clip folder (see `datamodules.clips`).

    Args:
        folder: whose.
        clips: only the first so many; None for all.
        skip: leave out so many of these at the start.
        video: whether it is looked for.
    """

    def __init__(self, folder: Path, clips: int | None = None, skip: int = 0, video: bool = True) -> None:
        self.clips = ClipFolder(folder, 0.0, False, clips, video, skip)
        stop = skip + len(self.clips)
        lengths = self.clips.lengths
        samples = np.full(stop, self.clips.audio.shape[1]) if lengths is None else np.asarray(lengths[:stop])
        self.skip, self.frames = skip, samples[skip:] // SAMPLES_PER_FRAME
        about = folder / "meta.jsonl"
        if video and about.is_file():
            try:
                with about.open(encoding="utf-8") as told:
                    meta = [json.loads(line) for _, line in zip(range(stop), told, strict=False)][skip:]
                self.people = np.array([[f"voice {of['voice']['variant']}", f"face {of['face']}"] for of in meta])
            except (ValueError, LookupError, TypeError) as error:
                raise UserError(f"{about} is damaged ({error}); make the clips again") from error
            if len(self.people) < len(self.frames):
                raise UserError(
                    f"{about} tells of {skip + len(self.people)} clips, of {stop} there are; make the clips again"
                )
        else:
            self.people = np.full((len(self.frames), 1), str(folder))

    def audio(self, clip: int, start: int, frames: int) -> np.ndarray:
        stretch = slice(start * SAMPLES_PER_FRAME, (start + frames) * SAMPLES_PER_FRAME)
        return self.clips.audio[self.skip + clip, stretch].astype(np.float32) / 32768

    def seen(self, clip: int, start: int, frames: int) -> np.ndarray:
        if self.clips.mouth is None:
            return np.zeros(0, bool)
        known = self.clips.seen
        return np.ones(frames, bool) if known is None else known[self.skip + clip, start : start + frames]

    def visual(self, clip: int, start: int, frames: int) -> np.ndarray:
        assert self.clips.mouth is not None
        return self.clips.mouth[self.skip + clip, start : start + frames]


class Source(ABC):
    """Where clips are, before anything is read.

    Attributes:
        repeat: how often a clip is drawn for each time that one of another source is.
    """

    repeat: int

    def prepare(self) -> None:  # noqa: B027 - most are there
        """Make the clips, where they are made."""

    @abstractmethod
    def open(self, split: str) -> Parts:
        """The clips of "train" or "val".

        Raises:
            UserError: they are not there.
        """


@dataclass(frozen=True)
class Prepared(Source):
    """A folder that `avdiff prepare` left: a pack, or clip folders `train` and `val`.

    Args:
        folder: of it, or its name in $AVDIFF_DATA.
        features: of a pack: the visual feature set that is given instead of mouth crops.
        repeat: see `Source`.
    """

    folder: Path
    features: str | None = None
    repeat: int = 1

    def __post_init__(self) -> None:
        at_least(1, repeat=self.repeat)

    def open(self, split: str) -> Parts:
        folder = located(self.folder)
        if (folder / "pack.json").is_file():
            return PackParts(Pack(folder, split), self.features)
        if (folder / split / "audio.npy").is_file() and self.features is None:
            return FolderParts(folder / split)
        raise UserError(
            f"{folder} holds no prepared clips{' with features' if self.features else ''} (neither pack.json nor "
            f"{split}/audio.npy); make them with avdiff prepare, or give their folder"
        )


@dataclass(frozen=True)
class EmbeddedTalkers(Source):
    """The talkers of the embedded corpus; generated on first use.

    Args:
        clips: training clips.
        skip: leave out so many of these at the start (see `datamodules.clips.CleanClips`).
        val_clips: validation clips.
        generators: processes that generate them; None for one a core.
        repeat: see `Source`.
    """

    clips: int = 7500
    skip: int = 2500
    val_clips: int = 48
    generators: int | None = None
    repeat: int = 1

    def __post_init__(self) -> None:
        at_least(1, clips=self.clips, val_clips=self.val_clips, generators=self.generators, repeat=self.repeat)
        at_least(0, skip=self.skip)

    def prepare(self) -> None:
        for split, clips in (("train", self.clips), ("val", self.val_clips)):
            speech_corpus(split, clips, workers=self.generators)

    def open(self, split: str) -> Parts:
        clips, skip = (self.clips, self.skip) if split == "train" else (self.val_clips, 0)
        return FolderParts(speech_corpus(split, clips, workers=self.generators).folder, clips, skip)


@dataclass(frozen=True)
class EmbeddedNoises(Source):
    """The noises of the embedded corpus; generated on first use.

    Args:
        clips, val_clips, generators, repeat: see `EmbeddedTalkers`.
    """

    clips: int = 6000
    val_clips: int = 48
    generators: int | None = None
    repeat: int = 1

    def __post_init__(self) -> None:
        at_least(1, clips=self.clips, val_clips=self.val_clips, generators=self.generators, repeat=self.repeat)

    def prepare(self) -> None:
        for split, clips in (("train", self.clips), ("val", self.val_clips)):
            noise_corpus(split, clips, workers=self.generators)

    def open(self, split: str) -> Parts:
        clips = self.clips if split == "train" else self.val_clips
        return FolderParts(noise_corpus(split, clips, workers=self.generators).folder, clips, video=False)


@dataclass
class Pool:
    """Several sources as one, each clip as often as its source says.

    Args:
        parts: with how often.
    """

    parts: list[tuple[Parts, int]]
    ends: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.ends = np.cumsum([len(part) * repeat for part, repeat in self.parts])

    def draw(self, rng: np.random.Generator) -> tuple[Parts, int]:
        """A clip."""
        place = int(rng.integers(self.ends[-1]))
        which = int(np.searchsorted(self.ends, place, side="right"))
        part, _ = self.parts[which]
        return part, (place - int(self.ends[which - 1] if which else 0)) % len(part)
