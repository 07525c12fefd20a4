"""Diffusion posterior sampling: the likelihood's gradient is taken through the denoisers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import TOO_FAR, Callback, PosteriorSampler, Progress, Watchdog
from avdiff.samplers.conditional import NoiseStream
from avdiff.samplers.schedule import PolySchedule

_SMALLEST = 1e-8  # added to a root mean square, as in BUDDy
_STATE = (
    "the guided denoisers left every plausible range; lower the sampler's zeta or churn, "
    "or set bounded: true on the joint prior"
)


class Guidance(ABC):
    """What is made of g, the gradient of -log p(y | D(x)) in x, before it joins the drift, which is of about unit size."""

    @abstractmethod
    def __call__(self, g: Tensor, sigma: float) -> Tensor:
        """g, (B, K, T), at noise level sigma to what is added to (x - D(x; sigma)) / sigma, same shape."""


@dataclass(frozen=True)
class PerSource(Guidance):
    """zeta g_k / (||g_k|| / sqrt(T)): every source is pushed equally hard (BUDDy's rule, source by source).

    The scale of the likelihood drops out. The paper of DAVSS-NM does not tell its rule; BUDDy, whose likelihood it takes over,
    has one source.

    Attributes:
        zeta: not known from DAVSS-NM. BUDDy's is 2.75 where the operator is known, as a sum is, and 0.5 where it is not;
            ArrayDPS's is 2.
    """

    zeta: float = 2.75

    def __call__(self, g: Tensor, sigma: float) -> Tensor:
        return self.zeta * g / (g.square().mean(-1, keepdim=True).sqrt() + _SMALLEST)


@dataclass(frozen=True)
class Jointly(Guidance):
    """zeta g / (||g|| / sqrt(K T)) over all sources together: those that bear more of the gradient are pushed harder.

    Attributes:
        zeta: as in `PerSource`.
    """

    zeta: float = 2.75

    def __call__(self, g: Tensor, sigma: float) -> Tensor:
        return self.zeta * g / (g.square().mean((-2, -1), keepdim=True).sqrt() + _SMALLEST)


@dataclass(frozen=True)
class Literal(Guidance):
    """zeta sigma g: with zeta = 1 the score of p(y | D(x)) as DPS's own equation has it (arXiv 2209.14687, eq. 10-11).

    Here the scale of the likelihood counts, and a narrow one makes the equation stiff: it takes many steps.

    Attributes:
        zeta: without unit.
    """

    zeta: float = 1.0

    def __call__(self, g: Tensor, sigma: float) -> Tensor:
        return self.zeta * sigma * g


@dataclass(frozen=True)
class DPS(PosteriorSampler):
    """DPS (arXiv 2209.14687) on a product of priors, as DAVSS-NM (arXiv 2509.14379) uses it.

    For all sources together, from noise of level t_0 down the levels t_i of the schedule and to 0:

        x0_hat = D(x; t),   g = -grad_x log p(y | x0_hat(x)),   dx/dt = (x - x0_hat) / t + guidance(g).

    g goes back through the denoisers of all sources. Of DAVSS-NM its 1,600 evaluations are known, with both guidance branches
    counted: 800 Euler steps, or 400 of Heun's. Not known, and BUDDy's here (arXiv 2405.04272): noise levels and rho, the rule
    and size of the gradient's step, churn, the estimate that is returned.

    The likelihood is taken at x0_hat as if that were certain, and the normalised rules replace even its strength by a constant
    speed. So DPS is biased, for Gaussian priors too: two white sources of deviation s, heard together with noise of 0.4 s, 200
    Euler steps from 40 s (`tests/analytic/test_dps.py` has the recursion that these figures come from, and holds the sampler to
    it). With zeta = 2.75 their sum is the mixture, noise and all, 1.08 times its posterior mean and without its spread; with 0.5
    it overshoots, 1.34 times and 0.04 of the variance; with `Literal` 1.20 times, without spread. What the mixture is silent on,
    the difference of the two, has 0.98 of its variance, which is 1 in the limit of many steps. Of two modes with posterior
    weights 0.725 and 0.275 the first gets 0.64, and 0.88 with `Literal` and churn (`tests/analytic/test_biases.py`).

    Attributes:
        schedule: t_i, without the 0 at the end. BUDDy: rho 10, from 8 (0.5 from a warm start) to 1e-4, in waveform units at
            sigma_data 0.05.
        guidance: rule and size of the gradient's step.
        heun: take Heun's second-order steps, two evaluations each, in place of Euler's.
        churn: S_churn of EDM (arXiv 2206.00364, algorithm 2): before each step the noise level is raised by the factor
            1 + min(churn / steps, sqrt(2) - 1). BUDDy: 50 with Euler, 10 with Heun; 0 is the ODE.
        churn_noise: S_noise, the deviation of the noise that this adds.
        denoise_last: return x0_hat of the last noise level, as BUDDy does, in place of the state at 0, which has been pushed
            once more.
    """

    schedule: PolySchedule
    guidance: Guidance = field(default_factory=PerSource)
    heun: bool = False
    churn: float = 0.0
    churn_noise: float = 1.0
    denoise_last: bool = True

    def __post_init__(self) -> None:
        if self.churn < 0 or self.churn_noise < 0:
            raise ValueError(f"churn is {self.churn} and churn_noise {self.churn_noise}; neither may be negative")

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
        if torch.is_inference_mode_enabled():
            raise UserError(
                "DPS differentiates, which Lightning's inference mode forbids; set trainer.inference_mode to false, as "
                "experiments/predict.yaml does"
            )
        noise = NoiseStream(rng, shape, like)
        sigmas = self.schedule.sigmas()
        watchdog = Watchdog(TOO_FAR * max(sigmas[0], prior.sigma_data))
        raised = 1 + min(self.churn / len(sigmas), math.sqrt(2) - 1)
        x = sigmas[0] * noise.normal()
        x0_hat = x
        for i, (sigma, then) in enumerate(pairwise([*sigmas, 0.0])):
            now = sigma
            if self.churn:
                now = raised * sigma
                x = x + self.churn_noise * math.sqrt(now**2 - sigma**2) * noise.normal()
            x0_hat, drift = self._drift(prior, likelihood, x, now)
            ahead = x + (then - now) * drift
            if self.heun and then > 0:
                _, drift_ahead = self._drift(prior, likelihood, ahead, then)
                ahead = x + 0.5 * (then - now) * (drift + drift_ahead)
            x = watchdog.check(ahead, step=i + 1, sigma=sigma, cause=_STATE)
            if callback is not None:
                callback(Progress(i + 1, len(sigmas), sigma, watchdog.zeroed(x0_hat)))
        return watchdog.done(x0_hat if self.denoise_last else x)

    def _drift(self, prior: BoundPrior, likelihood: BoundLikelihood, x: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """x0_hat and dx/dt of x, all (B, K, T), at noise level sigma."""
        with torch.enable_grad():
            state = x.detach().requires_grad_()
            x0_hat = prior.denoise(state, sigma)
            if not x0_hat.requires_grad:
                raise UserError("DPS differentiates the denoisers, and one of them has no gradient in its input")
            force = likelihood.grad(x0_hat.detach(), sigma).expand_as(x0_hat)  # of log p, by formula
            (pulled,) = torch.autograd.grad(x0_hat, state, force)
        x0_hat = x0_hat.detach()
        return x0_hat, (x - x0_hat) / sigma + self.guidance(-pulled, sigma)
