"""What a piece of work needs of memory."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import lightning.pytorch as pl
import torch

from avdiff.types import Observation, Separation

STATUS, PEAK_RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far: of a GPU's memory, or of the process's on a CPU."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif STATUS.exists():
        with suppress(OSError):  # a container may forbid it: the peak is then that of the whole run
            PEAK_RESET.write_text("5")


def peak_memory(device: torch.device) -> int | None:
    """Bytes at the peak since; None where the system does not tell (neither CUDA nor Linux)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text(encoding="ascii")) if STATUS.exists() else None
    return 1024 * int(found[1]) if found else None


class PeakMemory(pl.Callback):
    """Adds `memory_bytes` to the info of every batch: see `peak_memory`. Where the system does not tell, nothing is added.

    It must stand before the callback that writes results.
    """

    def on_predict_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Observation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        reset_peak(pl_module.device)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Separation,
        batch: Observation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if (peak := peak_memory(pl_module.device)) is not None:
            outputs.info["memory_bytes"] = peak
