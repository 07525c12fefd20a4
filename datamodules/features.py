"""Visual feature sets of a pack: what they are made from, where they are kept, and what made them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, cast

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from avdiff.errors import UserError
from avdiff.files import read_json, whole
from avdiff.types import VIDEO_FPS
from datamodules.ledger import Ledger, lines
from datamodules.packs import Pack


class FeatureStore:
    """A feature set of a pack: `features/NAME/` with card.json, card.md, and every clip's values as float16 (F, D).

    Args:
        pack: folder of the pack.
        name: of the set.

    Raises:
        UserError: the name cannot be a folder's.
    """

    def __init__(self, pack: Path, name: str) -> None:
        if not name or name.startswith((".", "-")) or "/" in name:
            raise UserError(f"--name is {name!r}; give letters, digits, '-' and '_'")
        self.folder = pack / "features" / name
        self._ledger: Ledger | None = None

    def done(self) -> Set[str]:
        """Ids of the clips that have features."""
        return {line["id"] for _, _, line in lines(self.folder, "index")}

    def begin(self, card: Mapping[str, Any]) -> None:
        """Write the card, or see that what is there was made in the same way.

        Raises:
            UserError: it was not.
        """
        file = self.folder / "card.json"
        wanted = json.loads(json.dumps(card))
        if file.is_file():
            there = read_json(file, "delete it and make the features again, or give another --name")
            for name in sorted({*there, *wanted} - {"checkpoint"}):
                if there.get(name) != wanted.get(name):
                    raise UserError(
                        f"the features in {self.folder} were made with {name} = {there.get(name)!r}, now it is "
                        f"{wanted.get(name)!r}; give another --name"
                    )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "card.md").write_text(_text(wanted), encoding="utf-8")
        with whole(file) as partial:
            partial.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")

    def open(self, rank: int) -> None:
        """Be ready to add, as one of several processes."""
        self._ledger = Ledger(self.folder, "index", ("values",), rank)

    def add(self, key: str, features: Tensor) -> None:
        """Keep the features (F, D) float16 of a clip."""
        assert self._ledger is not None
        values = features.numpy().astype("<f2").tobytes()
        self._ledger.append([({"id": key, "frames": len(features)}, {"values": values})])

    def close(self) -> None:
        """Nothing more will be added."""
        if self._ledger is not None:
            self._ledger.close()
            self._ledger = None


def card(
    pack: Path, name: str, dim: int, checkpoint: Path, window: Mapping[str, int], precision: str
) -> dict[str, Any]:
    """What a feature set is, and what its maker may have seen.

    Args:
        pack: folder of the clips.
        name: of the set.
        dim: values a frame.
        checkpoint: of the encoder.
        window: how clips are cut for the encoder.
        precision: of the computation.
    """
    settings = Pack(pack).settings
    return {
        "name": name,
        "dim": dim,
        "fps": VIDEO_FPS,
        "dtype": "float16",
        "encoder": "BRAVEn (arXiv 2404.02098)",
        "checkpoint": checkpoint.name,
        "sha256": _sha256(checkpoint),
        "precision": precision,
        "window": dict(window),
        "crops": settings["mouth"],
        "dataset": settings.get("dataset", "unknown"),
        "pretraining": pretraining(checkpoint.name, settings.get("dataset", "unknown")),
    }


def pretraining(checkpoint: str, dataset: str) -> str:
    """Whether the pre-training of a published checkpoint saw the speakers of a data set: what is known of it.

    The published files say in their names what they were pre-trained on, as in vsr_prelrs3vox2avs_large_...

    Args:
        checkpoint: name of its file.
        dataset: "voxceleb2" or another.
    """
    said = checkpoint.lower()
    if "vox2" in said and dataset == "voxceleb2":
        return (
            "yes: by its name the checkpoint was pre-trained on VoxCeleb2, without transcripts. Whether that included the "
            "speakers of VoxCeleb2's test part is not published; take it that it did, so that the held-out speakers of this "
            "pack are new to what is trained on the features but not to the features"
        )
    if "prelrs3" in said and "vox2" not in said and dataset == "voxceleb2":
        return "no: by its name the checkpoint was pre-trained on LRS3 alone"
    if "prelrs3" in said:
        return "not known: by its name the checkpoint was pre-trained on LRS3 and on what else is named there; compare with yours"
    return "not known: the checkpoint's name does not say what it was pre-trained on (BRAVEn's high-resource ones: VoxCeleb2 too)"


def _sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as data:
        while block := data.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _text(card: Mapping[str, Any]) -> str:
    return (
        f"# Visual features `{card['name']}`\n\n"
        f"{card['dim']} values a video frame ({card['fps']} a second, {card['dtype']}), by {card['encoder']} from 96x96 mouth "
        f"crops stored as {card['crops']}; computed in {card['precision']}, in stretches of up to "
        f"{card['window']['seconds']} s.\n\n"
        f"- checkpoint: {card['checkpoint']}\n- SHA-256: {card['sha256']}\n- data set: {card['dataset']}\n\n"
        f"Did its pre-training see these speakers? {card['pretraining'][0].upper()}{card['pretraining'][1:]}.\n"
    )


class _Batches(Dataset[dict[str, Any]]):
    """One item a batch of clips of one length."""

    def __init__(self, pack: Pack, done: Set[str], batch_size: int) -> None:
        self.pack = pack
        by_length: dict[int, list[int]] = {}
        for index, (name, frames) in enumerate(zip(pack.ids.tolist(), pack.frames.tolist(), strict=True)):
            if frames and name not in done:
                by_length.setdefault(frames, []).append(index)
        self.batches = [
            rows[start : start + batch_size]
            for _, rows in sorted(by_length.items())
            for start in range(0, len(rows), batch_size)
        ]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rows = self.batches[index]
        mouth = np.stack([self.pack.mouth(row) for row in rows])
        return {"key": [str(self.pack.ids[row]) for row in rows], "mouth": torch.from_numpy(mouth)}


class _Share(DistributedSampler[int]):
    """Rank r of n takes batches r, r + n, ...; Lightning leaves a DistributedSampler as it is."""

    def __init__(self, batches: _Batches, rank: int, processes: int) -> None:
        super().__init__(cast(Dataset[int], batches), num_replicas=processes, rank=rank, shuffle=False)
        self.share: Sequence[int] = range(rank, len(batches), processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)


class Mouths(pl.LightningDataModule):
    """The mouth crops of a pack, whole clips in batches of one length, shared out over the processes.

    Args:
        pack: folder of the pack.
        batch_size: most clips a batch.
        workers: loader processes a process.
    """

    def __init__(self, pack: Path, batch_size: int = 8, workers: int = 0) -> None:
        super().__init__()
        self.pack = Pack(pack)
        if not self.pack.frames.any():
            raise UserError(f"{pack} has no clip with video; features are made of mouths")
        self.batch_size, self.workers = batch_size, workers
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a resumed run may leave a rank nothing to do
        self._done: Set[str] = frozenset()

    def skip(self, keys: Set[str]) -> None:
        """Leave these clips out of the next predict run."""
        self._done = keys

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        batches = _Batches(self.pack, self._done, self.batch_size)
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return DataLoader(batches, batch_size=None, sampler=_Share(batches, rank, processes), num_workers=self.workers)
