"""The E-step of LDEM: Langevin dynamics (Sadeghi, Serizel, arXiv 2211.02728)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.em.mcem import EStep
from avdiff.em.mixture import MixtureModel, Samples
from avdiff.rng import ClipNoise


def energy(model: MixtureModel, z: Tensor, smoothness: float = 0.0) -> Tensor:
    """U(z) = sum_fn |x|² / V + ln V - ln p(z | v) + lambda sum_n ||z_n - z_(n-1)||_1, (..., B).

    The prior counts once, with its 1/2: the released code of LDEM and PEEM leaves the 1/2 out.

    Args:
        model: parameters.
        z: (..., B, K, N, D).
        smoothness: lambda.
    """
    total = model.total(model.talkers.log_variance(z).exp())
    value = (model.power / total + total.log()).sum((-2, -1)) - model.talkers.prior.log_prob(z).sum((-2, -1))
    return value + smoothness * z.diff(dim=-2).abs().sum((-3, -2, -1)) if smoothness else value


def gradient(model: MixtureModel, z: Tensor, smoothness: float = 0.0) -> tuple[Tensor, Tensor]:
    """Gradient of `energy` in z, of its shape, and sigma² (..., B, K, N, F).

    That in ln sigma²_k is g_k sigma²_k (1 / V - |x|² / V²); the decoder's and the prior's are automatic.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        log_variance = model.talkers.log_variance(z)
        with torch.no_grad():
            variances = log_variance.exp()
            inverse = model.total(variances).reciprocal()
            slope = model.speech(variances) * (inverse - model.power * inverse.square()).unsqueeze(-3)
        prior = -model.talkers.prior.log_prob(z).sum()
        if smoothness:
            prior = prior + smoothness * z.diff(dim=-2).abs().sum()
        (value,) = torch.autograd.grad([log_variance, prior], z, [slope, torch.ones_like(prior)])
    return value, variances


@dataclass(frozen=True)
class Langevin(EStep):
    """z <- z - eta G(z) + sqrt(2 eta) xi, several chains side by side, each of whose states is a sample.

    Attributes:
        steps: of an E-step. Public code: 10 to 20, or 1 for recurrent VAEs.
        last_steps: before the estimates of the sources.
        chains: side by side.
        eta: size of a step.
        tamed: whether the gradient of a frame is divided by 1 + eta ||gradient||, so that no step diverges.
        smoothness: weight of the total variation of z along frames. Public code: 5, or 0.
        jitter: variance of what is added to the chains' common start. Public code adds it after every E-step.
        spread: samples for the estimates of the sources from each chain, from its last steps.
    """

    steps: int = 10
    last_steps: int = 25
    chains: int = 5
    eta: float = 5e-3
    tamed: bool = True
    smoothness: float = 0.0
    jitter: float = 0.01
    spread: int = 5

    def __post_init__(self) -> None:
        if min(self.steps, self.chains, self.spread) < 1 or self.last_steps < self.spread:
            raise ValueError(
                f"steps {self.steps}, chains {self.chains} and spread {self.spread} must be at least 1, and "
                f"last_steps {self.last_steps} at least spread"
            )

    @property
    def evaluations(self) -> tuple[int, int]:
        return self.chains * (self.steps + 1), self.chains * (self.last_steps + 1)

    def begin(self, z: Tensor, rng: ClipNoise, step: int) -> Tensor:
        return z + self.jitter**0.5 * _chains(rng, z[None], self.chains, 1, step)[0]

    def draw(
        self, model: MixtureModel, z: Tensor, rng: ClipNoise, step: int, last: bool = False
    ) -> tuple[Tensor, Samples]:
        steps = self.last_steps if last else self.steps
        noise = _chains(rng, z, len(z), steps, step)
        states = []
        for i in range(steps):
            slope, _ = gradient(model, z, self.smoothness)
            if self.tamed:
                slope = slope / (1 + self.eta * slope.norm(dim=-1, keepdim=True))
            z = z - self.eta * slope + (2 * self.eta) ** 0.5 * noise[i]
            states.append(z)
        kept = torch.cat(states[-self.spread :]) if last else z
        return z, Samples(kept, model.talkers.log_variance(kept).exp())


def _chains(rng: ClipNoise, like: Tensor, chains: int, steps: int, step: int) -> Tensor:
    """Noise of (steps, chains, B, K, N, D) for like (anything, B, K, N, D), a stream a clip and talker."""
    _, batch, talkers, *rest = like.shape
    noise = rng.normal((batch, talkers, steps, chains, *rest), step, like=like)
    return noise.permute(2, 3, 0, 1, 4, 5)
