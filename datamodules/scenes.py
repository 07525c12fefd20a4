"""Labelled recordings for the scene classifier: DCASE 2020, task 1A, and ESC-10 as ten scenes."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from avdiff.audio.io import read_audio, resample
from avdiff.audio.mixing import mix
from avdiff.audio.scenes import DCASE2020, ESC10, Classes
from avdiff.errors import UserError
from avdiff.files import load_cached, whole
from avdiff.types import NOISE, SAMPLE_RATE, SPEAKER
from datamodules.dcase import NAME, dcase_items
from datamodules.mixtures import Entry, Mixture, MixtureList
from datamodules.packed import data_folder
from datamodules.synthetic.benchmark import EmbeddedBenchmark

RATE = 44_100  # Hz, of the classifier's features


@dataclass(frozen=True)
class Labelled:
    """A recording and what it is.

    Attributes:
        path: of the file.
        scene: its class.
        split: train, val or test.
    """

    path: Path
    scene: str
    split: str


def esc10_recordings(root: Path, test_fold: int = 3, val_share: int = 8) -> list[Labelled]:
    """ESC-10: `<root>/<nnn>-<class>/<fold>-*.ogg`. Of the training folds every eighth clip of a class is for validation.

    Raises:
        UserError: there are no such folders.
    """
    found = list[Labelled]()
    for folder in sorted(path for path in Path(root).glob("[0-9]*-*") if path.is_dir()):
        others = 0
        for file in sorted(folder.glob("[0-9]-*.ogg")):
            held_out = int(file.name[0]) == test_fold
            others += not held_out
            split = "test" if held_out else "train" if others % val_share else "val"
            found.append(Labelled(file, folder.name.split("-", 1)[1], split))
    if not any(item.split == "test" for item in found):
        raise UserError(
            f"{root} is not ESC-10 with a fold {test_fold}; give the folder that holds 001-dog_bark, as --data.root"
        )
    return found


def dcase_recordings(root: Path) -> list[Labelled]:
    """Every recording of fold 1 that the disk has."""
    items = dcase_items(root)
    return [
        Labelled(item.path, str(item.about["scene"]), str(item.about["split"])) for item in items if item.path.is_file()
    ]


class _Recordings(Dataset[dict[str, Tensor]]):
    """Recordings as `audio` (T,) at 44.1 kHz, `class` and `superclass`."""

    def __init__(self, items: Sequence[Labelled], classes: Classes, seconds: float, cache: Path | None) -> None:
        self.items, self.classes, self.samples, self.cache = items, classes, round(seconds * RATE), cache

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        item = self.items[index]
        label = self.classes.fine.index(item.scene)
        parent = self.classes.parents[label]
        return {"audio": self._audio(item.path), "class": torch.tensor(label), "superclass": torch.tensor(parent)}

    def _audio(self, path: Path) -> Tensor:
        """Mono, cut or padded with silence at its end; decoded once where there is a cache."""
        kept = (
            self.cache / f"{hashlib.blake2b(str(path.resolve()).encode(), digest_size=10).hexdigest()}.npy"
            if self.cache
            else None
        )
        known = load_cached(kept) if kept is not None else {}
        if "array" in known:
            mono = torch.from_numpy(known["array"].astype(np.float32) / 32768)
        else:
            samples, rate = read_audio(path)
            mono = resample(torch.from_numpy(samples.mean(0)), rate, RATE)
            if kept is not None:
                with whole(kept) as partial, partial.open("wb") as file:
                    np.save(file, (mono.clamp(-1, 1) * 32767).round().numpy().astype(np.int16))
        return torch.nn.functional.pad(mono, (0, max(0, self.samples - len(mono))))[: self.samples]


class SceneClips(pl.LightningDataModule):
    """Batches for `avdiff.lit.scene.SceneModule`: `audio` (B, T) at 44.1 kHz, `class` and `superclass` (B,).

    A batch in training holds the two clips of every mixed one.

    Args:
        classes: names and superclasses.
        seconds: of a recording.
        batch_size: mixed clips a training step.
        workers: processes that read.
        cache: folder for decoded sound; None to decode every time.
    """

    def __init__(
        self, classes: Classes, seconds: float, batch_size: int = 32, workers: int = 0, cache: Path | None = None
    ) -> None:
        super().__init__()
        self.classes, self.seconds = classes, seconds
        self.batch_size, self.workers, self.cache = batch_size, workers, cache

    @abstractmethod
    def recordings(self) -> list[Labelled]:
        """Every recording there is."""

    def setup(self, stage: str) -> None:
        found = self.recordings()
        if unknown := {item.scene for item in found} - set(self.classes.fine):
            raise UserError(f"there is no scene {min(unknown)!r} among {', '.join(self.classes.fine)}")
        self.splits = {name: [item for item in found if item.split == name] for name in ("train", "val", "test")}

    def _loader(self, split: str, size: int, train: bool = False) -> DataLoader[dict[str, Tensor]]:
        data = _Recordings(self.splits[split], self.classes, self.seconds, self.cache)
        return DataLoader(data, size, shuffle=train, drop_last=train, num_workers=self.workers)

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._loader("train", 2 * self.batch_size, train=True)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._loader("val", self.batch_size)

    def test_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        return self._loader("test", self.batch_size)


class DCASEScenes(SceneClips):
    """DCASE 2020, task 1A: fold 1's training list, some locations of it for validation, the evaluation list for the test.

    Args:
        root: TAU-urban-acoustic-scenes-2020-mobile-development as published; None for $AVDIFF_DATA/<that name>.
        batch_size, workers, cache: of `SceneClips`.
    """

    def __init__(
        self, root: Path | None = None, batch_size: int = 32, workers: int = 4, cache: Path | None = None
    ) -> None:
        super().__init__(DCASE2020, 10.0, batch_size, workers, cache)
        self.root = root or data_folder() / NAME

    def recordings(self) -> list[Labelled]:
        return dcase_recordings(Path(self.root))


class Esc10Scenes(SceneClips):
    """ESC-10 as ten scenes.

    Args:
        root: ESC-10 as published; None for $AVDIFF_DATA/esc10.
        test_fold: held out.
        batch_size, workers, cache: of `SceneClips`.
    """

    def __init__(
        self,
        root: Path | None = None,
        test_fold: int = 3,
        batch_size: int = 16,
        workers: int = 0,
        cache: Path | None = None,
    ) -> None:
        super().__init__(ESC10, 5.0, batch_size, workers, cache)
        self.root, self.test_fold = root or data_folder() / "esc10", test_fold

    def recordings(self) -> list[Labelled]:
        return esc10_recordings(Path(self.root), self.test_fold)


class Esc10Mixtures(MixtureList):
    """One embedded talker of the benchmark's list speakers1 in a recording of ESC-10, at one SNR, four seconds long.

    Every class in turn; neither the talkers nor these recordings are in any training.

    Args:
        root: ESC-10; None for $AVDIFF_DATA/esc10.
        snr: dB.
        clips: mixtures.
        test_fold: from which the recordings are.
    """

    def __init__(self, root: Path | None = None, snr: float = 0.0, clips: int = 50, test_fold: int = 3) -> None:
        found = [r for r in esc10_recordings(Path(root or data_folder() / "esc10"), test_fold) if r.split == "test"]
        by_scene = [[r for r in found if r.scene == scene] for scene in ESC10.fine]
        order = [r for row in zip_longest(*by_scene) for r in row if r is not None]
        self.chosen = [order[i % len(order)] for i in range(clips)]
        self.talkers, self.snr = EmbeddedBenchmark("test", ["speakers1"], clips), snr

    def entries(self) -> Sequence[Entry]:
        return [Entry(f"esc10{self.snr:+.0f}dB-{i:03d}", (SPEAKER, NOISE)) for i in range(len(self.chosen))]

    def scenes(self) -> dict[str, str]:
        """Clip id -> the scene in it."""
        return {entry.key: item.scene for entry, item in zip(self.entries(), self.chosen, strict=True)}

    def version(self, index: int) -> str:
        return f"{super().version(index)} {self.chosen[index].path.name}"

    def __getitem__(self, index: int) -> Mixture:
        talker, entry = self.talkers[index], self.entries()[index]
        samples, rate = read_audio(self.chosen[index].path)
        heard = resample(torch.from_numpy(samples.mean(0)), rate, SAMPLE_RATE)
        length = talker.mixture.shape[-1]
        heard = torch.nn.functional.pad(heard, (0, max(0, length - len(heard))))[:length]
        sources = mix(talker.sources[:1], heard, 0.0, self.snr)
        sources = sources * (0.9 / sources.sum(0).abs().max())
        name = f"esc10{self.snr:+.0f}dB"
        return Mixture(entry.key, name, entry.layout, sources, sources.sum(0), talker.mouth, talker.seen)
