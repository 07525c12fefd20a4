"""Decoupled annealing posterior sampling."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise, stream_seed
from avdiff.samplers.base import TOO_FAR, Callback, PosteriorSampler, Progress, Watchdog
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream
from avdiff.samplers.ode import Euler, ODESolver
from avdiff.samplers.schedule import PolySchedule
from avdiff.samplers.width import Proportional, Width

_GUESS = (
    "the denoisers gave back more than any sound has, as they do where their gain exceeds one and estimates are fed back; "
    "set bounded: true on the joint prior, or lower its guidance"
)
_DRAW = "the draw given the mixture went astray; lower the sampler's eta, or raise the likelihood's beta"


@dataclass(frozen=True)
class DAPS(PosteriorSampler):
    """DAPS (arXiv 2407.01521) on a product of priors; with a mixture's likelihood and Langevin it is SSNAPS.

    For every noise level t_i: guess x0_hat from x_t by the ODE (eq. 14), draw x0 from p(x0 | x_t, y) with p(x0 | x_t)
    taken as N(x0_hat, r^2 I) (eq. 12, 17), add noise of level t_{i+1} (eq. 5). Equations are SSNAPS's.

    That Gaussian is the only approximation beside the denoiser, and it biases. For Gaussian priors the draw is exact
    with Tweedie's mean as x0_hat (an ODE of one step) and `PosteriorWidth`. An ODE solved well ends on a sample, not on
    the mean, and r comes on top: where the mixture does not fix it, the posterior's variance is then twice too large
    with either rule for r; with two Euler steps and r = sigma, the paper's setting, 1.33 times (300 steps from 4). Priors
    that are not Gaussian it flattens: of two modes with posterior weights 0.725 and 0.275 the first gets 0.51 to 0.52, whatever
    the conditional sampler, and 0.53 with r = sigma (`tests/analytic/test_biases.py` has such figures for every sampler).

    Attributes:
        schedule: t_i.
        conditional: how x0 is drawn.
        ode: how x0_hat is found.
        width: r_t.
        start: a sampler whose result, with noise of level t_1 on it, is where annealing begins, from a low t_1: a warm start
            (ours). Annealing goes on with the prior that it fitted. None for noise alone, as SSNAPS does.
        denoise_last: return D(x0; r) of the last draw, which still carries noise of about r, in place of the draw.
            Not known from the paper; public DAPS code returns the draw, which leaves a faint hiss.
    """

    schedule: PolySchedule
    conditional: ConditionalSampler
    ode: ODESolver = field(default_factory=Euler)
    width: Width = field(default_factory=Proportional)
    start: PosteriorSampler | None = None
    denoise_last: bool = True

    def __post_init__(self) -> None:
        if self.ode.sigma_end >= self.schedule.sigma_min:
            raise UserError(
                f"the ODE ends at noise level {self.ode.sigma_end} but the annealing goes down to "
                f"{self.schedule.sigma_min}; make ode.sigma_end smaller than schedule.sigma_min"
            )

    @property
    def needs_closed_form(self) -> bool:
        return self.conditional.needs_closed_form or (self.start is not None and self.start.needs_closed_form)

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
        noise = NoiseStream(rng, shape, like)
        sigmas = self.schedule.sigmas()
        watchdog = Watchdog(TOO_FAR * max(sigmas[0], prior.sigma_data))
        x = sigmas[0] * noise.normal()
        before = 0  # steps of the start

        def started(progress: Progress) -> None:
            nonlocal before
            before = progress.steps
            if callback is not None:
                callback(replace(progress, steps=before + len(sigmas)))

        if self.start is not None:
            own = replace(rng, seed=stream_seed(rng.seed, "start"))  # not the noise that the annealing adds to it
            fit = self.start.fit(prior, likelihood, shape, like=like, rng=own, callback=started)
            x, prior = x + watchdog.started(fit), fit.prior
        deviation = prior.deviation(shape[-1]) if self.conditional.needs_deviation else None
        for i, sigma in enumerate(sigmas):
            at = Inner(sigma, self.width(sigma, prior.sigma_data), i / len(sigmas), deviation)
            x0_hat = watchdog.check(self.ode.solve(prior, x, sigma), step=i + 1, sigma=sigma, cause=_GUESS)
            x0 = self.conditional.draw(x0_hat, likelihood, at, noise)
            x0 = watchdog.check(x0, step=i + 1, sigma=sigma, cause=_DRAW)
            if i + 1 < len(sigmas):
                x = x0 + sigmas[i + 1] * noise.normal()
            elif self.denoise_last:
                x0 = watchdog.check(prior.denoise(x0, at.width), step=i + 1, sigma=sigma, cause=_GUESS)
            if callback is not None:
                callback(Progress(before + i + 1, before + len(sigmas), sigma, x0))
        return watchdog.done(x0)
