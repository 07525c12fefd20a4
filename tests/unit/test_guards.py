"""A fit that goes wrong ends with a sentence and leaves what was there."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision
from torch.utils.data import DataLoader

from avdiff.errors import UserError
from avdiff.lit.guards import StoppedByHand, guarded, not_numbers, sentence, something_to_validate


class Line(pl.LightningModule):
    """One weight; a batch is a dict of numbers."""

    def __init__(self, size: int = 1, rate: float = 0.1, blind: bool = False) -> None:
        super().__init__()
        self.weight, self.rate, self.blind = torch.nn.Parameter(torch.zeros(size)), rate, blind

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        if self.blind:  # a loss that is finite, with a gradient that is not
            return (self.weight - self.weight.detach()).abs().sqrt().sum() + batch["audio"].sum() * 0
        return (self.weight - batch["audio"].mean()).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.rate)


def trainer(folder: Path, steps: int = 8, **more: Any) -> pl.Trainer:
    keeper = ModelCheckpoint(
        dirpath=folder,
        save_last=True,
        save_top_k=0,
        every_n_train_steps=1,
        save_on_train_epoch_end=False,
        enable_version_counter=False,
    )
    settings: dict[str, Any] = {"callbacks": [EMAWeightAveraging(decay=0.9), keeper], "max_steps": steps}
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return pl.Trainer(**guarded(settings | quiet | more, StoppedByHand()))


def clips(*values: float) -> DataLoader:
    return DataLoader([{"audio": torch.tensor(float(value))} for value in values])


def last(folder: Path) -> dict[str, Any]:
    return torch.load(folder / "last.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("model", "data", "cause"),
    [
        (
            Line(),
            clips(1, 2, math.nan, 4),
            r"loss of step 3 is nan: the training data .*audio.*last\.ckpt is as it was",
        ),
        (Line(rate=1e30), clips(1, 2, 3, 4), r"loss of step \d is (inf|nan): .*learning rate is too high \(1e\+30"),
        (
            Line(blind=True),
            clips(1, 2, 3, 4),
            r"step 1 was not saved: the averaged weights are not finite .*learning_rate",
        ),
    ],
)
def test_a_loss_that_is_no_number_ends_the_fit(model: Line, data: DataLoader, cause: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=cause):
        trainer(tmp_path).fit(model, data)
    for file in tmp_path.glob("*.ckpt*"):
        saved = torch.load(file, weights_only=True)
        assert all(saved[part]["weight"].isfinite().all() for part in ("state_dict", "current_model_state"))


def test_the_checkpoint_is_of_the_step_before(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="step 3"):
        trainer(tmp_path).fit(Line(), clips(1, 2, math.nan, 4))
    assert last(tmp_path)["global_step"] == 2


@pytest.mark.parametrize(("odd", "ends"), [(31, False), (32, True)])
def test_a_loss_scale_has_its_tries_and_no_more(odd: int, ends: bool, tmp_path: Path) -> None:
    """Losses that are no number before one that is: those of a scale that is too large end, those of a fault do not."""
    data = clips(1.0, *[math.nan] * odd, 2.0, *[math.nan] * 31)
    model = Line()
    half = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    fit = trainer(tmp_path, steps=200, max_epochs=1, plugins=[half])
    if ends:
        with pytest.raises(UserError, match="is nan: the training data"):
            fit.fit(model, data)
    else:
        fit.fit(model, data)
    assert bool(model.weight.isfinite().all())


def fails(model: pl.LightningModule, folder: Path, path: str) -> str | None:
    with pytest.raises(Exception) as caught:
        trainer(folder).fit(model, clips(1, 2, 3), ckpt_path=path)
    return sentence(caught.value)


def test_a_checkpoint_of_another_network_or_optimizer_is_told(tmp_path: Path) -> None:
    trainer(tmp_path, 1).fit(Line(), clips(1, 2, 3))
    file = str(tmp_path / "last.ckpt")
    told = fails(Line(size=2), tmp_path, file)
    assert told is not None
    assert file in told
    assert "weight" in told
    torch.save(last(tmp_path) | {"optimizer_states": [{"state": {}, "param_groups": []}]}, file)
    told = fails(Line(), tmp_path, file)
    assert told is not None
    assert file in told
    part = last(tmp_path)
    del part["loops"]
    torch.save(part, file)
    told = fails(Line(), tmp_path, file)
    assert told is not None
    assert file in told


def test_a_fault_of_the_program_is_none_of_the_users() -> None:
    def broken() -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug") as caught:
        broken()
    assert sentence(caught.value) is None


def test_a_configuration_that_cannot_be_left_beside_the_results_is_told(tmp_path: Path) -> None:
    parser = ArgumentParser()
    with pytest.raises(TypeError) as refused:  # as where the folder may not be written to
        parser.save(parser.get_defaults(), str(tmp_path / "none" / "config.yaml"))
    told = sentence(refused.value)
    assert told is not None
    assert str(tmp_path / "none" / "config.yaml") in told
    assert "give another file or folder" in told


def test_a_mistake_found_by_a_loader_is_told_alone() -> None:
    error = UserError(
        "Caught UserError in DataLoader worker process 0.\nOriginal Traceback ...\navdiff.errors.UserError: one is short\n"
    )
    assert sentence(error) == "one is short"


def test_numbers_that_are_none_are_found_wherever_they_are() -> None:
    config = {"model": {"rates": [0.1, math.nan], "name": "x"}, "steps": 3, "more": math.inf}
    assert [name for name, _ in not_numbers(config)] == ["model.rates.1", "more"]


def test_weights_of_no_training_are_not_validated_for_the_last_ones(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no last checkpoint"):
        something_to_validate(trainer(tmp_path), "last")
    something_to_validate(trainer(tmp_path), None)
    (tmp_path / "last.ckpt").touch()
    something_to_validate(trainer(tmp_path), "last")


IMPORTING = """
import sys, pathlib
from avdiff import cli
sys.path.insert(0, {folder!r})
def run(given):
    import swallows
cli._run = run
cli.main([])
"""
SWALLOWS = """
import pathlib, time
pathlib.Path({ready!r}).touch()
try:
    time.sleep(60)
except BaseException:
    pass
"""


def test_ctrl_c_is_not_lost_in_an_import(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    (tmp_path / "swallows.py").write_text(SWALLOWS.format(ready=str(ready)))
    command = [sys.executable, "-c", IMPORTING.format(folder=str(tmp_path))]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    try:
        while not ready.exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 130
    assert told == "avdiff: stopped\n"
