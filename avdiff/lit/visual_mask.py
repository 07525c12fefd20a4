"""Training of the visual mask network."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from avdiff.lit.supervised import Batch, SupervisedModel, rows_of_talkers
from avdiff.nets.visual_mask import VisualMask


class VisualMaskModel(SupervisedModel):
    """L = E|m Y - S|, a mean over the bins of mixtures at root mean square 1. Each talker who is seen is an example.

    Args:
        network: what is trained.
        learning_rate, warmup_steps, decay_steps, lips, initial, seed: see `SupervisedModel`.
    """

    network: VisualMask

    def __init__(
        self,
        network: VisualMask,
        learning_rate: float = 1e-3,
        warmup_steps: int = 0,
        decay_steps: int = 0,
        lips: str | None = None,
        initial: Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(network, learning_rate, warmup_steps, decay_steps, lips, initial, seed)

    def loss(self, batch: Batch) -> Tensor:
        mixture, target, visual, seen = rows_of_talkers(batch)
        if not len(mixture):
            return self.nothing()
        spectrum, rms = self.network.spectrum(mixture)
        clean = self.network.stft(self.network.padded(target) / rms.clamp_min(1e-6))
        error = self.network.mask(spectrum, visual, seen) * spectrum - clean
        # not abs(): its gradient at zero is none
        return (error.real.square() + error.imag.square() + 1e-8).sqrt().mean()

    def estimate(self, batch: Batch) -> Tensor:
        talkers = batch["visual"].shape[1]
        mixture = batch["mixture"].repeat_interleave(talkers, 0)
        found = self.network.extract(mixture, batch["visual"].flatten(0, 1), batch["seen"].flatten(0, 1))
        return found.unflatten(0, (-1, talkers))
