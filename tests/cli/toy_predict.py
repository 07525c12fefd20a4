"""`avdiff predict` on the Gaussian toy with a stand-in method; run as a script, since DDP starts it anew on every rank.

    python toy_predict.py OUT_DIR BATCH_SIZE PROCESSES KILL_AFTER

KILL_AFTER batches, the process kills itself in the midst of a write; 0 for never.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import lightning.pytorch as pl
import torch

from avdiff.lit.callbacks import SeparationProgress, SeparationWriter
from avdiff.lit.separation import SeparationModule
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, Progress
from avdiff.separators.base import Separator
from avdiff.types import Observation, Separation
from datamodules.mixtures import Mixtures, ToyMixtures

CLIPS = 9


class Shares(Separator):
    """Equal shares of the mixture, and noise: what a sampler's result depends on, and nothing else."""

    visual_input = "none"

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        shape = (len(observation.key), len(observation.layout), observation.mixture.shape[-1])
        sources = observation.mixture[:, None].expand(shape) / shape[1]
        for step in range(3):
            sources = sources + 0.01 * rng.normal(shape, step, like=sources)
            if callback is not None:
                callback(Progress(step + 1, 3, 0.01, sources))
        return Separation(observation.key, observation.layout, sources, {"evaluations": {"noise": 3}, "seconds": 0.0})


class KillInWrite(pl.Callback):
    def __init__(self, batches: int, out_dir: Path) -> None:
        self.batches, self.out_dir = batches, out_dir

    def on_predict_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Observation, batch_idx: int
    ) -> None:
        if batch_idx == self.batches:
            (self.out_dir / ".partial-half").mkdir()
            os.kill(os.getpid(), signal.SIGKILL)


def predict(out_dir: Path, batch_size: int, processes: int = 1, kill_after: int = 0) -> None:
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        logger=False,
        inference_mode=False,
        callbacks=[
            SeparationWriter(out_dir),
            SeparationProgress(),
            *([KillInWrite(kill_after, out_dir)] if kill_after else []),
        ],
    )
    trainer.predict(
        SeparationModule(Shares(), seed=3),
        datamodule=Mixtures(ToyMixtures(CLIPS), batch_size),
        return_predictions=False,
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    predict(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
