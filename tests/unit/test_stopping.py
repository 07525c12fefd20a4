"""When a fit that was told to stop stops."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from torch.utils.data import DataLoader

from avdiff.errors import UserError
from avdiff.interrupts import by_hand
from avdiff.lit.lips import LipReader
from avdiff.lit.nmf import DictionaryModel
from avdiff.lit.stopping import EXIT_CODE, StopOnSignal
from avdiff.lit.vae import VAEModel
from avdiff.nets.visual import LipEncoder
from avdiff.priors.nmf import Dictionary
from tests.supervised import batch


class Line(pl.LightningModule):
    """One weight; a batch is a number."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return (self.weight - batch.mean()).square()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Signal(pl.Callback):
    """Sends a signal to this process before a batch."""

    def __init__(self, batch: int, number: int = signal.SIGTERM, times: int = 1) -> None:
        self.batch, self.number, self.times = batch, number, times

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: torch.Tensor, batch_idx: int
    ) -> None:
        if batch_idx == self.batch:
            for _ in range(self.times):
                os.kill(os.getpid(), self.number)


def trainer(folder: Path, *callbacks: pl.Callback, together: int = 1, steps: int = -1) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        max_steps=steps,
        accumulate_grad_batches=together,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
    )


@pytest.mark.parametrize(("together", "steps"), [(1, 3), (4, 1)])
def test_it_ends_the_step_at_hand(together: int, steps: int, tmp_path: Path) -> None:
    """The third batch of twelve: its own step, or that of four batches."""
    before = signal.getsignal(signal.SIGTERM)
    keeper = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0)
    fit = trainer(tmp_path, StopOnSignal(), keeper, Signal(2), together=together)
    with pytest.raises(SystemExit) as stopped:
        fit.fit(Line(), DataLoader(torch.arange(12.0)))
    assert stopped.value.code == EXIT_CODE == 143
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == steps
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_leave_a_checkpoint_too(number: signal.Signals, tmp_path: Path) -> None:
    before = signal.getsignal(number)
    keeper = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0)
    with pytest.raises(SystemExit) as stopped:
        trainer(tmp_path, StopOnSignal(), keeper, Signal(2, number)).fit(Line(), DataLoader(torch.arange(12.0)))
    assert stopped.value.code == 128 + number
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == 3
    assert signal.getsignal(number) == before


def test_ctrl_c_again_stops_at_once(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    keeper = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0)
    fit = trainer(tmp_path, StopOnSignal(), keeper, Signal(2, signal.SIGINT, times=2))
    try:
        with pytest.raises(SystemExit) as stopped:
            fit.fit(Line(), DataLoader(torch.arange(12.0)))
    finally:
        signal.signal(signal.SIGINT, before)  # Lightning has it ignored
    assert by_hand(stopped.value)
    assert not (tmp_path / "last.ckpt").exists()


@pytest.mark.parametrize(("most", "steps"), [(3, 3), (-1, 5)])
def test_the_last_step_is_kept_wherever_it_falls(most: int, steps: int, tmp_path: Path) -> None:
    """The steps asked for, or those of the only epoch; the ModelCheckpoint keeps every second."""
    keeper = ModelCheckpoint(
        dirpath=tmp_path, save_last=True, save_top_k=0, every_n_train_steps=2, save_on_train_epoch_end=False
    )
    trainer(tmp_path, keeper, StopOnSignal(), steps=most).fit(Line(), DataLoader(torch.arange(5.0)))
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["global_step"] == steps


def test_the_last_checkpoint_has_the_weights_that_the_fit_had_beside_the_averaged_ones(tmp_path: Path) -> None:
    keeper = ModelCheckpoint(
        dirpath=tmp_path,
        save_last=True,
        save_top_k=0,
        train_time_interval=timedelta(hours=1),
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    averaging = EMAWeightAveraging(decay=0.5)
    trainer(tmp_path, averaging, keeper, StopOnSignal(), steps=3).fit(Line(), DataLoader(torch.arange(1.0, 6.0)))
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert saved["current_model_state"]["weight"] > saved["state_dict"]["weight"] > 0
    assert keeper.save_last


def test_there_must_be_something_to_write_beside(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="StopOnSignal has no ModelCheckpoint"):
        trainer(tmp_path, StopOnSignal()).fit(Line(), DataLoader(torch.arange(2.0)))


CLIPS = {
    "audio": 0.1 * torch.randn(1, 2560, generator=torch.Generator().manual_seed(0)),
    "visual": torch.zeros(1, 4, 96, 96, dtype=torch.uint8),
    "seen": torch.ones(1, 4, dtype=torch.bool),
    "phonemes": torch.zeros(1, 4, dtype=torch.uint8),
}
WRITERS = {
    "lips": (lambda out: LipReader(LipEncoder(width=4, dim=8, dilations=(1,)), out=out), CLIPS),
    "nmf": (lambda out: DictionaryModel(Dictionary(2), out=out), CLIPS),
    "vae": (lambda out: VAEModel(presets=("audio_vae",), out=out), batch(1)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_weights_of_a_fit_that_was_ended_in_its_last_step_are_written_when_it_is_started_again(
    name: str, tmp_path: Path
) -> None:
    build, data = WRITERS[name]
    steps = DataLoader([data, data], batch_size=None)
    keeper = ModelCheckpoint(dirpath=tmp_path, save_last=True, save_top_k=0)
    with pytest.raises(SystemExit):
        trainer(tmp_path, keeper, StopOnSignal(), Signal(1), steps=2).fit(build(tmp_path / "out"), steps)
    assert not (tmp_path / "out").exists()
    fit, model = trainer(tmp_path, keeper, StopOnSignal(), steps=2), build(tmp_path / "out")
    fit.fit(model, steps, ckpt_path=str(tmp_path / "last.ckpt"))
    assert (tmp_path / "out").exists()
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, saved[name]) for name, value in model.state_dict().items())
