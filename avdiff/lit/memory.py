"""What a batch needs of memory, told beside its result."""

from __future__ import annotations

import re
from pathlib import Path

import lightning.pytorch as pl
import torch

from avdiff.types import Observation, Separation

STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory(pl.Callback):
    """Adds `memory_bytes` to the info of every batch: the peak of the GPU's memory, or of the process's on a CPU.

    It must stand before the callback that writes results. Where the system does not tell (neither CUDA nor Linux),
    nothing is added.
    """

    def on_predict_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Observation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(pl_module.device)
        elif STATUS.exists():
            try:
                PEAK_RESET.write_text("5")
            except OSError:
                return  # a container may forbid it: the peak is then that of the whole run

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Separation,
        batch: Observation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if pl_module.device.type == "cuda":
            outputs.info["memory_bytes"] = torch.cuda.max_memory_allocated(pl_module.device)
        elif STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii"))):
            outputs.info["memory_bytes"] = 1024 * int(found[1])
