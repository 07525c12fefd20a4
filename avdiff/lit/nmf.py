"""Training of an NMF dictionary of speech."""

from __future__ import annotations

from pathlib import Path

import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from avdiff.em.base import FLOOR, cost
from avdiff.errors import at_least, positive
from avdiff.lit.validation import weight_of
from avdiff.lit.written import WrittenModel
from avdiff.priors.factorisation import activations
from avdiff.priors.nmf import Dictionary, save_dictionary


class DictionaryModel(WrittenModel):
    """min over W of E[min over H of |s|² / (H W) + ln H W]: Itakura-Saito NMF of clean speech, a batch of clips at a time.

    For every batch H is found by multiplicative updates; W follows the gradient, of its logarithm.

    A batch is a dict with `audio` (B, T) float.

    Args:
        dictionary: what is learned.
        learning_rate: of Adam, decaying linearly to zero over the trainer's max_steps.
        updates: of H, a batch.
        out: folder for the dictionary at the end of each validation and of the fit; None for none.
    """

    def __init__(
        self, dictionary: Dictionary, learning_rate: float = 0.05, updates: int = 10, out: Path | None = None
    ) -> None:
        super().__init__()
        positive(learning_rate=learning_rate)
        at_least(1, updates=updates)
        self.dictionary, self.learning_rate, self.updates, self.out = dictionary, learning_rate, updates, out

    def loss(self, audio: Tensor) -> Tensor:
        """Nats a bin, over the frames that are not silent."""
        rms = audio.square().mean(-1, keepdim=True).sqrt()
        audio = audio[rms[:, 0] > 1e-4] / rms[rms[:, 0] > 1e-4]
        power = self.dictionary.power(audio).flatten(0, -2)
        power = power[power.mean(-1) > 1e-4]  # 40 dB below the clip
        w = self.dictionary.patterns
        with torch.no_grad():
            h = activations(power, w, self.updates, FLOOR)
        return cost(power, h @ w + FLOOR) if len(power) else w.sum() * 0

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch["audio"])
        self.log("train/loss", loss, prog_bar=True, batch_size=len(batch["audio"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        audio = batch["audio"]
        self.log("val/loss", self.loss(audio), prog_bar=True, batch_size=weight_of(batch, len(audio)), sync_dist=True)

    def write(self, out: Path) -> None:
        save_dictionary(out, self.dictionary)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
