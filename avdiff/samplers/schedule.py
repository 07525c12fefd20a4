"""Annealing noise levels."""

from __future__ import annotations

from dataclasses import dataclass


def poly_grid(start: float, end: float, points: int, rho: float) -> list[float]:
    """`points` values from `start` to `end`, evenly spaced in their 1/rho-th power (EDM, eq. 5; SSNAPS, eq. 20)."""
    if points == 1:
        return [start]
    first, last = start ** (1 / rho), end ** (1 / rho)
    inner = [(first + i / (points - 1) * (last - first)) ** rho for i in range(1, points - 1)]
    return [start, *inner, end]


@dataclass(frozen=True)
class PolySchedule:
    """t_i = (t_max^(1/rho) + i/(N_A - 1) (t_min^(1/rho) - t_max^(1/rho)))^rho (SSNAPS, eq. 20).

    Attributes:
        steps: N_A, annealing steps.
        sigma_max: t_max, first noise level, in waveform units.
        sigma_min: t_min, last noise level; 0.01 in the paper.
        rho: not known from the paper; 7 is EDM's and DAPS's, 10 BUDDy's.
    """

    steps: int
    sigma_max: float
    sigma_min: float = 0.01
    rho: float = 7.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; an annealing takes at least one step")
        if not 0 < self.sigma_min <= self.sigma_max:
            raise ValueError(
                f"noise levels run from {self.sigma_max} to {self.sigma_min}; they must fall and stay above 0"
            )

    def sigmas(self) -> list[float]:
        """The N_A noise levels, falling."""
        return poly_grid(self.sigma_max, self.sigma_min, self.steps, self.rho)
