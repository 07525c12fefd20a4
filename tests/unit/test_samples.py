"""Audio and pictures of fixed clips in the logger."""

from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from avdiff.lit.samples import DenoisedClips
from avdiff.lit.score import ScoreModel
from avdiff.priors.presets import tiny_noise


def test_fixed_clips_are_logged_as_audio_and_picture(tmp_path: Path) -> None:
    clips = [{"audio": torch.randn(3200)} for _ in range(3)]
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=TensorBoardLogger(tmp_path, name="", version=""),
        callbacks=[DenoisedClips(clips=2, levels=(0.3,))],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.validate(ScoreModel(tiny_noise()), DataLoader(clips, batch_size=3), verbose=False)
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert sorted(events.Tags()["audio"]) == ["samples/clip0_noise0.3_denoised", "samples/clip1_noise0.3_denoised"]
    assert events.Tags()["images"] == ["samples/spectrograms"]
