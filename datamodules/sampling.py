"""The order of training clips: shuffled anew every epoch, shared out over processes, and taken up again where a run stopped."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import lightning.pytorch as pl
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, default_collate

from avdiff.errors import UserError, at_least
from avdiff.rng import drawn_by, stream_seed

VALIDATION_BATCH = 8  # clips, whatever the batches of the training

Item = TypeVar("Item", covariant=True)


@dataclass(frozen=True)
class Draw:
    """What a sampler asks a dataset for.

    Attributes:
        index: of the clip.
        seed: of everything that is random about it, such as the place of a crop: another in every epoch.
    """

    index: int
    seed: int


class Draws(DistributedSampler[Draw]):
    """Each clip once an epoch, in an order that (seed, epoch) gives. All processes take turns along that one order.

    What does not fill a batch in every process is left out at the end of the epoch. Lightning leaves a DistributedSampler
    as it is, and tells it the epoch.

    Args:
        clips: in the dataset.
        batch_size: of a process.
        seed: of the order and of the draws.
        rank, processes: which share.
        epoch: to begin with.
        done: clips of that epoch that all processes together have had.
    """

    def __init__(
        self,
        clips: int,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        epoch: int = 0,
        done: int = 0,
    ) -> None:
        if clips < batch_size * processes:
            raise UserError(
                f"there are only {clips} training clips and a step takes {batch_size * processes} ({batch_size} in each of "
                f"{processes} processes); give more clips, or a smaller --data.batch_size"
            )
        super().__init__(cast(Dataset, range(clips)), num_replicas=processes, rank=rank, seed=seed)
        self.step = batch_size * processes
        self.usable = clips - clips % self.step
        # what is left of an epoch that went on with larger batches may be less than one
        self.epoch, self.done = (epoch, done) if self.usable - done >= self.step else (epoch + 1, 0)

    @property
    def begun(self) -> int:
        """Batches of the epoch that are over as it is taken up: as many as leave those that there are clips for."""
        return self.usable // self.step - (self.usable - self.done) // self.step

    def __len__(self) -> int:
        """Of a whole epoch, also where one was stopped: so Lightning counts."""
        return self.usable // self.num_replicas

    def __iter__(self) -> Iterator[Draw]:
        generator = torch.Generator().manual_seed(stream_seed(self.seed, "order", self.epoch))
        order = torch.randperm(len(cast(range, self.dataset)), generator=generator)
        for place in range(self.done + self.rank, self.usable, self.num_replicas):
            yield Draw(int(order[place]), stream_seed(self.seed, "draw", self.epoch, place))

    def set_epoch(self, epoch: int) -> None:
        if epoch != self.epoch:
            self.epoch, self.done = epoch, 0


class Drawn(Dataset[Item]):
    """A dataset whose items' randomness, from torch's global generator, is what their draw says, in whichever process."""

    def __init__(self, dataset: Dataset[Item]) -> None:
        self.dataset = dataset

    def __getitem__(self, draw: Draw) -> Item:
        with drawn_by(torch.device("cpu"), draw.seed):
            return self.dataset[draw.index]

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]


def leave_signals(worker: int) -> None:
    """A loader's process outlives a signal to the whole job: the training process ends it, once it has its checkpoint."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class EveryNth(DistributedSampler[int]):
    """Rank r of n takes batches r, r + n, ...: none twice, and perhaps none.

    Lightning leaves a DistributedSampler as it is. Its own for prediction refuses fewer batches than processes, which
    is what a resumed run may have left.
    """

    def __init__(self, dataset: Dataset, batches: int, rank: int, processes: int) -> None:
        super().__init__(cast(Dataset[int], dataset), num_replicas=processes, rank=rank, shuffle=False)
        self.share: Sequence[int] = range(rank, batches, processes)

    def __iter__(self) -> Iterator[int]:
        return iter(self.share)

    def __len__(self) -> int:
        return len(self.share)


