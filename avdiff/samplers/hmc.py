"""Hamiltonian Monte Carlo with friction, at one gradient a step: Langevin's chain with momentum."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream
from avdiff.samplers.langevin import BLOCK, decayed


@dataclass(frozen=True)
class _Hamiltonian(ConditionalSampler, ABC):
    """Position x and velocity v from x0_hat, with score(x) = (x0_hat - x) / r^2 + grad log p(y | x).

    Attributes:
        steps: N, as many gradients of the likelihood as `Langevin` with as many steps.
        eta: eta_0, the squared step size of the first annealing step, in squared waveform units.
        momentum: m, the share of the velocity that is kept from step to step, 0 up to but not including 1.
        decay: delta, the share of eta that is left at the end (DAPS: 0.01).
    """

    steps: int
    eta: float
    momentum: float = 0.9
    decay: float = 0.01

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum is {self.momentum}; it must lie in [0, 1)")

    def draw(self, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream) -> Tensor:
        step = decayed(self.eta, self.decay, at.progress) ** 0.5
        x, v = x0_hat, noise.normal()
        for start in range(0, self.steps, BLOCK):
            for i, n in enumerate(noise.block(min(BLOCK, self.steps - start)).unbind(2), start):
                score = (x0_hat - x) / at.width**2 + likelihood.grad(x, at.sigma)
                x, v = self._step(x, v, score, n, step, first=i == 0)
        return x

    @abstractmethod
    def _step(self, x: Tensor, v: Tensor, score: Tensor, n: Tensor, step: float, first: bool) -> tuple[Tensor, Tensor]:
        """Position and velocity after one step of size `step`, from the score at x and standard normal n."""


@dataclass(frozen=True)
class DampedHMC(_Hamiltonian):
    """v <- m v + sqrt(eta) score(x) + sqrt(2 (1 - m)) n,   x <- x + sqrt(eta) v: the rule of DAPS's public code.

    With m = 0 it is `Langevin`. DAPS needs 11 to 12 such steps where it takes 100 of Langevin's on easy tasks (m 0.8 and 0.9).
    Biased, as Langevin is, for steps that are not small: where the target is a Gaussian of precision lambda, the chain ends with
    the variance

        (1 / lambda) / (1 - eta lambda / (2 (1 + m))),

    and diverges for eta lambda >= 2 (1 + m).
    """

    def _step(self, x: Tensor, v: Tensor, score: Tensor, n: Tensor, step: float, first: bool) -> tuple[Tensor, Tensor]:
        v = self.momentum * v + step * score + (2 * (1 - self.momentum)) ** 0.5 * n
        return x + step * v, v


@dataclass(frozen=True)
class SplitHMC(_Hamiltonian):
    """The same dynamics in the order kick, drift, friction, drift ("BAOAB", Leimkuhler and Matthews, arXiv 1203.5428).

        v <- v + sqrt(eta) score(x) (half of it in the first step),   x <- x + sqrt(eta) / 2 v,
        v <- m v + sqrt(1 - m^2) n,                                   x <- x + sqrt(eta) / 2 v.

    Where the conditional is Gaussian its stationary law is that Gaussian for every step below the limit, eta lambda < 4 with
    the largest precision lambda: no bias from the step size. Ours in DAPS.
    """

    def _step(self, x: Tensor, v: Tensor, score: Tensor, n: Tensor, step: float, first: bool) -> tuple[Tensor, Tensor]:
        v = v + (0.5 if first else 1.0) * step * score
        x = x + 0.5 * step * v
        v = self.momentum * v + (1 - self.momentum**2) ** 0.5 * n
        return x + 0.5 * step * v, v
