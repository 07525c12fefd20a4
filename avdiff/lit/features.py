"""Visual features of clips under Lightning's predict, which spreads them over devices and machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from itertools import pairwise
from typing import Any, Protocol, TypedDict, cast

import lightning.pytorch as pl
import torch
from torch import Tensor

from avdiff.lit.callbacks import Resumable
from avdiff.nets.visual import VisualEncoder
from avdiff.separators.chunked import stretches
from avdiff.types import SAMPLES_PER_FRAME


class Mouths(TypedDict):
    """A batch: clips of one length. Padding would change what the encoder says of the frames before it."""

    key: Sequence[str]  # clip ids, length N
    mouth: Tensor  # (N, F, 96, 96) uint8


class Store(Protocol):
    """Where features are kept."""

    def done(self) -> Set[str]:
        """Ids of the clips that are there."""
        ...

    def begin(self, card: Mapping[str, Any]) -> None:
        """Say what makes the features, or see that it is the same as before."""
        ...

    def open(self, rank: int) -> None:
        """Be ready to add, as one of several processes."""
        ...

    def add(self, key: str, features: Tensor) -> None:
        """Keep the features (F, D) of a clip."""
        ...

    def close(self) -> None:
        """Nothing more will be added."""
        ...


class Features(pl.LightningModule):
    """An encoder on whole clips. What it says of a frame depends on the frames around: on all that `separate` would show it.

    So a clip of more than `seconds` is cut into the stretches that `separate` cuts a recording into, and where two overlap
    each gives its half.

    Args:
        encoder: to run; frozen.
        seconds, overlap: of the stretches.
    """

    def __init__(self, encoder: VisualEncoder, seconds: int = 30, overlap: int = 2) -> None:
        super().__init__()
        self.encoder = encoder.eval()
        self.seconds, self.overlap = seconds, overlap

    @property
    def window(self) -> dict[str, int]:
        """How clips are cut, for the card."""
        return {"seconds": self.seconds, "overlap": self.overlap}

    def forward(self, mouth: Tensor) -> Tensor:
        """(N, F, 96, 96) uint8 -> (N, F, D)."""
        frames = mouth.shape[1]
        plan = [
            (start // SAMPLES_PER_FRAME, stop // SAMPLES_PER_FRAME)
            for start, stop in stretches(frames * SAMPLES_PER_FRAME, self.seconds, self.overlap)
        ]
        borders = [0, *((a[1] + b[0]) // 2 for a, b in pairwise(plan)), frames]
        parts = [
            self.encoder(mouth[:, start:stop])[:, first - start : last - start]
            for (start, stop), (first, last) in zip(plan, pairwise(borders), strict=True)
        ]
        return torch.cat(parts, dim=1)

    def predict_step(self, batch: Mouths) -> Tensor:
        return self(batch["mouth"])


class FeatureWriter(pl.Callback):
    """Keeps the features of every clip as soon as they are made, and has the datamodule leave out those that are there.

    Args:
        store: where.
        card: what makes them.
    """

    def __init__(self, store: Store, card: Mapping[str, Any]) -> None:
        self.store, self.card = store, card

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        # Rank 0 alone looks, before anyone writes: the ranks share the work out by the list, so they must have the same one.
        done: Set[str] = frozenset()
        if trainer.is_global_zero:
            self.store.begin(self.card)
            done = self.store.done()
        done = trainer.strategy.broadcast(done)
        cast(Resumable, trainer.datamodule).skip(done)  # type: ignore[attr-defined]
        self.store.open(trainer.global_rank)

    def on_predict_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Tensor,
        batch: Mouths,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        for key, features in zip(batch["key"], outputs.half().cpu(), strict=True):
            self.store.add(key, features)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self.store.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self.store.close()
