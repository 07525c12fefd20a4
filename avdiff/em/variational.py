"""The variational variant of MCEM (VI-MCEM): sources keep a posterior of their own, so that each z sees its own source alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from avdiff.em.base import Outcome, Stopping, Watch, completed, cost
from avdiff.em.mcem import _FIRST, Algorithm
from avdiff.em.mixture import MixtureModel, Talkers
from avdiff.priors.factorisation import normalised, update_activations, update_patterns
from avdiff.rng import ClipNoise


@dataclass(frozen=True)
class SourcePosterior:
    """q(s_1, ..., s_K, b) given the mixture: Gaussian, with the variances gamma_k = 1 / E[1 / (g_k sigma²_k)] for the talkers'.

    m_k = gamma_k / V x, nu_k = gamma_k (V - gamma_k) / V, V = sum gamma + V_b, and likewise for the noise.

    Attributes:
        speech: |m_k|² + nu_k, (B, K, N, F).
        noise: the same of the noise, (B, N, F).
        shares: gamma_k / V, (B, K, N, F).
    """

    speech: Tensor
    noise: Tensor
    shares: Tensor

    @classmethod
    def of(cls, power: Tensor, gamma: Tensor, noise: Tensor) -> SourcePosterior:
        """From |x|² (B, N, F), gamma (B, K, N, F) and V_b (B, N, F)."""
        total = gamma.sum(1) + noise

        def second(share: Tensor, own: Tensor, x: Tensor) -> Tensor:
            return share.square() * x + own * (1 - share)

        shares = gamma / total[:, None]
        return cls(second(shares, gamma, power[:, None]), second(noise / total, noise, power), shares)


@dataclass(frozen=True)
class VariationalMCEM(Algorithm):
    """q(s, b) q(z_1) ... q(z_K): a Gaussian, and Metropolis-Hastings samples of each z given its own source's posterior power.

    g_k has a closed form, the noise the plain updates of NMF on its posterior power; with the exponent 1/2, so that none raises
    the free energy.

    Attributes:
        iterations: at most.
        draws, burn_in, variance: see `avdiff.em.mcem.MetropolisHastings`.
        tolerance: nats a bin.
    """

    iterations: int = 100
    draws: int = 40
    burn_in: int = 30
    variance: float = 0.01
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.iterations < 1 or not 0 <= self.burn_in < self.draws:
            raise ValueError(
                f"iterations is {self.iterations}, and {self.burn_in} of {self.draws} draws are burn-in; "
                "there must be at least one iteration and one draw that is kept"
            )

    def run(
        self, power: Tensor, talkers: Talkers, noises: int, rank: int, rng: ClipNoise, watch: Watch | None = None
    ) -> Outcome:
        model = MixtureModel.begin(power, talkers, noises * rank, rng)
        z, iteration = talkers.start, 0
        precision = (-talkers.log_variance(z)).exp()  # E[1 / sigma²]
        posterior = self._posterior(model, precision)
        stopping = Stopping(len(power), self.tolerance, power)
        for iteration in range(1, self.iterations + 1):
            state, found = self.latent(model, posterior, z, rng, _FIRST + iteration)
            z, precision = stopping.keep(state, z), stopping.keep(found, precision)
            model = model.kept(self.maximised(model, posterior, precision), stopping)
            posterior = self._posterior(model, precision)
            total = (model.gain[..., None] / precision).sum(1) + model.noise()
            if watch is not None:
                watch(iteration, self.iterations, lambda: self._shares(model, posterior, noises))  # noqa: B023
            if not stopping.step(cost(power, total)):
                break
        return Outcome(self._shares(model, posterior, noises), stopping.costs, iteration * self.draws)

    @staticmethod
    def _posterior(model: MixtureModel, precision: Tensor) -> SourcePosterior:
        return SourcePosterior.of(model.power, model.gain[..., None] / precision, model.noise())

    def latent(
        self, model: MixtureModel, posterior: SourcePosterior, z: Tensor, rng: ClipNoise, step: int
    ) -> tuple[Tensor, Tensor]:
        """The last of the draws of z (B, K, N, D), and the mean of 1 / sigma² over those that are kept."""
        batch, talkers, frames, dim = z.shape
        noise = rng.normal((batch, talkers, self.draws, frames, dim + 1), step, like=z)
        threshold = torch.special.log_ndtr(noise[..., -1])
        clean = posterior.speech / model.gain[..., None]

        def log_joint(log_variance: Tensor, z: Tensor) -> Tensor:
            fit = -log_variance - clean * (-log_variance).exp()
            return fit.sum(-1) + model.talkers.prior.log_prob(z)

        own = model.talkers.log_variance(z)
        value, kept = log_joint(own, z), torch.zeros_like(own)
        for i in range(self.draws):
            proposal = z + self.variance**0.5 * noise[:, :, i, :, :-1]
            proposed = model.talkers.log_variance(proposal)
            proposed_value = log_joint(proposed, proposal)
            accept = threshold[:, :, i] < proposed_value - value
            z = torch.where(accept[..., None], proposal, z)
            own = torch.where(accept[..., None], proposed, own)
            value = torch.where(accept, proposed_value, value)
            if i >= self.burn_in:
                kept = kept + (-own).exp()
        return z, kept / (self.draws - self.burn_in)

    @staticmethod
    def maximised(model: MixtureModel, posterior: SourcePosterior, precision: Tensor) -> MixtureModel:
        """g_k = mean over bins of (|m_k|² + nu_k) E[1 / sigma²], and one update each of W and H."""
        gain = (posterior.speech * precision).mean(-1).clamp_min(1e-8)
        gain = model.gain if model.talkers.levelled else gain
        h, w = model.h, model.w
        if w.shape[1]:
            h, w = normalised(h, update_patterns(posterior.noise, model.noise(), h, w))
            h = update_activations(posterior.noise, replace(model, h=h, w=w).noise(), h, w)
        return replace(model, gain=gain, h=h, w=w)

    @staticmethod
    def _shares(model: MixtureModel, posterior: SourcePosterior, noises: int) -> Tensor:
        if not noises:
            return completed(posterior.shares)
        left = 1 - posterior.shares.sum(1, keepdim=True)
        parts = model.noises(noises)
        return completed(torch.cat([posterior.shares, left * parts / parts.sum(1, keepdim=True)], 1))
