"""Training of one network of the scene classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import lightning.pytorch as pl
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from avdiff.errors import at_least, positive
from avdiff.nets.scene import SceneNet
from avdiff.scene.features import log_mel, with_differences


class SceneModule(pl.LightningModule):
    """Cross-entropy under mixup and SpecAugment, SGD with warm restarts: the recipe of arXiv 2007.08389.

    What its authors add offline (corrected spectra of other devices, reverberation, pitch, speed) is not done here.

    Args:
        network: with as many outputs as there are classes, or superclasses.
        superclasses: learn these instead of the classes.
        learning_rate, lowest_rate: between which every period falls by a cosine.
        restarts: epochs at which the rate rises again.
        weight_decay: 1e-3 for the ResNet, 0 for the others.
        mixup: parameter of the Beta distribution; a batch of 2 n clips makes n mixed ones. 0 for none.
        frames: crop of a clip in training; longer than the clip for all of it.
        masked_bins, masked_frames: the most that SpecAugment sets to zero of each, a mask a channel; 0 for none.
    """

    def __init__(
        self,
        network: SceneNet,
        superclasses: bool = False,
        learning_rate: float = 0.1,
        lowest_rate: float = 1e-5,
        restarts: Sequence[int] = (3, 7, 15, 31, 63, 127),
        weight_decay: float = 0.0,
        mixup: float = 0.4,
        frames: int = 400,
        masked_bins: int = 0,
        masked_frames: int = 0,
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate, lowest_rate=lowest_rate)
        at_least(0, weight_decay=weight_decay, mixup=mixup, masked_bins=masked_bins, masked_frames=masked_frames)
        at_least(1, frames=frames)
        self.network, self.superclasses = network, superclasses
        self.learning_rate, self.lowest_rate, self.restarts = learning_rate, lowest_rate, tuple(restarts)
        self.weight_decay, self.mixup, self.frames = weight_decay, mixup, frames
        self.masked_bins, self.masked_frames = masked_bins, masked_frames

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        x = self._masked(_cropped(with_differences(log_mel(batch["audio"])), self.frames))
        target = F.one_hot(self._labels(batch), self.network.classes).float()
        if self.mixup > 0:
            half = len(x) // 2
            share = torch.distributions.Beta(self.mixup, self.mixup).sample((half,)).to(x)
            x = _mix(x[:half], x[half : 2 * half], share)
            target = _mix(target[:half], target[half : 2 * half], share)
        loss = F.cross_entropy(self.network(x), target)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: dict[str, Tensor]) -> None:
        logits, labels = self.network(with_differences(log_mel(batch["audio"]))), self._labels(batch)
        self.log("val/loss", F.cross_entropy(logits, labels), batch_size=len(labels), sync_dist=True)
        right = (logits.argmax(-1) == labels).float().mean()
        self.log("val/accuracy", right, batch_size=len(labels), sync_dist=True, prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.SGD(self.parameters(), self.learning_rate, momentum=0.9, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches) // max(1, self.trainer.max_epochs or 1))

        def rate(step: int) -> float:
            return warm_restarts(step / steps, self.restarts, self.lowest_rate / self.learning_rate)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        network, of = self.network, self.trainer.datamodule.classes  # type: ignore[attr-defined]
        checkpoint["scene"] = {
            "network": type(network).__name__,
            "classes": network.classes,
            "names": list(of.coarse if self.superclasses else of.fine),
            "width": network.width,
            "superclasses": self.superclasses,
        }

    def _labels(self, batch: dict[str, Tensor]) -> Tensor:
        return batch["superclass" if self.superclasses else "class"]

    def _masked(self, x: Tensor) -> Tensor:
        """One mask of frequencies and one of frames for every clip and channel."""
        for dim, most in ((2, self.masked_bins), (3, self.masked_frames)):
            if most:
                size = x.shape[dim]
                width = torch.randint(0, most + 1, (*x.shape[:2], 1), device=x.device)
                start = (torch.rand((*x.shape[:2], 1), device=x.device) * (size - width)).long()
                place = torch.arange(size, device=x.device)
                mask = (place >= start) & (place < start + width)
                x = x.masked_fill(mask[:, :, :, None] if dim == 2 else mask[:, :, None], 0.0)
        return x


def warm_restarts(epoch: float, restarts: Sequence[int], lowest: float) -> float:
    """Share of the highest rate at an epoch: from 1 to `lowest` by a cosine between two restarts, each twice as far as the
    one before; after the last one likewise."""
    edges = [0, *restarts]
    start = max(edge for edge in edges if edge <= epoch)
    after = [edge for edge in edges if edge > start]
    end = after[0] if after else start + 2 * (start - edges[-2])
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * min(1.0, (epoch - start) / (end - start)))) / 2


def _cropped(x: Tensor, frames: int) -> Tensor:
    """A stretch of its own of every clip (B, C, F, N)."""
    if x.shape[-1] <= frames:
        return x
    starts = torch.randint(0, x.shape[-1] - frames + 1, (len(x),)).tolist()
    return torch.stack([clip[..., start : start + frames] for clip, start in zip(x, starts, strict=True)])


def _mix(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    weight = share.view(-1, *[1] * (a.ndim - 1))
    return weight * a + (1 - weight) * b
