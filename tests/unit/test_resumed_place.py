"""The place in an epoch, after the size of the batches was changed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import Dataset

from datamodules.sampling import TrainingClips

CLIPS = 48


class Numbers(Dataset):
    def __len__(self) -> int:
        return CLIPS

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.tensor(float(index))


class Data(TrainingClips):
    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size, 0, 0)
        self.train = Numbers()


class Listener(pl.LightningModule):
    """One weight, and the clips of every step."""

    def __init__(self, heard: list[tuple[int, int]]) -> None:
        super().__init__()
        self.weight, self.heard = torch.nn.Parameter(torch.zeros(())), heard

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        sampler = self.trainer.train_dataloader.sampler
        self.heard += [(sampler.epoch, int(clip)) for clip in batch]
        return self.weight.square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize(
    "stops",
    [
        ((4, 4), (8, 5), (8, 6), (2, 13), (4, 17)),  # within an epoch, again and again; then into the next
        ((4, 12), (8, 14)),  # at its end, to larger batches
        ((8, 6), (4, 10)),  # at its end, to smaller ones
        ((12, 3), (8, 6)),  # to batches that leave some over at the end
        ((20, 2), (4, 6)),  # from batches that left some over
    ],
)
def test_every_clip_is_heard_once_an_epoch_whatever_the_batches_before(stops: tuple, tmp_path: Path) -> None:
    """Pairs of a batch size and of the step to stop at."""
    heard: list[tuple[int, int]] = []
    last = tmp_path / "last.ckpt"
    for size, step in stops:
        keeper = ModelCheckpoint(
            dirpath=tmp_path,
            save_last=True,
            save_top_k=0,
            every_n_train_steps=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        fit = pl.Trainer(
            accelerator="cpu",
            max_steps=step,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[keeper],
        )
        data = Data(size)
        fit.fit(Listener(heard), data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
        place = torch.load(last, weights_only=True)["Data"]
        latest = [clip for epoch, clip in heard if epoch == place["epoch"]]
        assert place["clips"] == len(latest)
    assert (
        len(heard)
        == len(set(heard))
        == sum(size * (step - before) for (_, before), (size, step) in pairwise(((0, 0), *stops)))
    )
    assert {epoch for epoch, _ in heard} <= {0, 1}
    first = [clip for epoch, clip in heard if epoch == 0]
    if any(epoch for epoch, _ in heard):
        assert len(first) >= CLIPS - max(size for size, _ in stops)
