"""The spectrum of each voice and of the noise in a mixture, which the priors know in the mean only."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.audio.representation import local_mean, require_centre
from avdiff.samplers.levels import believed, likely_gains

_LEAST = 1e-9  # floor of a variance, in squared waveform units: keeps silence finite


@dataclass(frozen=True)
class SpectrumFit:
    """Variances v_k of the sources a priori, corrected by what is heard: g_k(f) v_k(f, t).

    A prior's variances are those of its training data in the mean, or of any voice with such lips. This voice and this noise have
    long-term spectra of their own. Before the first estimate g_k is found band by band, as `LevelFit` finds levels; after it

        g_k(f) = mean_t E|S_k|² / mean_t v_k,    and for the noise    h(t) = mean_f E|S_k|² / (g_k v_k),

    which makes the noise's variance g(f) h(t) v(f, t): one spectrum that swells and fades. Ours.

    Attributes:
        rounds: of the rule before the first estimate.
        band: half the bins that g_k is a weighted mean over there, odd.
        doubt_db: changes of less than this are believed by less than half there, as in `LevelFit`.
        bins: that g_k is a mean over after an estimate, odd.
        frames: that h is a mean over, odd.
        most_db: bounds of what is changed, up and down.
    """

    rounds: int = 10
    band: int = 13
    doubt_db: float = 1.0
    bins: int = 3
    frames: int = 3
    most_db: float = 20.0

    def __post_init__(self) -> None:
        require_centre(band=self.band, bins=self.bins, frames=self.frames)

    def first(self, variance: Tensor, heard: Tensor, extra: float = 0.0) -> Tensor:
        """Variances (B, K, bins, frames) with the spectra that make the mixture likely.

        Args:
            variance: v_k, (B, K, bins, frames).
            heard: |Y|² on the same scale, (B, 1, bins, frames).
            extra: variance of the likelihood's own noise.
        """
        gain = likely_gains(variance, local_mean(heard, 3, 3), extra, self.rounds, self._around)
        return variance * believed(gain, self.doubt_db, -self.most_db, self.most_db)

    def next(self, variance: Tensor, power: Tensor, noise: Tensor) -> Tensor:
        """Variances (B, K, bins, frames) with the spectra of what the sources were found to be.

        Args:
            variance: v_k, (B, K, bins, frames).
            power: E|S_k|², (B, K, bins, frames).
            noise: (K,) bool, the sources that are noise.
        """
        found, expected = (local_mean(x.mean(3, keepdim=True), self.bins, 1) for x in (power, variance))
        variance = variance * self._bounded(found / expected.clamp_min(_LEAST))
        course = local_mean((power / variance.clamp_min(_LEAST)).mean(2, keepdim=True), 1, self.frames)
        return torch.where(noise[:, None, None], variance * self._bounded(course), variance)

    def _around(self, x: Tensor) -> Tensor:
        """Means over time and, weighted by a triangle, over neighbouring bins: those over a rectangle let the rule diverge."""
        return local_mean(local_mean(x.mean(3, keepdim=True), self.band, 1), self.band, 1)

    def _bounded(self, factor: Tensor) -> Tensor:
        most = 10 ** (self.most_db / 10)
        return factor.clamp(1 / most, most)
