"""Callbacks of the predict loop: results to disk, and progress of clips and sampler steps."""

from __future__ import annotations

import signal
import threading
import time
import warnings
from collections.abc import Set
from pathlib import Path
from types import FrameType
from typing import Protocol, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks.progress.progress_bar import ProgressBar
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from avdiff.errors import UserError
from avdiff.lit.separation import SeparationModule
from avdiff.lit.stopping import EXIT_CODE
from avdiff.lit.store import SeparationStore, StoredSeparation
from avdiff.samplers.base import Progress as SamplerProgress
from avdiff.types import Observation, Separation


class Resumable(Protocol):
    """A datamodule that can leave clips out."""

    def skip(self, keys: Set[str]) -> None:
        """Leave these clips out of the next predict run. Must be called before its dataloader is made."""
        ...


class SeparationWriter(pl.Callback):
    """Writes every clip as soon as it is separated, and has the datamodule leave out those that are there already.

    SIGTERM ends the process at once, with code 143: what is written stays, and the clip at hand is lost. (Lightning alone would
    take the signal and go on to the end of the list.)

    A clip that could not be separated is told of in a warning and leaves the reason in its place; the run goes on. It counts
    as done: the same settings would fail again.

    Args:
        out_dir: folder of the results; its layout is described at `SeparationStore`. None for the trainer's
            default_root_dir.
        resume: leave out clips that are there already. False separates them anew.
    """

    def __init__(self, out_dir: Path | None = None, resume: bool = True) -> None:
        self.out_dir, self.resume = out_dir, resume

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.store = SeparationStore(self.out_dir or trainer.default_root_dir)
        # Rank 0 alone looks: the ranks share the work out by the list, so they must have the same one.
        done: Set[str] = frozenset()
        if trainer.is_global_zero:
            self.store.folder.mkdir(parents=True, exist_ok=True)
            self.store.tidy()
            done = self.store.clips() | self.store.failures() if self.resume else done
        done = trainer.strategy.broadcast(done)
        if done:
            datamodule = getattr(trainer, "datamodule", None)
            if not hasattr(datamodule, "skip"):
                raise UserError(
                    f"{self.store.folder} holds {len(done)} clips already and the data given cannot leave clips out; "
                    "give another folder, or resume: false to separate them anew"
                )
            cast(Resumable, datamodule).skip(done)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _end)  # Lightning puts back what was there before when it is done

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Separation,
        batch: Observation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for row, (key, sources) in enumerate(zip(outputs.key, outputs.sources, strict=True)):
            info = outputs.record(row)
            if (reason := outputs.failures[row]) is not None:
                warnings.warn(f"clip {key} was given up: {reason}", stacklevel=2)
                self.store.write_failure(key, outputs.layout, info)
                continue
            std = None if outputs.std is None else outputs.std[row]
            self.store.write(StoredSeparation(key, outputs.layout, sources, batch.sample_rate, info, std))


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(EXIT_CODE)


def expected(seconds: float, batches: int, limit: float = 600.0) -> str | None:
    """What to say of a run before it is under way; None of one that ends within `limit` seconds.

    Args:
        seconds: that a batch of clips takes.
        batches: of the run.
    """
    whole = seconds * batches
    if whole < limit:
        return None
    time = f"{whole / 3600:.1f} hours" if whole >= 3600 else f"{whole / 60:.0f} minutes"
    return (
        f"This will take about {time}: {seconds:.0f} s each of {batches}, by the first steps of the first clip. What is done is "
        "kept when it is stopped; fewer mixtures or another method take less, such as ssnaps_fast."
    )


class SeparationProgress(ProgressBar):
    """Two bars on rank 0: batches of clips, and the steps of the sampler in the batch at hand.

    A run that takes long says how long after the first steps of its first batch.

    Args:
        steps: of the sampler, by which it is known.
        limit: seconds from which on a run is long.
    """

    def __init__(self, steps: int = 3, limit: float = 600.0) -> None:
        super().__init__()
        self.steps, self.limit = steps, limit
        self._begun: float | None = None
        self._enabled = True
        self._bars: Progress | None = None

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._enabled:
            return
        self._bars = Progress(
            *(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[note]}")),
            *(TimeElapsedColumn(), TimeRemainingColumn()),
        )
        self._batches = self._bars.add_task("batches", total=sum(trainer.num_predict_batches), note="")
        self._steps = self._bars.add_task("sampler", total=None, note="")
        cast(SeparationModule, pl_module).on_sampler_step = self._on_sampler_step
        self._bars.start()

    def _on_sampler_step(self, progress: SamplerProgress) -> None:
        assert self._bars is not None
        note = f"sigma {progress.sigma:.3g}"
        self._bars.update(self._steps, total=progress.steps, completed=progress.step, note=note)
        if self._begun is not None and progress.step >= min(self.steps, progress.steps):
            seconds = (time.perf_counter() - self._begun) / progress.step * progress.steps
            self._begun = None
            if (told := expected(seconds, int(self._bars.tasks[self._batches].total or 1), self.limit)) is not None:
                self._bars.console.print(told)

    def on_predict_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Observation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._bars is not None:
            self._bars.update(self._batches, note=batch.key[0] if len(batch.key) == 1 else f"{batch.key[0]} ...")
            self._bars.reset(self._steps, total=None, note="")
            self._begun = time.perf_counter() if batch_idx == 0 else None

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Separation,
        batch: Observation,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._bars is not None:
            self._bars.advance(self._batches)

    def _stop(self, pl_module: pl.LightningModule) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
            cast(SeparationModule, pl_module).on_sampler_step = None

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._stop(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._stop(pl_module)
