"""Separation as sampling from the posterior: one prior a source, one likelihood for the mixture."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch

from avdiff.errors import UserError
from avdiff.likelihood.base import Likelihood
from avdiff.priors.joint import JointPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, Divergence, PosteriorSampler
from avdiff.samplers.conditional import CLOSED_FORM_ADVICE
from avdiff.separators.base import Separator, separation
from avdiff.types import NOISE, Observation, Role, Separation

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
    """

    def __init__(self, prior: JointPrior, recipes: Mapping[int, Recipe], level: float = 1.0) -> None:
        super().__init__()
        if not recipes:
            raise ValueError("recipes is empty; give at least one, by number of talkers")
        if level <= 0:
            raise ValueError(f"level is {level}; the mixture's level must be positive")
        self.prior = prior
        self.recipes = dict(recipes)
        self.level = level

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
        prior = self.prior.bind(observation, recipe.levels, self.level)
        rms = mixture.square().mean(-1, keepdim=True).sqrt()
        unit = torch.where(rms > _SILENCE, rms / prior.sigma_data, 0.0)  # silence comes back as silence
        scaled = torch.where(unit > 0, mixture / unit, 0.0)

        likelihood = recipe.likelihood.bind(replace(observation, mixture=scaled))
        shape = (mixture.shape[0], len(observation.layout), mixture.shape[1])
        failures: dict[int, str] = {}
        try:
            x = recipe.sampler.sample(prior, likelihood, shape, like=mixture, rng=rng, callback=callback)
        except Divergence as divergence:  # of some clips: the others are as they would be without them
            x = divergence.samples
            failures = {row: str(failure) for row, failure in divergence.failures.items()}
        info = {"evaluations": prior.evaluations, "seconds": time.perf_counter() - started}
        found = separation(observation, x * unit[:, None], info, failures)
        residual = (mixture - found.sources.sum(1)).square().sum(-1)
        fit = 10 * torch.log10(mixture.square().sum(-1) / residual)
        found.info["data_fit_db"] = [value if math.isfinite(value) else None for value in fit.tolist()]
        return found
