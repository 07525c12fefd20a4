"""From a noisy state to a clean guess: the probability flow ODE."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

from avdiff.priors.base import BoundPrior
from avdiff.samplers.schedule import poly_grid


@dataclass(frozen=True)
class ODESolver(ABC):
    """Solves dx = (x - D(x; sigma)) / sigma dsigma (SSNAPS, eq. 2 and 4) from a noise level down.

    The paper leaves the grid between sigma and 0 open. Here: `steps` + 1 points, polynomial in rho, from sigma to
    sigma_end; with `to_zero` the last of them is moved to 0, where a step is Tweedie's formula. One step to zero is
    D(x; sigma).

    Attributes:
        steps: N_ODE.
        sigma_end: where the grid aims, in waveform units, below every sigma that is asked for.
        rho: curvature of the grid.
        to_zero: whether the last point is 0 itself; if not, noise of about sigma_end stays in x0_hat.
    """

    steps: int = 2
    sigma_end: float = 1e-3
    rho: float = 7.0
    to_zero: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; an ODE takes at least one step")
        if self.sigma_end <= 0:
            raise ValueError(f"sigma_end is {self.sigma_end}; aim above 0, and set to_zero to end at 0 exactly")

    def solve(self, prior: BoundPrior, x: Tensor, sigma: float) -> Tensor:
        """x0_hat of x at noise level sigma, both (B, K, T)."""
        points = poly_grid(sigma, self.sigma_end, self.steps + 1, self.rho)
        if self.to_zero:
            points[-1] = 0.0
        for now, then in pairwise(points):
            x = self.step(prior, x, now, then)
        return x

    @abstractmethod
    def step(self, prior: BoundPrior, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        """One step, from sigma to sigma_next >= 0."""


@dataclass(frozen=True)
class Euler(ODESolver):
    """First order, one evaluation a step."""

    def step(self, prior: BoundPrior, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        x0_hat = prior.denoise(x, sigma)
        return x0_hat.lerp(x, sigma_next / sigma)


@dataclass(frozen=True)
class Heun(ODESolver):
    """Second order, two evaluations a step; one on a step to 0 (EDM, algorithm 1)."""

    def step(self, prior: BoundPrior, x: Tensor, sigma: float, sigma_next: float) -> Tensor:
        x0_hat = prior.denoise(x, sigma)
        euler = x0_hat.lerp(x, sigma_next / sigma)
        if sigma_next == 0:
            return euler
        slope = (x - x0_hat) / sigma + (euler - prior.denoise(euler, sigma_next)) / sigma_next
        return x + 0.5 * (sigma_next - sigma) * slope
