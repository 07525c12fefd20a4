"""How fast a fit goes, and what it waits for."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning.pytorch as pl
import torch


class _Step(NamedTuple):
    waited: float  # seconds from the step before
    worked: float  # seconds
    clips: int


class Throughput(pl.Callback):
    """Logs, as means over the last steps,

    speed/clips_per_second   clips of all processes
    speed/data_wait          share of the time between the end of a step and the start of the next: the loader, and copying
    speed/memory_gib         most GPU memory that tensors have taken so far

    A step after a validation or a checkpoint is not counted, nor is the first. A GPU works after a step's end, too: its wait
    is at most the one told.

    Args:
        steps: how many are averaged over.
    """

    def __init__(self, steps: int = 50) -> None:
        self._steps: deque[_Step] = deque(maxlen=steps)
        self._ended: float | None = None
        self._began = self._waited = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps.clear()
        self._ended = None

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended = None

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._ended = None

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Mapping[str, torch.Tensor], batch_idx: int
    ) -> None:
        self._began = time.perf_counter()
        self._waited = -1.0 if self._ended is None else self._began - self._ended

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Mapping[str, torch.Tensor],
        batch_idx: int,
    ) -> None:
        self._ended = time.perf_counter()
        if self._waited < 0:
            return
        self._steps.append(_Step(self._waited, self._ended - self._began, len(next(iter(batch.values())))))
        waited = sum(step.waited for step in self._steps)
        total = waited + sum(step.worked for step in self._steps)
        clips = sum(step.clips for step in self._steps) * trainer.world_size
        figures = {"speed/clips_per_second": clips / total, "speed/data_wait": waited / total}
        if pl_module.device.type == "cuda":
            figures["speed/memory_gib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**30
        pl_module.log_dict(figures)
