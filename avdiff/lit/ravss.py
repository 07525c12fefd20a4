"""Training of RAVSS: every source of a mixture at once, some talkers without their video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_noise_ratio

from avdiff.lit.supervised import Batch, SupervisedModel
from avdiff.nets.ravss import RAVSS


class RAVSSModel(SupervisedModel):
    """L = -E[SI-SNR] over all sources (arXiv 2407.19224): in order for talkers who are seen and for the noise, which is the last
    source, and in the best order for talkers who are not.

    Args:
        network: RAVSS.
        learning_rate: of Adam with amsgrad. Published: 1.5e-4.
        patience: validations without a better SI-SDR after which the rate is halved, as published (3); 0 for the other schedule.
        warmup_steps, decay_steps, lips, initial, seed: see `SupervisedModel`.
    """

    network: RAVSS

    def __init__(
        self,
        network: RAVSS,
        learning_rate: float = 1.5e-4,
        patience: int = 0,
        warmup_steps: int = 0,
        decay_steps: int = 0,
        lips: str | None = None,
        initial: Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(network, learning_rate, warmup_steps, decay_steps, lips, initial, seed)
        self.patience = patience

    def _scaled(self, batch: Batch) -> Tensor:
        mixture = batch["mixture"]
        return mixture / mixture.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6)

    def loss(self, batch: Batch) -> Tensor:
        mixture, seen, sources = self._scaled(batch), batch["seen"], batch["sources"]
        cued = seen.any(2).sum(1)  # those without video come last
        talkers, total = seen.shape[1], []
        for count in cued.unique().tolist():
            rows = cued == count
            found = self.network(
                mixture[rows], batch["visual"][rows, :count], seen[rows, :count], talkers - count, noise=True
            ).float()
            total.append(self.ratios(found, sources[rows], count).flatten())
        return self.nothing() - torch.cat(total).mean()  # where nobody is seen, what acts on lips has no use

    @staticmethod
    def ratios(found: Tensor, sources: Tensor, cued: int) -> Tensor:
        """SI-SNR in dB of each source, (B, K, T) each -> (B, K); those between the cued ones and the last, the noise, in the
        order that is best for them."""
        ratios = [scale_invariant_signal_noise_ratio(found[:, :cued], sources[:, :cued])]
        hidden = slice(cued, found.shape[1] - 1)
        unseen, true = found[:, hidden], sources[:, hidden]
        if unseen.shape[1] > 1:
            _, order = permutation_invariant_training(unseen, true, scale_invariant_signal_noise_ratio)
            unseen = torch.stack([row[places] for row, places in zip(unseen, order, strict=True)])
        ratios.append(scale_invariant_signal_noise_ratio(unseen, true))
        ratios.append(scale_invariant_signal_noise_ratio(found[:, -1:], sources[:, -1:]))
        return torch.cat(ratios, dim=1)

    def estimate(self, batch: Batch) -> Tensor:
        return self.network(self._scaled(batch), batch["visual"], batch["seen"])[:, :-1]

    def optimizer(self) -> torch.optim.Optimizer:
        parameters = [p for p in self.parameters() if p.requires_grad]
        return torch.optim.Adam(parameters, lr=self.learning_rate, amsgrad=True)

    def configure_optimizers(self) -> Any:
        if not self.patience:
            return super().configure_optimizers()
        optimizer = self.optimizer()
        # the rate is halved in the validation after so many bad ones
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=self.patience - 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "val/si_sdr"}}
