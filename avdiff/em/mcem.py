"""Monte-Carlo EM, and its E-step by the Metropolis-Hastings algorithm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from avdiff.em.base import FLOOR, Outcome, Stopping, Watch, completed
from avdiff.em.mixture import MixtureModel, Samples, Talkers
from avdiff.rng import ClipNoise

_FIRST = 2  # steps of the random numbers before it are of the noise's parameters


class Algorithm(ABC):
    """How the latent variables and the parameters of a mixture are found. Subclasses are frozen dataclasses."""

    @abstractmethod
    def run(
        self, power: Tensor, talkers: Talkers, noises: int, rank: int, rng: ClipNoise, watch: Watch | None = None
    ) -> Outcome:
        """Fit the model to a mixture.

        Args:
            power: |x|², (B, N, F).
            talkers: of the mixture.
            noises: sources that are noise.
            rank: NMF patterns of each.
            rng: keyed to the clips.
            watch: told of every iteration.
        """


class EStep(ABC):
    """Samples of z given the mixture and the parameters. Subclasses are frozen dataclasses."""

    def begin(self, z: Tensor, rng: ClipNoise, step: int) -> Tensor:
        """The state of the chains, from where EM begins: (B, K, N, D) -> (C, B, K, N, D)."""
        return z[None]

    @abstractmethod
    def draw(
        self, model: MixtureModel, z: Tensor, rng: ClipNoise, step: int, last: bool = False
    ) -> tuple[Tensor, Samples]:
        """Go on from a state.

        Args:
            model: parameters held fixed.
            z: (C, B, K, N, D) state of the chains.
            rng: keyed to the clips.
            step: counter of the random numbers; one a call.
            last: whether these samples are for the estimates of the sources, and no M-step follows.

        Returns:
            The new state, and R samples.
        """

    @property
    @abstractmethod
    def evaluations(self) -> tuple[int, int]:
        """Of the decoder, a talker: in an E-step, and in the last one."""


def _log_fit(power: Tensor, variance: Tensor) -> Tensor:
    """ln p(x | V) of a frame, but for a constant: (B, N, F) twice -> (B, N)."""
    return -(power / variance + variance.log()).sum(-1)


@dataclass(frozen=True)
class MetropolisHastings(EStep):
    """A random walk in every frame at once, talker after talker: z' = z + sqrt(variance) xi, accepted with probability

    min(1, p(x | z') p(z' | v) / p(x | z) p(z | v)).

    Attributes:
        draws: of an E-step.
        burn_in: of these, left out.
        variance: of a proposal.
        last_draws, last_burn_in: the same for the estimates of the sources, of which all kept draws are averaged.
    """

    draws: int = 40
    burn_in: int = 30
    variance: float = 0.01
    last_draws: int = 100
    last_burn_in: int = 75

    def __post_init__(self) -> None:
        for draws, burn_in in ((self.draws, self.burn_in), (self.last_draws, self.last_burn_in)):
            if not 0 <= burn_in < draws:
                raise ValueError(f"{burn_in} of {draws} draws are burn-in, which leaves none; burn_in must be less")

    @property
    def evaluations(self) -> tuple[int, int]:
        return self.draws, self.last_draws

    def draw(
        self, model: MixtureModel, z: Tensor, rng: ClipNoise, step: int, last: bool = False
    ) -> tuple[Tensor, Samples]:
        draws, burn_in = (self.last_draws, self.last_burn_in) if last else (self.draws, self.burn_in)
        batch, talkers, frames, dim = z.shape[1:]
        noise = rng.normal((batch, talkers, draws, frames, dim + 1), step, like=z)
        threshold = torch.special.log_ndtr(noise[..., -1])  # ln u of an even u
        state, gain, fixed = z[0].clone(), model.gain[..., None], model.noise()
        own = model.talkers.log_variance(state).exp()
        prior = model.talkers.prior.log_prob(state)
        speech, kept = gain * own, []
        total = speech.sum(1) + fixed
        fit = _log_fit(model.power, total)
        for i in range(draws):
            proposal = state + self.variance**0.5 * noise[:, :, i, :, :-1]
            proposed = model.talkers.log_variance(proposal).exp()
            proposed_prior = model.talkers.prior.log_prob(proposal)
            loud = gain * proposed
            for k in range(talkers):
                # Differences of sums lose digits: no variance is below the floor.
                other = (total + (loud[:, k] - speech[:, k])).clamp_min_(FLOOR)
                other_fit = _log_fit(model.power, other)
                moved = threshold[:, k, i] < other_fit - fit + proposed_prior[:, k] - prior[:, k]
                # Few proposals are accepted: copying those frames is faster than choosing everywhere.
                total[moved], fit = other[moved], torch.where(moved, other_fit, fit)
                for values, new in ((state, proposal), (own, proposed), (speech, loud), (prior, proposed_prior)):
                    values[:, k][moved] = new[:, k][moved]
            if i >= burn_in:
                kept.append((state.clone(), own.clone()))
            if i % 10 == 9:
                total = speech.sum(1) + fixed
        return state[None], Samples(*(torch.stack(parts) for parts in zip(*kept, strict=True)))


@dataclass(frozen=True)
class MCEM(Algorithm):
    """Monte-Carlo EM: samples of z, then one update of W, H and g by the cost that they say.

    By its E-step it is MCEM (Metropolis-Hastings), LDEM (`avdiff.em.ldem.Langevin`) or PEEM (`avdiff.em.peem.PointEstimate`).
    It stops when the cost changes by less than the tolerance; that of random samples seldom does.

    Attributes:
        e_step: what draws the samples.
        iterations: at most.
        tolerance: nats a bin.
    """

    e_step: EStep
    iterations: int = 100
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"iterations is {self.iterations}; there must be at least one")

    def run(
        self, power: Tensor, talkers: Talkers, noises: int, rank: int, rng: ClipNoise, watch: Watch | None = None
    ) -> Outcome:
        model = MixtureModel.begin(power, talkers, noises * rank, rng)
        z = self.e_step.begin(talkers.start, rng, _FIRST)
        stopping, iteration = Stopping(len(power), self.tolerance, power), 0
        for iteration in range(1, self.iterations + 1):
            state, samples = self.e_step.draw(model, z, rng, _FIRST + iteration)
            # Clips are rows after the samples: a clip that has stopped keeps its state.
            z = stopping.keep(state.transpose(0, 1), z.transpose(0, 1)).transpose(0, 1)
            model = model.kept(model.maximised(samples.variances), stopping)
            if watch is not None:
                watch(iteration, self.iterations, lambda: completed(model.shares(samples.variances, noises)))  # noqa: B023
            if not stopping.step(model.cost(samples.variances)):
                break
        _, samples = self.e_step.draw(model, z, rng, _FIRST + self.iterations + 1, last=True)
        each, last = self.e_step.evaluations
        shares = completed(model.shares(samples.variances, noises))
        return Outcome(shares, stopping.costs, iteration * each + last)
