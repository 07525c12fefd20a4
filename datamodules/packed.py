"""Packs as training data: crops of prepared clips, with lips where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avdiff.errors import UserError, at_least
from avdiff.types import SAMPLES_PER_FRAME, VIDEO_FPS
from datamodules.clips import UNKNOWN, padded
from datamodules.packs import Pack
from datamodules.sampling import TrainingClips


def data_folder() -> Path:
    """Where prepared data sets are: $AVDIFF_DATA, or `data` in the current folder."""
    return Path(os.environ.get("AVDIFF_DATA") or "data")


def located(folder: Path) -> Path:
    """A prepared folder: the path as it is, or of that name in `data_folder()`.

    Raises:
        UserError: it is neither.
    """
    for path in (Path(folder), data_folder() / folder):
        if path.is_dir():
            return path
    raise UserError(
        f"there is no folder {folder}, nor {data_folder() / folder}; give the folder that avdiff prepare left, or set "
        "AVDIFF_DATA to the folder that holds such folders"
    )


class PackCrops(Dataset[dict[str, Tensor]]):
    """Crops of a pack's clips, as dicts `audio` (T,) and, with video, `visual` (F, ...), `seen` (F,), `phonemes` (F,).

    A clip that is shorter than a crop is padded with silence, unseen, at its end. Phonemes are unknown.

    Args:
        pack: that is read.
        seconds: of a crop.
        random: cut anywhere, on a video frame; else from the start.
        video: give what is seen too.
        features: name of the feature set that is `visual`; None for mouth crops (96, 96).
        clips: only the first so many; None for all.

    Raises:
        UserError: there is no such feature set, or it lacks clips.
    """

    def __init__(
        self,
        pack: Pack,
        seconds: float,
        random: bool,
        video: bool = True,
        features: str | None = None,
        clips: int | None = None,
    ) -> None:
        self.pack, self.frames, self.random = pack, round(seconds * VIDEO_FPS), random
        self.video, self.features = video, features
        self.count = len(pack) if clips is None else min(clips, len(pack))
        if video and features is not None and len(missing := pack.without_features(features)):
            raise UserError(
                f"the feature set {features!r} of {pack.folder} lacks {len(missing)} of {len(pack)} clips, such as "
                f"{pack.ids[missing[0]]}; run avdiff prepare features again, which adds them"
            )

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, row: int) -> dict[str, Tensor]:
        length = int(self.pack.frames[row]) if self.video else int(self.pack.samples[row]) // SAMPLES_PER_FRAME
        spare = max(0, length - self.frames)
        start = int(torch.randint(spare + 1, ())) if self.random else 0
        frames = min(self.frames, length)
        audio = self.pack.audio(row, start * SAMPLES_PER_FRAME, frames * SAMPLES_PER_FRAME)
        crop = {"audio": torch.from_numpy(padded(audio, self.frames * SAMPLES_PER_FRAME))}
        if self.video:
            visual = (
                self.pack.mouth(row, start, frames)
                if self.features is None
                else self.pack.features(row, self.features, start, frames)
            )
            crop["visual"] = torch.from_numpy(padded(visual, self.frames))
            crop["seen"] = torch.from_numpy(padded(self.pack.seen(row, start, frames), self.frames))
            crop["phonemes"] = torch.from_numpy(np.full(self.frames, UNKNOWN, np.uint8))
        return crop


class PackedClips(TrainingClips):
    """Clean signals of a prepared data set: the splits `train` and `val` of a pack.

    Args:
        folder: of the pack; None for the data set's own in `data_folder()`.
        batch_size: a process.
        seconds: of a training crop. Validation always uses 4 s, from the start of a clip.
        workers: loader processes a training process; 0 loads in the training process.
        val_clips: so many at most.
        seed: of the order of the clips and of where they are cut.

    Attributes:
        dataset: name for `avdiff prepare` and of the folder.
        video: whether there are lips.
    """

    dataset = ""
    video = True

    def __init__(
        self,
        folder: Path | None = None,
        batch_size: int = 8,
        seconds: float = 4.0,
        workers: int = 0,
        val_clips: int = 300,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size, workers, seed)
        at_least(1 / VIDEO_FPS, seconds=seconds)
        at_least(1, val_clips=val_clips)
        self.folder = folder or data_folder() / self.dataset
        self.seconds, self.val_clips = seconds, val_clips

    def pack(self, split: str) -> Pack:
        """The clips of a split.

        Raises:
            UserError: it was not prepared.
        """
        if not (self.folder / "pack.json").is_file():
            raise UserError(
                f"there is no prepared data set in {self.folder} (a folder with pack.json, manifest-0000.jsonl, "
                f"audio-0000-000.bin, ...); make it with avdiff prepare {self.dataset}, or say where it is: --data.folder, or "
                f"the variable AVDIFF_DATA for the folder that holds {self.dataset}"
            )
        return Pack(self.folder, split)

    def crops(self, split: str, seconds: float, random: bool, clips: int | None = None) -> PackCrops:
        """Crops of the clips of a split."""
        return PackCrops(self.pack(split), seconds, random, self.video, None, clips)

    def setup(self, stage: str) -> None:
        self.train = self.crops("train", self.seconds, True)
        self.val = self.crops("val", 4.0, False, self.val_clips)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self.validation(self.val, self.workers)


class PackedTalkers(PackedClips):
    """Talkers with lips.

    Args:
        features: name of the visual feature set to give (see `avdiff prepare features`); None for mouth crops.
        folder, batch_size, seconds, workers, val_clips, seed: see `PackedClips`.
    """

    def __init__(
        self,
        folder: Path | None = None,
        features: str | None = None,
        batch_size: int = 8,
        seconds: float = 4.0,
        workers: int = 0,
        val_clips: int = 300,
        seed: int = 0,
    ) -> None:
        super().__init__(folder, batch_size, seconds, workers, val_clips, seed)
        self.features = features

    def crops(self, split: str, seconds: float, random: bool, clips: int | None = None) -> PackCrops:
        return PackCrops(self.pack(split), seconds, random, self.video, self.features, clips)
