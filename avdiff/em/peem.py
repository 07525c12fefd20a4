"""The E-step of point-estimate EM (PEEM): the most probable z, by Adam."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.em.ldem import gradient
from avdiff.em.mcem import EStep
from avdiff.em.mixture import MixtureModel, Samples
from avdiff.rng import ClipNoise


@dataclass(frozen=True)
class PointEstimate(EStep):
    """z <- arg max p(x | z) p(z | v), some steps of Adam from where it was; the one sample of the M-step.

    Attributes:
        steps: of an E-step. Public code: 10 to 20.
        rate: of Adam. Public code: 5e-3 to 1e-2.
        smoothness: weight of the total variation of z along frames.
    """

    steps: int = 10
    rate: float = 1e-2
    smoothness: float = 0.0

    @property
    def evaluations(self) -> tuple[int, int]:
        return self.steps + 1, self.steps + 1

    def draw(
        self, model: MixtureModel, z: Tensor, rng: ClipNoise, step: int, last: bool = False
    ) -> tuple[Tensor, Samples]:
        mean, square = torch.zeros_like(z), torch.zeros_like(z)
        for i in range(1, self.steps + 1):
            slope, _ = gradient(model, z, self.smoothness)
            mean = 0.9 * mean + 0.1 * slope
            square = 0.999 * square + 0.001 * slope.square()
            z = z - self.rate * (mean / (1 - 0.9**i)) / ((square / (1 - 0.999**i)).sqrt() + 1e-8)
        return z, Samples(z, model.talkers.log_variance(z).exp())
