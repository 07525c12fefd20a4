"""Unadjusted Langevin dynamics."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream

BLOCK = 10  # steps whose noise is drawn at once; part of the result, as each block has one seed


def decayed(eta: float, decay: float, progress: float) -> float:
    """eta_i = eta_0 [1 + i / N_A (delta - 1)]: DAPS's rule, which SSNAPS cites."""
    return eta * (1 + progress * (decay - 1))


@dataclass(frozen=True)
class Langevin(ConditionalSampler):
    """x <- x + eta (x0_hat - x) / r^2 + eta grad log p(y | x) + sqrt(2 eta) n, from x0_hat (SSNAPS, eq. 9, 12, 17).

    Attributes:
        steps: N_L.
        eta: eta_0, the step size of the first annealing step, in squared waveform units.
        decay: delta, the share of eta that is left at the end. Not known from SSNAPS; 0.01 is DAPS's.
    """

    steps: int
    eta: float
    decay: float = 0.01

    def draw(self, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream) -> Tensor:
        eta = decayed(self.eta, self.decay, at.progress)
        return langevin_steps(x0_hat, x0_hat, likelihood, at, noise, eta, self.steps)


def langevin_steps(
    x: Tensor, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream, eta: float, steps: int
) -> Tensor:
    """x after `steps` steps of size eta around x0_hat, both (B, K, T)."""
    x = x.clone()
    for start in range(0, steps, BLOCK):
        for n in noise.block(min(BLOCK, steps - start)).unbind(2):
            grad = likelihood.grad(x, at.sigma)
            x.lerp_(x0_hat, eta / at.width**2).add_(grad, alpha=eta).add_(n, alpha=(2 * eta) ** 0.5)
    return x
