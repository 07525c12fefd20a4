"""The model of a mixture of talkers whose variances a decoder says and of noise by NMF, and its M-step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from avdiff.em.base import FLOOR, Stopping, cost
from avdiff.priors.factorisation import normalised, update_activations, update_patterns
from avdiff.rng import ClipNoise

_LEAST = 1e-8  # of a gain


class LatentPrior(Protocol):
    """p(z | v) of every talker and frame."""

    @property
    def mean(self) -> Tensor: ...
    def log_prob(self, z: Tensor) -> Tensor:
        """(..., B, K, N, D) -> (..., B, K, N), but for a constant."""
        ...


@dataclass(frozen=True)
class Talkers:
    """What is known of the talkers of a batch before their mixture is heard.

    Attributes:
        log_variance: z (..., B, K, N, D) -> ln sigma² (..., B, K, N, F).
        prior: of z.
        start: (B, K, N, D), where EM begins.
        gain: (B, K, N), g to begin with.
        levelled: whether g stays as it begins.
    """

    log_variance: Callable[[Tensor], Tensor]
    prior: LatentPrior
    start: Tensor
    gain: Tensor
    levelled: bool = False


@dataclass(frozen=True)
class MixtureModel:
    """x_fn ~ N_c(0, V_fn), V_fn = sum_k g_kn sigma²_f(z_kn) + (H W)_nf + floor (arXiv 2008.07191; Leglaive et al., 2018).

    Attributes:
        power: |x|², (B, N, F).
        talkers: decoders and priors.
        gain: g, (B, K, N).
        h: (B, N, R) activations of the noise.
        w: (B, R, F) patterns of the noise.
    """

    power: Tensor
    talkers: Talkers
    gain: Tensor
    h: Tensor
    w: Tensor

    @classmethod
    def begin(cls, power: Tensor, talkers: Talkers, rank: int, rng: ClipNoise) -> MixtureModel:
        """Random noise parameters, as loud as the mixture. Uses step 0 and 1 of the random numbers."""
        batch, frames, bins = power.shape
        h = rng.normal((batch, 1, frames, rank), 0, like=power)[:, 0].abs() + 0.1
        w = rng.normal((batch, 1, rank, bins), 1, like=power)[:, 0].abs() + 0.1
        h, w = normalised(h, w)
        level = power.mean((1, 2), keepdim=True).clamp_min(_LEAST)
        return cls(power, talkers, talkers.gain, h * level / max(rank, 1), w)

    def noise(self) -> Tensor:
        """Variance of the noise and the floor, (B, N, F)."""
        return self.h @ self.w + FLOOR

    def noises(self, count: int) -> Tensor:
        """Variances of the noises, each with its share of the patterns, (B, count, N, F)."""
        parts = zip(self.h.chunk(count, -1), self.w.chunk(count, 1), strict=True)
        return torch.stack([h @ w for h, w in parts], 1)

    def speech(self, variances: Tensor) -> Tensor:
        """sigma² (..., B, K, N, F) -> g sigma², of the same shape."""
        return self.gain[..., None] * variances

    def total(self, variances: Tensor) -> Tensor:
        """V, (..., B, N, F), for sigma² (..., B, K, N, F)."""
        return self._sum(variances) + self.noise()

    def cost(self, variances: Tensor) -> Tensor:
        """-Q of the M-step, nats a bin, (B,): the mean over samples (R, B, K, N, F) of |x|² / V + ln V."""
        return cost(self.power, self.total(variances)).mean(0)

    def maximised(self, variances: Tensor) -> MixtureModel:
        """One update each of W, H and every g that is free: none raises `cost`.

        Args:
            variances: sigma² of samples of z, (R, B, K, N, F).
        """
        speech, w, h, gain = self._sum(variances), self.w, self.h, self.gain.clone()
        if w.shape[1]:
            h, w = normalised(h, update_patterns(*self._statistics(speech + (h @ w + FLOOR)), h, w))
            h = update_activations(*self._statistics(speech + (h @ w + FLOOR)), h, w)
        noise = h @ w + FLOOR
        for k in range(0 if self.talkers.levelled else gain.shape[1]):
            own, inverse = variances[:, :, k], (speech + noise).reciprocal()
            weighted = own * inverse
            lower = weighted.sum((0, -1)).clamp_min(1e-20)
            upper = (self.power * (weighted * inverse).sum(0)).sum(-1)
            new = (gain[:, k] * (upper / lower).sqrt()).clamp_min(_LEAST)
            speech = speech + (new - gain[:, k])[..., None] * own
            gain[:, k] = new
        return replace(self, gain=gain, h=h, w=w)

    def _sum(self, variances: Tensor) -> Tensor:
        """sum_k g_k sigma²_k, (..., B, N, F)."""
        return (self.gain[..., None] * variances).sum(-3)

    def _statistics(self, total: Tensor) -> tuple[Tensor, Tensor]:
        """A power and a variance for which the updates of NMF are those with sums over samples V_r (R, B, N, F).

        The updates use 1 / V and P / V² alone: here sum_r 1 / V_r and P sum_r 1 / V_r².
        """
        inverse = total.reciprocal()
        first, second = inverse.sum(0), self.power * inverse.square().sum(0)
        return second / first.square(), first.reciprocal()

    def shares(self, variances: Tensor, noises: int) -> Tensor:
        """Wiener gains of talkers and noises, averaged over samples (R, B, K, N, F): (B, K + noises, N, F)."""
        inverse = self.total(variances).reciprocal()
        talkers = (self.speech(variances) * inverse[:, :, None]).mean(0)
        if not noises:
            return talkers
        return torch.cat([talkers, self.noises(noises) * inverse.mean(0)[:, None]], 1)

    def kept(self, new: MixtureModel, stopping: Stopping) -> MixtureModel:
        """The new parameters of the clips that go on."""
        keep = stopping.keep
        return replace(self, gain=keep(new.gain, self.gain), h=keep(new.h, self.h), w=keep(new.w, self.w))


class Samples(NamedTuple):
    """Latent samples and what the decoder says of them.

    Attributes:
        z: (R, B, K, N, D).
        variances: sigma², (R, B, K, N, F).
    """

    z: Tensor
    variances: Tensor
