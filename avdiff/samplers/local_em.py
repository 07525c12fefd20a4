"""Expectation maximisation in the local Gaussian model, with a denoiser as the model of every source."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.audio.representation import STFT, local_mean, require_centre, squared_magnitude
from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import TOO_FAR, Callback, PosteriorSampler, Progress, Watchdog
from avdiff.samplers.conditional import gaussian_of
from avdiff.samplers.levels import LevelFit
from avdiff.samplers.spectra import SpectrumFit

_LEAST = 1e-9  # floor of a variance, in squared waveform units: keeps silence finite
_ESTIMATE = "the priors' estimates are not finite or far too loud; check that the mixture is, and that the weights fit"


@dataclass(frozen=True)
class LocalEM(PosteriorSampler):
    """Posterior means without annealing: to each source the others are Gaussian noise with a variance in every bin.

    In the local Gaussian model (Duong, Vincent, Gribonval, IEEE TASLP 2010) source k is N(0, v_k) in a bin of the STFT, and EM
    alternates Wiener filters with v_k <- E|S_k|². Here a denoiser that takes noise of its own level in every bin stands in
    place of the Wiener filter, so that of the model only the others' variances remain:

        x_k, p_k <- mean and variance of p(s_k | s_k + n = y),  n ~ N(0, sum_{j != k} v_j + std²)
        v_k      <- v_k(prior)^a  (|X_k|² + p_k, smoothed)^(1 - a)

    It starts from the variances that the priors give before the mixture is heard. One iteration is exact for white Gaussian
    priors. No draw is made: the result does not depend on the seed. Ours, not SSNAPS's.

    With `spectra` the prior's variances first get the spectra of the sources at hand, before the first iteration and again after
    each. With `levels` the sources' levels are found likewise, and the bound prior keeps them: annealing that starts here goes
    on with them.

    Attributes:
        iterations: network evaluations a source.
        bins, frames: neighbourhood that variances are smoothed over, odd.
        anchor: a, how much of the prior's own variance is kept, 0 to 1.
        noise_anchor: the same of the noise, which is the last source; None for `anchor`.
        share: part of what the estimates leave of the mixture that is given to them, in proportion to p_k, 0 to 1.
        levels: how the sources' levels are found; None to take those of the prior.
        spectra: how their spectra are found; None to take those of the prior.
    """

    iterations: int = 3
    bins: int = 5
    frames: int = 9
    anchor: float = 0.1
    noise_anchor: float | None = None
    share: float = 0.8
    levels: LevelFit | None = None
    spectra: SpectrumFit | None = None

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"{self.iterations} iterations were asked for; ask for at least one")
        require_centre(bins=self.bins, frames=self.frames)
        for name in ("anchor", "noise_anchor", "share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}; it must lie between 0 and 1")

    @property
    def needs_closed_form(self) -> bool:
        return True

    @property
    def random(self) -> bool:
        return False

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
        samples = shape[-1]
        gaussian = gaussian_of(likelihood, "LocalEM")
        deviation = prior.deviation(samples)
        if deviation is None:
            raise UserError("LocalEM starts from variances that a prior does not know; take priors that do, or DAPS")
        stft = STFT().to(like)
        mixture = gaussian.mixture[:, None].expand(shape)
        heard = stft(gaussian.mixture)[:, None]
        loudness = squared_magnitude(heard) / stft.energy
        expected = deviation.square()
        factor = torch.ones_like(expected[:, :, :1, :1])
        if self.levels is not None:
            factor = self.levels.first(expected, loudness, gaussian.std**2)
            prior.rescale(factor[:, :, 0, 0].sqrt())
        known = factor * expected
        if self.spectra is not None:
            known = self.spectra.first(known, loudness, gaussian.std**2)
        variance = known
        anchor = torch.full_like(factor, self.anchor)
        if self.noise_anchor is not None:
            anchor[:, -1] = self.noise_anchor
        watchdog = Watchdog(TOO_FAR * prior.sigma_data)
        for i in range(self.iterations):
            rest = (variance.sum(1, keepdim=True) - variance).clamp_min(_LEAST) + gaussian.std**2
            x, error = prior.estimate(mixture, rest.sqrt())
            spectrum = stft(x.flatten(0, 1)).unflatten(0, shape[:2])
            if self.share:
                part = self.share * error / (error.sum(1, keepdim=True) + gaussian.std**2)
                spectrum = spectrum + part * (heard - spectrum.sum(1, keepdim=True))
                error = error * (1 - part)
                x = stft.inverse(spectrum.flatten(0, 1), samples).unflatten(0, shape[:2])
            level = float(rest.mean().sqrt())
            x = watchdog.check(x, step=i + 1, sigma=level, cause=_ESTIMATE)
            power = squared_magnitude(spectrum) / stft.energy + error
            if self.levels is not None:
                before, factor = factor, self.levels.next(expected, power)
                prior.rescale((factor / before)[:, :, 0, 0].sqrt())
            known = factor * expected
            if self.spectra is not None:
                known = self.spectra.next(known, power)
            power = local_mean(power, self.bins, self.frames)
            variance = known**anchor * power ** (1 - anchor)
            if callback is not None:
                callback(Progress(i + 1, self.iterations, level, x))
        return watchdog.done(x)
