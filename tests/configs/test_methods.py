"""The presets: that they parse, hold their papers' numbers, and run a batch to the end without diverging."""

from __future__ import annotations

import re
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest
import torch

from avdiff.likelihood.mixing import SpectralLikelihood
from avdiff.methods import load_method
from avdiff.rng import ClipNoise
from avdiff.samplers.daps import DAPS
from avdiff.samplers.dps import DPS
from avdiff.samplers.langevin import Langevin
from avdiff.separators.posterior import PosteriorSeparator
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Observation

METHODS = Path(str(resources.files("experiments") / "methods"))
TABLE_I = {1: (300, 50, 2.0, 5e-4, 0.8), 2: (300, 100, 4.0, 1e-3, 0.8), 3: (400, 100, 3.0, 1e-3, 0.5)}


def tiny(name: str, folder: Path, steps: int | None = None) -> Path:
    """The file of a preset with white Gaussian priors in place of trained ones, and if asked for so many noise levels."""
    text = (METHODS / f"{name}.yaml").read_text()
    text = re.sub(
        r"avdiff\.priors\.store\.load_prior, init_args: {source: \w+}", "avdiff.priors.gaussian.GaussianPrior", text
    )
    if steps is not None:
        text = re.sub(r"(schedule|levels): {steps: \d+", rf"\1: {{steps: {steps}", text)
    (folder / "method.yaml").write_text(text)
    return folder / "method.yaml"


def load(name: str, folder: Path, steps: int | None = None) -> PosteriorSeparator:
    separator = load_method(str(tiny(name, folder, steps)))
    assert isinstance(separator, PosteriorSeparator)
    return separator


def test_table_one(tmp_path: Path) -> None:
    for talkers, recipe in load("ssnaps", tmp_path).recipes.items():
        likelihood, sampler = recipe.likelihood, recipe.sampler
        assert isinstance(likelihood, SpectralLikelihood)
        assert isinstance(sampler, DAPS)
        assert isinstance(sampler.conditional, Langevin)
        schedule, langevin = sampler.schedule, sampler.conditional
        found = (schedule.steps, langevin.steps, schedule.sigma_max, langevin.eta, likelihood.beta)
        assert found == TABLE_I[talkers]
        assert (likelihood.exponent, sampler.ode.steps, schedule.sigma_min) == (2 / 3, 2, 0.01)


def test_davss_nm_takes_the_papers_evaluations(tmp_path: Path) -> None:
    for recipe in load("davss_nm", tmp_path).recipes.values():
        assert isinstance(recipe.sampler, DPS)
        assert recipe.sampler.heun
        assert 2 * (2 * recipe.sampler.schedule.steps - 1) == 1598  # both guidance branches; a Heun step to 0 takes one


@pytest.mark.parametrize("name", ["ssnaps_hmc", "ssnaps_newton"])
def test_variants_of_ssnaps_differ_in_the_conditional_alone(name: str, tmp_path: Path) -> None:
    ours, paper = load(name, tmp_path).recipes, load("ssnaps", tmp_path).recipes
    for talkers, recipe in ours.items():
        assert isinstance(recipe.sampler, DAPS)
        assert isinstance(paper[talkers].sampler, DAPS)
        assert replace(recipe.sampler, conditional=paper[talkers].sampler.conditional) == paper[talkers].sampler
        assert (recipe.likelihood, recipe.levels) == (paper[talkers].likelihood, paper[talkers].levels)


STEPS = {"ssnaps_hmc": 10, "ssnaps_newton": 10, "davss_nm": 60}  # as many as a quick test can have; the others have all


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("talkers", [1, 2, 3])
@pytest.mark.parametrize("name", ["ssnaps_closed", "ssnaps_fast", "local_em", "paradiffuse", "daps_exact", *STEPS])
def test_stable(name: str, talkers: int, hidden: bool, tmp_path: Path) -> None:
    visible = talkers - hidden
    layout = (SPEAKER,) * visible + (OFFSCREEN,) * hidden + (NOISE,)
    observation = Observation(
        ("a", "b"), torch.randn(2, 800), torch.zeros(2, visible, 2, 1) if visible else None, None, layout
    )
    result = load(name, tmp_path, STEPS.get(name)).separate(observation, rng=ClipNoise(0, observation.key))
    assert result.failures == (None, None)
    assert result.sources.isfinite().all()
    assert min(clip.figures["data_fit_db"] for clip in result.clips) > 0
