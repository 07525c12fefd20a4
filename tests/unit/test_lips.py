"""Training of the lip encoder: what it says of labels that are not there."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader

from avdiff.lit.lips import UNKNOWN, LipReader
from avdiff.nets.visual import LipEncoder


def clips(*phonemes: int) -> dict[str, torch.Tensor]:
    """One clip, a phoneme a frame."""
    return {
        "audio": 0.1 * torch.randn(1, 640 * len(phonemes), generator=torch.Generator().manual_seed(0)),
        "visual": torch.zeros(1, len(phonemes), 96, 96, dtype=torch.uint8),
        "seen": torch.ones(1, len(phonemes), dtype=torch.bool),
        "phonemes": torch.tensor([phonemes], dtype=torch.uint8),
    }


def fitted(folder: Path, *batches: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What a step of training on the first and a validation on all have told."""
    model = LipReader(LipEncoder(width=4, dim=8, dilations=(1,)))
    torch.nn.init.zeros_(model.classify.weight)
    model.classify.bias.data = torch.eye(48)[3] * 100  # all is phoneme 3
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=1,
        limit_train_batches=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    data = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    trainer.fit(model, data, data)
    return trainer.callback_metrics


def test_accuracy_is_over_the_frames_whose_phoneme_is_known(tmp_path: Path) -> None:
    told = fitted(tmp_path, clips(3, 3, 5, UNKNOWN), clips(*[UNKNOWN] * 4), clips(5, UNKNOWN, UNKNOWN, UNKNOWN))
    torch.testing.assert_close(told["train/accuracy"], torch.tensor(2 / 3))
    assert told["val/accuracy"] == 0.5  # two of four frames, in batches of three, none and one


def test_where_no_phoneme_is_known_there_is_no_accuracy(tmp_path: Path) -> None:
    told = fitted(tmp_path, clips(*[UNKNOWN] * 4))
    assert told.keys() == {"train/phoneme", "train/mel", "val/phoneme", "val/mel"}
    assert all(value.isfinite() for value in told.values())