class ValidationClips(Dataset[dict[str, Any]]):
    """Clips in batches of a fixed size, one item each: what is drawn for a batch, and whose lips or voice another clip of it
    lends, depend neither on the batches of the training nor on the processes.

    `place` is the batch's place and `weight` the number of its clips. Processes take as many batches each, as they wait for each
    other: those that some have twice weigh nothing.

    Args:
        clips: in order.
        processes: that share them.
    """

    def __init__(self, clips: Dataset, processes: int = 1) -> None:
        self.clips = clips
        count = len(clips)  # type: ignore[arg-type]
        self.batches = [
            range(start, min(start + VALIDATION_BATCH, count)) for start in range(0, count, VALIDATION_BATCH)
        ]
        self.turns = -(-len(self.batches) // processes) * processes

    def __len__(self) -> int:
        return self.turns

    def __getitem__(self, turn: int) -> dict[str, Any]:
        place = turn % len(self.batches)
        batch = default_collate([self.clips[index] for index in self.batches[place]])
        return {**batch, "place": place, "weight": len(self.batches[place]) if turn < len(self.batches) else 0}


class TrainingClips(pl.LightningDataModule):
    """What every DataModule of training clips shares: `train`, once it is set up, in batches whose order survives a stop.

    Args:
        batch_size: of a process.
        workers: loader processes of a process; 0 loads in the training process.
        seed: of the order and of all that is random about a clip.
    """

    train: Dataset

    def __init__(self, batch_size: int, workers: int, seed: int) -> None:
        super().__init__()
        at_least(1, batch_size=batch_size)
        at_least(0, workers=workers)
        self.batch_size, self.workers, self.seed = batch_size, workers, seed
        self._place = {"epoch": 0, "clips": 0}
        self._resumed = False

    def train_dataloader(self) -> DataLoader:
        clips = len(self.train)  # type: ignore[arg-type]
        return self.loader(Drawn(self.train), Draws(clips, **self.share()))

    def share(self) -> dict[str, int]:
        """What this process's sampler is told beside the number of clips."""
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        return {
            "batch_size": self.batch_size,
            "seed": self.seed,
            "rank": rank,
            "processes": processes,
            "epoch": self._place["epoch"],
            "done": self._place["clips"],
        }

    def loader(self, dataset: Dataset, draws: Draws, collate: Callable[[list[Any]], Any] | None = None) -> DataLoader:
        """Batches of what the draws ask a dataset for.

        Args:
            dataset: takes draws as indices.
            draws: for this process.
            collate: makes a batch of items; None for torch's own.
        """
        self._count_on(draws)
        return DataLoader(
            dataset,
            self.batch_size,
            sampler=cast(Any, draws),
            drop_last=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=leave_signals,
            collate_fn=collate,
        )

    def validation(self, clips: Dataset, workers: int = 0) -> DataLoader:
        """Batches of validation clips for this process: see `ValidationClips`."""
        rank, processes = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        batches = ValidationClips(clips, processes)
        sampler = EveryNth(batches, len(batches), rank, processes)
        return DataLoader(batches, batch_size=None, sampler=sampler, num_workers=workers)

    def state_dict(self) -> dict[str, Any]:
        assert self.trainer is not None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        # The sampler's epoch: Lightning's own is one ahead, or behind, in checkpoints around an epoch's end.
        draws = cast(Draws, self.trainer.train_dataloader.sampler)  # type: ignore[union-attr]
        return {"epoch": draws.epoch, "clips": draws.done + (batches - draws.begun) * draws.step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._place = {name: int(state[name]) for name in ("epoch", "clips")}
        self._resumed = True

    def _count_on(self, draws: Draws) -> None:
        """Have Lightning, which counts the batches of an epoch, count on from a place that batches of another size led to."""
        if not self._resumed or not isinstance(self.trainer, pl.Trainer):
            return
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        finished = draws.epoch != self._place["epoch"]
        ahead = (draws.usable // draws.step if finished else draws.begun) - progress.current.ready
        if not ahead:
            return
        for counter in ("ready", "started", "processed", "completed"):
            setattr(progress.current, counter, max(0, getattr(progress.current, counter) + ahead))
        progress.is_last_batch = finished
