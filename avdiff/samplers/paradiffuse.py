"""From the mixture down, with one denoiser evaluation a step and no back-propagation: the UDiffSE family."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise

from torch import Tensor

from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import TOO_FAR, Callback, PosteriorSampler, Progress, Watchdog
from avdiff.samplers.conditional import NoiseStream, gaussian_of

_STATE = (
    "the pull towards the mixture went too far, or the denoisers did; "
    "lower the sampler's weight or raise the likelihood's std"
)


@dataclass(frozen=True)
class OUVE:
    """Noise levels of the Ornstein-Uhlenbeck process of SGMSE and the UDiffSE family, brought to x0 + tau n.

    The process is x_t = mu x0 + s n with mu = e^(-theta t) and
    s^2 = a^2 ((b/a)^(2t) - e^(-2 theta t)) ln(b/a) / (theta + ln(b/a)). Divided by mu it is x0 + tau n, tau = s / mu.

    Attributes:
        steps: N; UDiffSE and ParaDiffUSE take 30.
        theta: stiffness.
        sigma_min, sigma_max: a and b.
        end: smallest time; the first is 1.
        unit: waveform level that stands for 1. The family works on a compressed STFT, 0.15 |c|^0.5, whose levels do not carry
            over to waveforms, so this is ours: 0.1 starts with noise of 0.17, 3.5 times data of deviation 0.05.
    """

    steps: int = 30
    theta: float = 1.5
    sigma_min: float = 0.05
    sigma_max: float = 0.5
    end: float = 0.03
    unit: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps is {self.steps}; a reverse process takes at least one step")
        if not 0 < self.sigma_min < self.sigma_max:
            raise ValueError(
                f"sigma_min is {self.sigma_min} and sigma_max {self.sigma_max}; they must be positive and rise"
            )
        if not 0 < self.end < 1:
            raise ValueError(f"end is {self.end}; the smallest time lies between 0 and 1")

    def levels(self) -> list[tuple[float, float]]:
        """(tau in waveform units, s) at N times, evenly spaced from 1 to `end`."""
        growth = math.log(self.sigma_max / self.sigma_min)
        found = []
        for i in range(self.steps):
            t = 1 + i / max(1, self.steps - 1) * (self.end - 1)
            rise = math.exp(2 * growth * t) - math.exp(-2 * self.theta * t)
            s = self.sigma_min * math.sqrt(rise * growth / (self.theta + growth))
            found.append((self.unit * s * math.exp(self.theta * t), s))
        return found


@dataclass(frozen=True)
class ParaDiffUSE(PosteriorSampler):
    """ParaDiffUSE-EN (arXiv 2601.09931), the UDiffSE sampler with a diffusion prior for the noise too, for any number of sources.

    Every source starts at the mixture plus noise of level tau_1 and goes down the levels, the last of which is 0:

        x0_hat = D(x; tau),   d = tau_i^2 - tau_(i+1)^2,
        r_k    = y - x_k - sum_{j != k} x0_hat_j,
        x_k   <- x_k + d (x0_hat_k - x_k) / tau^2 + weight s d r_k / (tau^2 + v) + sqrt(d) n     (no n in the last step).

    To each source the others are what the denoisers make of them, known up to a variance v, the likelihood's std squared. No
    gradient goes through a network, and a step costs one evaluation a prior: 30 in all. The family averages 4 results that it
    makes side by side: `PosteriorSeparator.draws`.

    The published form is on an Ornstein-Uhlenbeck process (see `OUVE`), which this is exactly after division by mu, in the
    compressed STFT of its networks; here it is in the waveform, where sources add up, and with the priors that are at hand. Its
    corrector is left out: the released settings switch it off.

    The pull is not the likelihood of the state, and 30 steps are few, so the result is biased, for Gaussian priors too: two white
    sources of deviation 0.05, heard together with noise of 0.02, default settings (`tests/analytic/test_paradiffuse.py` has the
    recursion that these figures come from, and holds the sampler to it). The sum comes out at 0.94 times its posterior mean with
    1.71 times the variance, the difference of the two with 0.52 times its variance. Of two modes with posterior weights 0.725 and
    0.275 the first gets 0.43 (`tests/analytic/test_biases.py`).

    Attributes:
        levels: noise levels.
        weight: lambda is `weight` times s of the level; 5.75 in ParaDiffUSE-EN, 1.5 (without s) in UDiffSE.
        share: of the mixture that every source starts at; 1 is the mixture itself, as in the family with one talker.
    """

    levels: OUVE = field(default_factory=OUVE)
    weight: float = 5.75
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.weight < 0 or not 0 <= self.share <= 1:
            raise ValueError(
                f"weight is {self.weight} and share {self.share}; weight must not be negative, share lie between 0 and 1"
            )

    @property
    def needs_closed_form(self) -> bool:
        return True

    def sample(
        self,
        prior: BoundPrior,
        likelihood: BoundLikelihood,
        shape: tuple[int, int, int],
        *,
        like: Tensor,
        rng: ClipNoise,
        callback: Callback | None = None,
    ) -> Tensor:
        gaussian = gaussian_of(likelihood, "ParaDiffUSE")
        mixture, variance = gaussian.mixture[:, None], gaussian.std**2
        levels = [*self.levels.levels(), (0.0, 0.0)]
        noise = NoiseStream(rng, shape, like)
        watchdog = Watchdog(TOO_FAR * max(levels[0][0], prior.sigma_data))
        x = self.share * mixture + levels[0][0] * noise.normal()
        for i, ((tau, s), (then, _)) in enumerate(pairwise(levels)):
            x0_hat = prior.denoise(x, tau)
            residual = mixture - x - (x0_hat.sum(1, keepdim=True) - x0_hat)
            fall = tau**2 - then**2
            tilt = likelihood.tilt(x0_hat, tau)
            pull = residual / (tau**2 + variance) if tilt is None else residual / (tau**2 + variance) + tilt
            x = x.lerp(x0_hat, fall / tau**2) + self.weight * s * fall * pull
            if then > 0:
                x = x + math.sqrt(fall) * noise.normal()
            x = watchdog.check(x, step=i + 1, sigma=tau, cause=_STATE)
            if callback is not None:
                callback(Progress(i + 1, self.levels.steps, tau, watchdog.zeroed(x0_hat)))
        return watchdog.done(x)
