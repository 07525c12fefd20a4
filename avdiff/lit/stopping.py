"""The last checkpoint of a fit: of one that a scheduler ends between two steps, and of one that ends by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, ModelCheckpoint
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn

from avdiff.errors import UserError

#: 143, as a shell tells of a process that SIGTERM ended: `make` does not go on after it
EXIT_CODE = 128 + signal.SIGTERM

#: a scheduler's, Ctrl-C, and that of a terminal that was closed
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_NOTE = b"\navdiff: stopping after this step, or the validation under way; Ctrl-C again stops at once, without a checkpoint\n"


class StopOnSignal(Checkpoint):
    """On SIGTERM to any of its processes a fit ends its step, writes `last.ckpt` and exits with code 143.

    So it does on Ctrl-C, with code 130, and when its terminal is closed (SIGHUP, unless `nohup` keeps it), with code 129; another
    Ctrl-C ends it at once. The same command then goes on from there. A validation that is under way is finished first: its
    weights are the averaged ones. SLURM sends the signal early enough with `#SBATCH --signal=TERM@300`. After its last step a fit
    writes `last.ckpt` too: where that falls between two savings of every ModelCheckpoint, the end of the learning rate's decay
    would be lost.

    Lightning's own handlers are put aside while the fit runs. Theirs talk to the other processes wherever in a step the
    signal comes, which those may not be listening to; and the checkpoint of their requeueing is not the `last` one, which
    `ckpt_path: last` resumes from.

    Args:
        requeue: put the SLURM job back in the queue with `scontrol requeue` once the checkpoint is written.
    """

    def __init__(self, requeue: bool = False) -> None:
        self.requeue = requeue
        self._received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._silenced: list[ModelCheckpoint] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if stage == "fit" and not _keepers(trainer):
            raise UserError(
                "StopOnSignal has no ModelCheckpoint to write last.ckpt beside; add one to trainer.callbacks, or leave both out"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._received = signal.SIGTERM if trainer.received_sigterm else None
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                # what a shell or nohup has a process ignore stays ignored
                if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            if self._received == signal.SIGINT:
                raise KeyboardInterrupt
            os.write(2, _NOTE)
        self._received = signal.Signals(number)

    # A Checkpoint's turn comes last, when the averaged weights have taken this step in.
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches and not trainer.is_last_batch:
            return  # gradients that are being added up would be lost
        stopped = trainer.strategy.reduce_boolean_decision(self._received is not None, all=False)
        if not stopped and not _finished(trainer):
            return
        keeper = _keepers(trainer)[0]
        file = Path(str(keeper.dirpath), keeper.CHECKPOINT_NAME_LAST + keeper.FILE_EXTENSION)
        trainer.save_checkpoint(file)
        if not stopped:
            # One that has saved nothing yet writes last.ckpt again at the end, when averaged weights stand for the current ones.
            self._silenced = [keeper for keeper in _keepers(trainer) if keeper.save_last]
            for keeper in self._silenced:
                keeper.save_last = False
            return
        received = self._received or signal.SIGTERM  # another process's
        rank_zero_info(
            f"Stopped by {received.name} after step {trainer.global_step}; the same command goes on from {file}"
        )
        if self.requeue and trainer.is_global_zero and received != signal.SIGINT:
            _requeue()
        # Lightning kills a process whose children end with another code than none.
        environment = getattr(trainer.strategy, "cluster_environment", None)
        child = isinstance(environment, LightningEnvironment) and trainer.local_rank > 0
        raise SystemExit(0 if child else 128 + received)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        for keeper in self._silenced:
            keeper.save_last = True
        self._silenced = []
        for number, before in self._before.items():
            if number != signal.SIGINT or signal.getsignal(number) == self._receive:  # Lightning's, after Ctrl-C, stays
                signal.signal(number, before)
        self._before = {}


def _keepers(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    return [callback for callback in trainer.checkpoint_callbacks if isinstance(callback, ModelCheckpoint)]


def _finished(trainer: pl.Trainer) -> bool:
    last = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
    return last or 0 <= trainer.max_steps <= trainer.global_step


def _requeue() -> None:
    """Put the job back in SLURM's queue; without one, say that nothing was."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        rank_zero_warn("requeue is set but SLURM_JOB_ID is not: there is no job to put back in the queue")
        return
    try:
        subprocess.run(["scontrol", "requeue", job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        rank_zero_warn(f"job {job} was not put back in the queue: {error}; submit it again to go on")
