"""One W&B run for one training, however often it is stopped."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

VARIABLE = "WANDB_RUN_ID"
FILE = "wandb_run_id"


def run_folder(trainer: pl.Trainer) -> Path:
    """The folder of the checkpoints, without which there is nothing to go on from."""
    folders = [c.dirpath for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint) and c.dirpath]
    return Path(str(folders[0])) if folders else Path(trainer.default_root_dir)


def resume_run(trainer: pl.Trainer) -> None:
    """Have W&B, online or offline, go on with the run whose id is kept beside the checkpoints; a first fit leaves it there.

    An id that the logger was given, or that the variable WANDB_RUN_ID holds, is left as it is.
    """
    if not trainer.is_global_zero or VARIABLE in os.environ:
        return
    if not any(isinstance(logger, WandbLogger) for logger in trainer.loggers):
        return
    file = run_folder(trainer) / FILE
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(secrets.token_hex(4), encoding="utf-8")
    os.environ[VARIABLE] = file.read_text(encoding="utf-8").strip()


@contextmanager
def no_run_left() -> Iterator[None]:
    """Takes back what `resume_run` sets, so that another fit of the same process has its own run."""
    before = os.environ.get(VARIABLE)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(VARIABLE, None)
