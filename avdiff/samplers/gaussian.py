"""Conditional samplers in closed form, for y = sum_k x_k + beta n."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream, gaussian_of
from avdiff.samplers.langevin import decayed


@dataclass(frozen=True)
class TruncatedChain(ConditionalSampler):
    """The last state of `Langevin`'s chain in one draw: same mean, same covariance.

    With a likelihood of standard deviation beta (`GaussianSum.std`) the chain is linear and has two modes: differences
    between sources, with precision lambda_d = 1/r^2, and their sum, with lambda_s = 1/r^2 + M/beta^2. With
    a = 1 - eta lambda and v = 2 eta (1 - a^(2 N)) / (1 - a^2) for each mode, and e = y - sum_k x0_hat_k:

        x_k = x0_hat_k + (1 - a_s^N) / (beta^2 lambda_s) e + sqrt(v_d) (z_k - mean z) + sqrt(v_s) mean z.

    For SSNAPS's eta the chain is far from converged at large sigma, so this is not the exact conditional. A guidance
    loss is taken as linear around x0_hat.

    Attributes:
        steps: N_L.
        eta: eta_0, in squared waveform units.
        decay: delta, the share of eta that is left at the last annealing step.
        step_cap: largest eta lambda_s allowed, at most 1, or None. A chain with eta lambda_s >= 2 diverges (with the
            plain STFT, SSNAPS's row for three speakers does). Where eta is above the cap, the chain is cut into smaller
            and proportionally more steps: its time eta N is kept, and more steps cost nothing here.
    """

    steps: int
    eta: float
    decay: float = 0.01
    step_cap: float | None = None

    def __post_init__(self) -> None:
        if self.step_cap is not None and not 0 < self.step_cap <= 1:
            raise ValueError(f"step_cap is {self.step_cap}; it must lie in (0, 1], or be null for no cap")

    @property
    def needs_closed_form(self) -> bool:
        return True

    def draw(self, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream) -> Tensor:
        gaussian = gaussian_of(likelihood, "TruncatedChain")
        precision_d = at.width**-2
        precision_s = precision_d + x0_hat.shape[1] / gaussian.std**2
        eta, steps = decayed(self.eta, self.decay, at.progress), self.steps
        if self.step_cap is not None and eta * precision_s > self.step_cap:
            time = eta * steps
            steps = math.ceil(time * precision_s / self.step_cap)
            eta = time / steps
        if eta * precision_s >= 2:
            raise UserError(
                f"the Langevin chain diverges at noise level {at.sigma:.3g}: eta ({eta:.3g}) times its largest "
                f"precision ({precision_s:.3g}) is {eta * precision_s:.2f} and must stay below 2; "
                "lower eta, raise beta, or set step_cap to 1"
            )
        reach_d, spread_d = _mode(eta, precision_d, steps)
        reach_s, spread_s = _mode(eta, precision_s, steps)

        x = x0_hat + reach_s / gaussian.std**2 * (gaussian.mixture[:, None] - x0_hat.sum(1, keepdim=True))
        tilt = likelihood.tilt(x0_hat, at.sigma)
        z = noise.normal()
        common = z.mean(1, keepdim=True)
        x = x + spread_d * (z - common) + spread_s * common
        if tilt is not None:
            push = tilt.mean(1, keepdim=True)
            x = x + reach_d * (tilt - push) + reach_s * push
        return x


def _mode(eta: float, precision: float, steps: int) -> tuple[float, float]:
    """Of one mode: how far a unit force has moved it after `steps`, and its standard deviation by then."""
    a = 1 - eta * precision
    return (1 - a**steps) / precision, math.sqrt(2 * eta * (1 - a ** (2 * steps)) / (1 - a * a))


@dataclass(frozen=True)
class ExactConditional(ConditionalSampler):
    """An exact draw from N(x0; x0_hat, r^2 I) N(y; sum x0, beta^2): perturb, then solve.

        x_k = u_k + r^2 / (M r^2 + beta^2) (y + beta z_y - sum_j u_j),   u_k = x0_hat_k + r z_k.

    No step size. With r = sigma it is much wider at large sigma than SSNAPS's chain: pair it with `PosteriorWidth`.
    A guidance loss is taken as linear around x0_hat, which shifts the centre by r^2 times its gradient.
    """

    @property
    def needs_closed_form(self) -> bool:
        return True

    def draw(self, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream) -> Tensor:
        gaussian = gaussian_of(likelihood, "ExactConditional")
        variance = at.width**2
        tilt = likelihood.tilt(x0_hat, at.sigma)
        centre = x0_hat if tilt is None else x0_hat + variance * tilt
        u = centre + at.width * noise.normal()
        y = gaussian.mixture[:, None] + gaussian.std * noise.normal()[:, :1]
        gain = variance / (x0_hat.shape[1] * variance + gaussian.std**2)
        return u + gain * (y - u.sum(1, keepdim=True))
