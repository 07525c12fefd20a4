"""Expectation maximisation in the local Gaussian model, with a denoiser as the model of every source."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.audio.representation import STFT, local_mean, require_centre, squared_magnitude
from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood, GaussianSum
from avdiff.priors.base import BoundPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import TOO_FAR, Callback, Fit, PosteriorSampler, Progress, Watchdog
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
    each. With `levels` the sources' levels are found likewise, and `fit` returns the prior at these: annealing that starts here
    goes on with them.

    Attributes:
        iterations: network evaluations a source.
        bins, frames: neighbourhood that variances are smoothed over, odd.
        anchor: a, how much of the prior's own variance is kept, 0 to 1.
        noise_anchor: the same of the sources that are noise; None for `anchor`.
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
        return self.fit(prior, likelihood, shape, like=like, rng=rng, callback=callback).checked()

    def fit(
        self,
        prior: BoundPrior,
        likelihood: BoundLikelihood,
        shape: tuple[int, int, int],
        *,
        like: Tensor,
        rng: ClipNoise,
        callback: Callback | None = None,
    ) -> Fit:
        """Posterior means, and the prior at the sources' levels as they were found."""
        gaussian = gaussian_of(likelihood, "LocalEM")
        std = prior.deviation(shape[-1])
        if std is None:
            raise UserError("LocalEM starts from variances that a prior does not know; take priors that do, or DAPS")
        observed = Observed.of(gaussian, STFT().to(like))
        state = self._first(std.square(), observed)
        x, watchdog = like.new_zeros(shape), Watchdog(TOO_FAR * prior.sigma_data)
        for i in range(self.iterations):
            others = variance_of_others(state.variance, observed)
            posterior = e_step(self._fitted(prior, state), observed, others)
            posterior = share_residual(posterior, observed, self.share)
            level = float(others.mean().sqrt())
            x = observed.waveforms(posterior.mean)
            x = watchdog.check(x, step=i + 1, sigma=level, cause=_ESTIMATE)
            state = self._m_step(state, posterior, observed, prior.noise)
            if callback is not None:
                callback(Progress(i + 1, self.iterations, level, x))
        return Fit(watchdog.lost(x), self._fitted(prior, state), watchdog.failures)

    def _fitted(self, prior: BoundPrior, state: LocalState) -> BoundPrior:
        """The prior at the levels of a state."""
        return prior if self.levels is None else prior.rescaled(state.gain[:, :, 0, 0].sqrt())

    def _first(self, expected: Tensor, observed: Observed) -> LocalState:
        """The state before the first iteration, from variances a priori and the mixture alone.

        Args:
            expected: variances by the prior as it is given, (B, K, bins, frames).
        """
        gain = torch.ones_like(expected[:, :, :1, :1])
        if self.levels is not None:
            gain = self.levels.first(expected, observed.power, observed.variance)
        known = gain * expected
        if self.spectra is not None:
            known = self.spectra.first(known, observed.power, observed.variance)
        return LocalState(expected, gain, known)

    def _m_step(self, state: LocalState, posterior: Posterior, observed: Observed, noise: Tensor) -> LocalState:
        """v_k <- v_k(prior)^a (|X_k|² + p_k, smoothed)^(1 - a), levels and spectra of v_k(prior) found anew before.

        Args:
            noise: (K,) bool, see `BoundPrior`.
        """
        power = observed.power_of(posterior.mean) + posterior.error
        gain = state.gain if self.levels is None else self.levels.next(state.expected, power)
        known = gain * state.expected
        if self.spectra is not None:
            known = self.spectra.next(known, power, noise)
        noise_anchor = self.anchor if self.noise_anchor is None else self.noise_anchor
        anchor = torch.where(noise, noise_anchor, self.anchor)[:, None, None]
        smooth = local_mean(power, self.bins, self.frames)
        return LocalState(state.expected, gain, known**anchor * smooth ** (1 - anchor))


@dataclass(frozen=True)
class Observed:
    """The mixture, as EM sees it. Powers and variances are those of white noise with as much energy in the bin.

    Attributes:
        stft: of everything here.
        signal: y, (B, 1, T).
        spectrum: (B, 1, bins, frames) complex.
        variance: std², of the likelihood's own noise, in squared waveform units.
    """

    stft: STFT
    signal: Tensor
    spectrum: Tensor
    variance: float

    @classmethod
    def of(cls, gaussian: GaussianSum, stft: STFT) -> Observed:
        """The mixture of a likelihood."""
        return cls(stft, gaussian.mixture[:, None], stft(gaussian.mixture)[:, None], gaussian.std**2)

    @property
    def power(self) -> Tensor:
        """|Y|², (B, 1, bins, frames)."""
        return self.power_of(self.spectrum)

    def power_of(self, spectrum: Tensor) -> Tensor:
        """(..., bins, frames) complex to powers."""
        return squared_magnitude(spectrum) / self.stft.energy

    def spectra(self, x: Tensor) -> Tensor:
        """(B, K, T) -> (B, K, bins, frames) complex."""
        return self.stft(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def waveforms(self, spectra: Tensor) -> Tensor:
        """Undoes `spectra`."""
        return self.stft.inverse(spectra.flatten(0, 1), self.signal.shape[-1]).unflatten(0, spectra.shape[:2])


@dataclass(frozen=True)
class LocalState:
    """Variances of the sources between two iterations of EM, in squared waveform units.

    Attributes:
        expected: by the prior as it was given, (B, K, bins, frames).
        gain: factors of these by the levels that were found, (B, K, 1, 1).
        variance: v_k, (B, K, bins, frames).
    """

    expected: Tensor
    gain: Tensor
    variance: Tensor


@dataclass(frozen=True)
class Posterior:
    """Sources given the mixture and the variances of the others.

    Attributes:
        mean: X_k, (B, K, bins, frames) complex.
        error: p_k, the variance of the mean's error in every bin, (B, K, bins, frames) in squared waveform units.
    """

    mean: Tensor
    error: Tensor


def variance_of_others(variance: Tensor, observed: Observed) -> Tensor:
    """sum_{j != k} v_j + std²: what every source is heard in, (B, K, bins, frames)."""
    return (variance.sum(1, keepdim=True) - variance).clamp_min(_LEAST) + observed.variance


def e_step(prior: BoundPrior, observed: Observed, others: Tensor) -> Posterior:
    """X_k, p_k of p(s_k | s_k + n = y) with n ~ N(0, others)."""
    shape = (*others.shape[:2], observed.signal.shape[-1])
    x, error = prior.estimate(observed.signal.expand(shape), others.sqrt())
    return Posterior(observed.spectra(x), error)


def share_residual(posterior: Posterior, observed: Observed, share: float) -> Posterior:
    """The means with a share of what they leave of the mixture, in proportion to p_k, and their errors less as much."""
    error = posterior.error
    part = share * error / (error.sum(1, keepdim=True) + observed.variance)
    residual = observed.spectrum - posterior.mean.sum(1, keepdim=True)
    return Posterior(posterior.mean + part * residual, error * (1 - part))
