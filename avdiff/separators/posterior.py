"""Separation as sampling from the posterior: one prior a source, one likelihood for the mixture."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from avdiff.errors import UserError
from avdiff.likelihood.base import Likelihood
from avdiff.priors.joint import JointPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, Divergence, Failure, PosteriorSampler, Progress
from avdiff.samplers.conditional import CLOSED_FORM_ADVICE
from avdiff.separators.base import Separator, separation
from avdiff.separators.exactness import against_posterior
from avdiff.types import NOISE, Observation, Role, Separation, repeated

_SILENCE = 1e-8  # root mean square below which a mixture counts as silent


@dataclass(frozen=True)
class Recipe:
    """A likelihood and the sampler that goes with it.

    Attributes:
        likelihood: of the mixture.
        sampler: of the posterior.
        levels: of the sources of each role, in dB relative to the mixture at `PosteriorSeparator.level`; 0 where it says
            nothing. SSNAPS is silent.
    """

    likelihood: Likelihood
    sampler: PosteriorSampler
    levels: Mapping[Role, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.sampler.needs_closed_form and not self.likelihood.closed_form:
            raise UserError(
                f"the sampler works only with a Gaussian likelihood, {self.likelihood} is not; {CLOSED_FORM_ADVICE}"
            )


class PosteriorSeparator(Separator):
    """x ~ p(s_1, ..., s_K, n | y): SSNAPS, its off-screen form, DAPS, DPS and others, by what the recipes hold.

    A clip that diverges is given up alone: it comes back as NaN, with the reason in the result's `failures`.

    Args:
        prior: the product of priors.
        recipes: by number of talkers, seen or not: SSNAPS's Table I has a row each for 1, 2 and 3. The largest number
            that does not exceed the mixture's is used.
        level: root mean square that the mixture is scaled to, and the priors with it, in units of their sigma_data; undone
            at the end. It says how loud a signal the noise levels and step sizes of the recipes are for: SSNAPS does not
            say how it scales.
        draws: of the posterior, side by side in every network call, each with noise of its own; the first is the one that
            `draws` = 1 gives. The estimate is their mean, which tends to the posterior's: the best there is by squared error,
            and no sample. Their spread is `Separation.std`. Draws that diverge are left out.
    """

    def __init__(self, prior: JointPrior, recipes: Mapping[int, Recipe], level: float = 1.0, draws: int = 1) -> None:
        super().__init__()
        if not recipes:
            raise ValueError("recipes is empty; give at least one, by number of talkers")
        if level <= 0:
            raise ValueError(f"level is {level}; the mixture's level must be positive")
        self.prior = prior
        self.recipes = dict(recipes)
        self.level = level
        self.draws = draws
        if draws < 1:
            raise UserError(f"{draws} draws were asked for; ask for at least one")
        if draws > 1 and not self.samples:
            raise UserError(
                f"{draws} draws were asked for of a method that draws nothing: all would be the same; ask for one"
            )

    @property
    def oracle(self) -> bool:
        return self.prior.oracle

    @property
    def samples(self) -> bool:
        """Whether its results depend on the noise: whether several draws differ."""
        return all(recipe.sampler.random for recipe in self.recipes.values())

    @property
    def spreads(self) -> bool:
        return self.draws > 1

    def recipe(self, layout: tuple[str, ...]) -> Recipe:
        """The recipe for a layout.

        Raises:
            UserError: the layout has fewer talkers than every recipe.
        """
        talkers = len(layout) - layout.count(NOISE)
        fitting = [count for count in self.recipes if count <= talkers]
        if not fitting:
            raise UserError(f"there is no recipe for {talkers} talker(s), only for {sorted(self.recipes)}; add one")
        return self.recipes[max(fitting)]

    @torch.no_grad()
    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        started = time.perf_counter()
        recipe = self.recipe(observation.layout)
        mixture = observation.mixture
        rms = mixture.square().mean(-1, keepdim=True).sqrt()
        unit = torch.where(
            rms > _SILENCE, rms / (self.level * self.prior.sigma_data), 0.0
        )  # silence comes back as silence
        truth = observation.truth
        scaled = replace(
            observation,
            mixture=torch.where(unit > 0, mixture / unit, 0.0),
            truth=None if truth is None else torch.where(unit[:, None] > 0, truth / unit[:, None], 0.0),
        )
        prior = self.prior.bind(scaled, recipe.levels, self.level, self.draws)
        every = repeated(scaled, self.draws)
        likelihood = recipe.likelihood.bind(every)
        shape = (len(every.key), len(observation.layout), mixture.shape[1])
        noise = ClipNoise(rng.seed, repeated(replace(observation, key=rng.key), self.draws).key)
        lost: dict[int, Failure] = {}
        try:
            x = recipe.sampler.sample(
                prior, likelihood, shape, like=mixture, rng=noise, callback=self._averaged(callback)
            )
        except Divergence as divergence:  # of some draws: the others are as they would be without them
            x, lost = divergence.samples, divergence.failures
        mean, std, failures = _together(x.unflatten(0, (-1, self.draws)), lost)
        info: dict[str, Any] = {"evaluations": prior.evaluations, "seconds": time.perf_counter() - started}
        sources = mean * unit[:, None]
        residual = (mixture - sources.sum(1)).square().sum(-1)
        fit = 10 * torch.log10(mixture.square().sum(-1) / residual)
        figures: list[dict[str, Any]] = [
            {"data_fit_db": value if math.isfinite(value) else None} for value in fit.tolist()
        ]
        if self.draws > 1:
            for clip, of in enumerate(figures):
                of["draws"] = self.draws - sum(row // self.draws == clip for row in lost)
            if self.prior.exact and not lost:
                known = against_posterior(mean, std, self.draws, prior, every, rng.seed)
                for of, posterior in zip(figures, known, strict=True):
                    of["posterior"] = posterior
        found = separation(observation, sources, info, failures, figures)
        return replace(found, std=std * unit[:, None]) if self.draws > 1 else found

    def _averaged(self, callback: Callback | None) -> Callback | None:
        """A callback that is told the mean of the draws of each clip."""
        if callback is None or self.draws == 1:
            return callback

        def averaged(progress: Progress) -> None:
            callback(replace(progress, denoised=progress.denoised.unflatten(0, (-1, self.draws)).mean(1)))

        return averaged


def _together(x: Tensor, lost: Mapping[int, Failure]) -> tuple[Tensor, Tensor, dict[int, str]]:
    """Mean and standard deviation, (B, K, T), of the draws (B, draws, K, T) that came to an end, and by clip why none did.

    Args:
        lost: by row of B draws, what happened to it.
    """
    clips, draws = x.shape[:2]
    if not lost:
        return x.mean(1), x.std(1) if draws > 1 else torch.full_like(x[:, 0], torch.nan), {}
    means, stds, failures = list[Tensor](), list[Tensor](), dict[int, str]()
    for clip in range(clips):
        kept = [draw for draw in range(draws) if clip * draws + draw not in lost]
        if not kept:
            failures[clip] = str(lost[clip * draws])
        some = x[clip, kept] if kept else x[clip]
        means.append(some.mean(0))
        stds.append(some.std(0) if len(kept) > 1 else torch.full_like(some[0], torch.nan))
    return torch.stack(means), torch.stack(stds), failures
