"""Non-negative matrix factorisation with the Itakura-Saito divergence: V = H W is fitted to a power spectrogram.

Févotte, Bertin, Durrieu, Neural Computation 21 (2009), with the exponent 1/2 that makes every update lower the cost
(Févotte, Idier, Neural Computation 23, 2011). Matrices are frames first: power (..., N, F), H (..., N, R), W (..., R, F).
"""

from __future__ import annotations

import torch
from torch import Tensor

from avdiff.em.base import FLOOR, MixtureEM, Outcome, Stopping, Watch, completed, cost, talkers_of
from avdiff.priors.nmf import Voices
from avdiff.priors.variance import VariancePrior
from avdiff.rng import ClipNoise
from avdiff.types import Observation

_LEAST = 1e-12  # of a factor, so that no pattern dies for good


def update_activations(power: Tensor, variance: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """H <- H ((P / V²) W^T / (1 / V) W^T)^(1/2): never raises sum P / V + ln V, V = H W + anything fixed."""
    inverse = variance.reciprocal()
    ratio = ((power * inverse.square()) @ w.mT) / (inverse @ w.mT).clamp_min(_LEAST)
    return (h * ratio.sqrt()).clamp_min(_LEAST)


def update_patterns(power: Tensor, variance: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """W <- W (H^T (P / V²) / H^T (1 / V))^(1/2); see `update_activations`."""
    inverse = variance.reciprocal()
    ratio = (h.mT @ (power * inverse.square())) / (h.mT @ inverse).clamp_min(_LEAST)
    return (w * ratio.sqrt()).clamp_min(_LEAST)


def normalised(h: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
    """The same H W with every pattern of mean 1."""
    scale = w.mean(-1, keepdim=True)
    return h * scale.mT, w / scale


def activations(power: Tensor, w: Tensor, iterations: int, h: Tensor | None = None) -> Tensor:
    """H for known patterns.

    Args:
        power: (..., N, F).
        w: (..., R, F).
        iterations: updates.
        h: (..., N, R) to start from; None for equal ones.
    """
    if h is None:
        h = power.mean(-1, keepdim=True).clamp_min(_LEAST).expand(*power.shape[:-1], w.shape[-2]) / w.shape[-2]
    for _ in range(iterations):
        h = update_activations(power, h @ w + FLOOR, h, w)
    return h


class NMF(MixtureEM):
    """Talkers with dictionaries learned beforehand, noise with one learned from the mixture (semi-supervised NMF).

    P ~ sum_k H_k W_k + H_b W_b with W_k known and H_k, H_b, W_b free. Smaragdis, Raj, Shashanka, ICA 2007, with the
    Itakura-Saito divergence.

    Args:
        voices: which dictionary each talker has: of any voice, or their own.
        rank: free patterns of each noise.
        iterations: at most.
        tolerance: nats a bin; a clip whose cost changes by less is done.
    """

    def __init__(self, voices: Voices, rank: int = 10, iterations: int = 100, tolerance: float = 1e-5) -> None:
        super().__init__()
        if rank < 1 or iterations < 1:
            raise ValueError(f"rank is {rank} and iterations {iterations}; both must be at least 1")
        self.voices = voices
        self.rank, self.iterations, self.tolerance = rank, iterations, tolerance

    @property
    def prior(self) -> VariancePrior:
        return self.voices.prior

    def estimate(
        self, power: Tensor, observation: Observation, *, rng: ClipNoise, watch: Watch | None = None
    ) -> Outcome:
        batch, frames, bins = power.shape
        sources, talkers = len(observation.layout), talkers_of(observation.layout)
        known = self.voices.patterns(observation, talkers).flatten(1, 2)  # (B, talkers * rank, F)
        fixed = known.shape[1]
        free = (sources - talkers) * self.rank
        # Random starts: equal patterns would stay equal.
        start = rng.normal((batch, 1, frames, fixed + free), 0, like=power)[:, 0].abs() + 0.1
        noise = rng.normal((batch, 1, free, bins), 1, like=power)[:, 0].abs() + 0.1
        h = start * power.mean((1, 2), keepdim=True).clamp_min(_LEAST) / (fixed + free)
        w = torch.cat([known, noise], dim=1)
        stopping = Stopping(batch, self.tolerance, power)

        def shares() -> Tensor:
            return completed(self._shares(h, w, talkers, sources))

        for iteration in range(self.iterations):
            new_h = update_activations(power, h @ w + FLOOR, h, w)
            new_w = w
            if free:
                found = update_patterns(power, new_h @ w + FLOOR, new_h[..., fixed:], w[:, fixed:])
                scaled, found = normalised(new_h[..., fixed:], found)
                new_h, new_w = torch.cat([new_h[..., :fixed], scaled], -1), torch.cat([known, found], 1)
            h, w = stopping.keep(new_h, h), stopping.keep(new_w, w)
            if watch is not None:
                watch(iteration + 1, self.iterations, shares)
            if not stopping.step(cost(power, h @ w + FLOOR)):
                break
        return Outcome(shares(), stopping.costs)

    def _shares(self, h: Tensor, w: Tensor, talkers: int, sources: int) -> Tensor:
        """Wiener gains (B, K, N, F)."""
        ranks = [(h.shape[-1] - (sources - talkers) * self.rank) // max(talkers, 1)] * talkers
        ranks += [self.rank] * (sources - talkers)
        parts = [a @ b for a, b in zip(h.split(ranks, -1), w.split(ranks, 1), strict=True)]
        return torch.stack(parts, 1) / (sum(parts) + FLOOR)[:, None]
