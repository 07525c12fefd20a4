"""Callbacks that stop a run midway, as a scheduler or a person would, and one that tells what was done until then."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as pl
import torch

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


class Recorder(pl.Callback):
    """Writes what every training step saw and did as a line of JSON, a file a process.

    Args:
        folder: of the files; rank 0 of a fit writes `steps-0.jsonl`.
    """

    def __init__(self, folder: Path = Path("record")) -> None:
        self.folder, self._noise = folder, 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        drawn = pl_module._noise

        def noise(clean: torch.Tensor, sigma: torch.Tensor, *others: object) -> tuple[torch.Tensor, torch.Tensor]:
            made = drawn(clean, sigma, *others)
            self._noise = float((made[0] / sigma[:, None])[0, 0])
            return made

        pl_module._noise = noise
        self.folder.mkdir(exist_ok=True)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        seen = {
            "step": trainer.global_step,
            "loss": float(outputs["loss"]),
            "noise": self._noise,
            "clips": [float(clip.double().square().sum()) for clip in batch["audio"]],
        }
        with (self.folder / f"steps-{trainer.global_rank}.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\n")


class SignalledAfter(pl.Callback):
    """Sends a signal to its process group, or waits for one from elsewhere, once a step has begun.

    Args:
        step: how many steps have been done.
        sends: SIGKILL to itself, SIGTERM to its group; nothing to wait until the file `go` is there.
    """

    def __init__(self, step: int, sends: Literal["SIGKILL", "SIGTERM", "nothing"]) -> None:
        self.step, self.sends = step, sends

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step != self.step:
            return
        if self.sends == "SIGKILL":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.sends == "SIGTERM":
            os.killpg(0, signal.SIGTERM)
            return
        Path(f"ready-{trainer.global_rank}").touch()
        while not Path("go").exists():
            time.sleep(0.02)
