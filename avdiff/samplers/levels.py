"""How loud each source is, from the mixture."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.audio.representation import local_mean, require_centre

_LEAST = 1e-12  # of a variance, in squared waveform units: keeps silence finite


@dataclass(frozen=True)
class LevelFit:
    """Levels of the sources by maximum likelihood, once their spectra v_k are known but for a factor a_k.

    In the local Gaussian model these are the gains of Itakura-Saito NMF with given spectra, found by its multiplicative rule
    (Févotte, Idier, Neural Computation 2011, the majorisation-minimisation algorithm at beta = 0):

        a_k <- a_k (sum v_k |Y|² / V² / sum v_k / V)^(1/2),   V = sum_j a_j v_j.

    Without it a recording with little noise is cleaned of noise as loud as the recipe's `levels` say, and loses speech. Ours.

    Attributes:
        rounds: of the rule; the more, the further levels go from those of the recipe.
        bins, frames: neighbourhood that |Y|² is a mean over, odd.
        doubt_db: a change of the recipe's levels by so much is believed by half, smaller ones less and larger ones more: a
            change of x is taken as x³ / (x² + doubt_db²).
        least_db, most_db: bounds of what is added.
    """

    rounds: int = 10
    bins: int = 3
    frames: int = 3
    doubt_db: float = 5.0
    least_db: float = -35.0
    most_db: float = 9.0

    def __post_init__(self) -> None:
        require_centre(bins=self.bins, frames=self.frames)

    def first(self, variance: Tensor, heard: Tensor, extra: float = 0.0) -> Tensor:
        """Factors a_k of the variances, (B, K, 1, 1).

        Args:
            variance: v_k, (B, K, bins, frames).
            heard: |Y|² on the same scale, (B, 1, bins, frames).
            extra: variance of the likelihood's own noise.
        """
        power = local_mean(heard, self.bins, self.frames)
        return self._believed(likely_gains(variance, power, extra, self.rounds, _mean))

    def next(self, variance: Tensor, power: Tensor) -> Tensor:
        """Factors a_k by what the sources were found to be, (B, K, 1, 1).

        Args:
            variance: v_k, (B, K, bins, frames).
            power: E|S_k|², (B, K, bins, frames).
        """
        return self._believed(_mean(power) / _mean(variance))

    def _believed(self, factor: Tensor) -> Tensor:
        return believed(factor, self.doubt_db, self.least_db, self.most_db)


def likely_gains(
    variance: Tensor, heard: Tensor, extra: float, rounds: int, mean: Callable[[Tensor], Tensor]
) -> Tensor:
    """Factors of the variances of sources that make |Y|² likely, by the rule of `LevelFit`, from ones.

    Args:
        variance: v_k, (B, K, bins, frames).
        heard: |Y|² on the same scale, (B, 1, bins, frames).
        extra: variance of the likelihood's own noise.
        rounds: of the rule.
        mean: over the bins that share a factor.
    """
    factor = torch.ones_like(mean(variance))
    for _ in range(rounds):
        total = (factor * variance).sum(1, keepdim=True) + extra + _LEAST
        share = variance / total
        factor = factor * (mean(share * heard / total) / mean(share).clamp_min(_LEAST)).sqrt()
    return factor


def believed(factor: Tensor, doubt_db: float, least_db: float, most_db: float) -> Tensor:
    """Factors of powers, x dB each, as x³ / (x² + doubt_db²) dB within bounds: see `LevelFit`."""
    decibel = 10 * factor.clamp_min(_LEAST).log10()
    decibel = decibel * decibel.square() / (decibel.square() + doubt_db**2 + _LEAST)
    return 10 ** (decibel.clamp(least_db, most_db) / 10)


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)
