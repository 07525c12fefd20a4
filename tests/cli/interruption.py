"""A callback that stops a run midway, as a scheduler or a person would."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import lightning.pytorch as pl

from avdiff.types import Observation


class KillBefore(pl.Callback):
    """Kills its process before a batch, half a clip being written.

    Args:
        batch: which.
    """

    def __init__(self, batch: int) -> None:
        self.batch = batch

    def on_predict_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Observation, batch_idx: int
    ) -> None:
        if batch_idx == self.batch:
            half = Path(trainer.default_root_dir) / ".partial-half"
            half.mkdir()
            (half / "separation.json").touch()
            os.kill(os.getpid(), signal.SIGKILL)
