"""Separation by non-negative matrix factorisation with the Itakura-Saito divergence (Févotte, Bertin, Durrieu, Neural
Computation 21, 2009). Matrices are frames first: power (..., N, F), H (..., N, R), W (..., R, F).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from avdiff.em.base import FLOOR, MixtureEM, Outcome, Stopping, Watch, completed, cost, talkers_of
from avdiff.priors.factorisation import LEAST, normalised, update_activations, update_patterns
from avdiff.priors.nmf import Voices
from avdiff.priors.variance import VariancePrior
from avdiff.rng import ClipNoise
from avdiff.types import Observation


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

    def restricted(self, speakers: Sequence[int]) -> NMF:
        return NMF(self.voices.restricted(speakers), self.rank, self.iterations, self.tolerance)

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
        h = start * power.mean((1, 2), keepdim=True).clamp_min(LEAST) / (fixed + free)
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
