"""One W&B run for one training."""

from __future__ import annotations

import os
from pathlib import Path

import lightning.pytorch as pl
import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import WandbLogger

from avdiff.lit.wandb_run import VARIABLE, no_run_left, resume_run


def trainer(folder: Path, wandb: bool = True) -> pl.Trainer:
    logger = WandbLogger(save_dir=folder, offline=True) if wandb else False
    keeper = ModelCheckpoint(dirpath=folder / "checkpoints")
    return pl.Trainer(accelerator="cpu", logger=logger, callbacks=[keeper], default_root_dir=folder)


@pytest.fixture(autouse=True)
def _no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


def test_a_training_keeps_its_run_beside_the_checkpoints_and_another_has_another(tmp_path: Path) -> None:
    found = []
    for folder in ("first", "second", "first"):
        with no_run_left():
            resume_run(trainer(tmp_path / folder))
            found.append(os.environ[VARIABLE])
        assert VARIABLE not in os.environ
    assert found[0] == found[2] != found[1]
    assert (tmp_path / "first/checkpoints/wandb_run_id").read_text() == found[0]


def test_a_run_that_is_named_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "mine")
    with no_run_left():
        resume_run(trainer(tmp_path))
    assert os.environ[VARIABLE] == "mine"


def test_other_loggers_have_no_run(tmp_path: Path) -> None:
    resume_run(trainer(tmp_path, wandb=False))
    assert VARIABLE not in os.environ
    assert not (tmp_path / "checkpoints").exists()
