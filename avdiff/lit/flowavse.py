"""Training of FlowAVSE: predictor and velocity together."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from avdiff.lit.supervised import Batch, SupervisedModel, rows_of_talkers
from avdiff.nets.flowavse import FlowAVSE


class FlowAVSEModel(SupervisedModel):
    """L = 1/2 E|P(y, v) - s|² / 2 + 1/2 E|G(x_t, P, v, t) - (x_1 - x_0)|² / 2 (arXiv 2406.09286), a mean over bins.

    x_0 is the predictor's output and x_1 the clean spectrogram, each with sigma_min of noise; x_t lies between them, with as
    much again; t is uniform. The output is not detached: the second term trains the predictor too. Each talker of a mixture
    who is seen is an example. Mixtures are scaled to a largest sample of 1, as in separation: the public code trains louder ones.

    Args:
        network: FlowAVSE.
        learning_rate: of Adam. Published: 1e-4, constant.
        sigma_min: deviation of the noise.
        steps: of Euler in validation.
        warmup_steps, decay_steps, lips, initial, seed: see `SupervisedModel`.
    """

    network: FlowAVSE

    def __init__(
        self,
        network: FlowAVSE,
        learning_rate: float = 1e-4,
        warmup_steps: int = 0,
        decay_steps: int = 0,
        sigma_min: float = 1e-4,
        steps: int = 1,
        lips: str | None = None,
        initial: Path | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(network, learning_rate, warmup_steps, decay_steps, lips, initial, seed)
        self.sigma_min, self.steps = sigma_min, steps

    def loss(self, batch: Batch) -> Tensor:
        mixture, target, visual, seen = rows_of_talkers(batch)
        if not len(mixture):
            return self.nothing()
        net, peak = self.network, mixture.abs().amax(-1, keepdim=True).clamp_min(1e-6)
        noisy, clean = net.transform(mixture / peak), net.transform(target / peak)
        first, second = net.embed(visual, seen, noisy.shape[-1])
        predicted = net.predictor(noisy, first).float()
        x0, x1 = (end + self.sigma_min * torch.randn_like(end) for end in (predicted, clean))
        time = net.start + (1 - net.start) * torch.rand(len(clean), device=clean.device)
        t = time[:, None, None, None]
        state = (1 - t) * x0 + t * x1 + self.sigma_min * torch.randn_like(x0)
        velocity = net.flow(state, predicted, second, time).float()

        def half_square(error: Tensor) -> Tensor:
            return 0.5 * error.square().sum(1).mean()  # |complex|²

        prediction, flow = half_square(predicted - clean), half_square(velocity - (x1 - x0))
        self.log_dict({"train/prediction": prediction, "train/flow": flow}, batch_size=len(clean))
        return 0.5 * prediction + 0.5 * flow

    def estimate(self, batch: Batch) -> Tensor:
        talkers = batch["visual"].shape[1]
        mixture = batch["mixture"].repeat_interleave(talkers, 0)
        found = self.network.extract(mixture, batch["visual"].flatten(0, 1), batch["seen"].flatten(0, 1), self.steps)
        return found.unflatten(0, (-1, talkers))
