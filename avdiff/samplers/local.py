"""A conditional draw that knows where in time and frequency each source is uncertain."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from avdiff.audio.representation import STFT, local_mean, require_centre, squared_magnitude
from avdiff.likelihood.base import BoundLikelihood
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream, gaussian_of

_LEAST = 1e-12  # floor of a variance, in squared waveform units: keeps silence finite


@dataclass(frozen=True)
class LocalGaussian(ConditionalSampler):
    """The exact conditional of `ExactConditional` with a variance a source, frame and bin in place of one r².

    In each bin source k is taken as N(0, v_k) a priori, so that p(x0 | x_t) = N(x0_hat, c_k) with
    c_k = v_k sigma² / (v_k + sigma²). Seen through the denoiser, E|x0_hat|² = v_k² / (v_k + sigma²) =: p_k, which gives

        v_k = (p_k + sqrt(p_k² + 4 p_k sigma²)) / 2,   c_k = v_k - p_k,

    p_k measured as the mean of |X0_hat|² over neighbouring bins. With `known`, v_k is instead what the prior says of the
    source before the mixture is heard: a share of another source that has crept into x0_hat then does not call for more of
    it. What the mixture leaves unexplained thus goes to the sources that have energy there, as in a Wiener filter, and not
    to all alike. For white Gaussian sources it is the exact conditional with `PosteriorWidth`; r_t is not used. Ours, not
    SSNAPS's.

    Attributes:
        known: take v_k from the priors, where all of them can tell.
        bins, frames: size of the neighbourhood, odd.
        temperature: factor on the standard deviation of the draw; 1 is a posterior sample, below 1 it moves towards the
            mean of the posterior, which squared-error metrics favour.
        n_fft, hop: of the STFT.
    """

    known: bool = False
    bins: int = 3
    frames: int = 3
    temperature: float = 1.0
    n_fft: int = 510
    hop: int = 160

    def __post_init__(self) -> None:
        require_centre(bins=self.bins, frames=self.frames)

    @property
    def needs_closed_form(self) -> bool:
        return True

    @property
    def needs_deviation(self) -> bool:
        return self.known

    def draw(self, x0_hat: Tensor, likelihood: BoundLikelihood, at: Inner, noise: NoiseStream) -> Tensor:
        gaussian = gaussian_of(likelihood, "LocalGaussian")
        stft = STFT(self.n_fft, self.hop).to(x0_hat)

        def spectrum(x: Tensor) -> Tensor:
            return stft(x.flatten(0, -2)).unflatten(0, x.shape[:-1])

        centre = spectrum(x0_hat)
        if at.deviation is None:
            variance = self._variance(squared_magnitude(centre) / stft.energy, at.sigma)  # (B, K, bins, frames)
        else:
            known = at.deviation.square()
            variance = (known * at.sigma**2 / (known + at.sigma**2)).clamp_min(_LEAST)
        tilt = likelihood.tilt(x0_hat, at.sigma)
        if tilt is not None:
            centre = centre + variance * spectrum(tilt.expand_as(x0_hat))
        u = centre + self.temperature * variance.sqrt() * spectrum(noise.normal())
        mixture = gaussian.mixture[:, None]
        if self.temperature:
            mixture = mixture + self.temperature * gaussian.std * noise.normal()[:, :1]
        unexplained = spectrum(mixture) - u.sum(1, keepdim=True)
        x = u + variance / (variance.sum(1, keepdim=True) + gaussian.std**2) * unexplained
        return stft.inverse(x.flatten(0, 1), x0_hat.shape[-1]).unflatten(0, x0_hat.shape[:2])

    def _variance(self, power: Tensor, sigma: float) -> Tensor:
        """c_k from |X0_hat|², both (B, K, bins, frames) in squared waveform units."""
        p = local_mean(power, self.bins, self.frames)
        return (((p.square() + 4 * p * sigma**2).sqrt() - p) / 2).clamp_min(_LEAST)
