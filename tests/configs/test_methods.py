"""The presets: that they parse, hold the paper's numbers, and run a batch to the end without diverging."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import pytest
import torch

from avdiff.likelihood.mixing import SpectralLikelihood
from avdiff.methods import load_method
from avdiff.rng import ClipNoise
from avdiff.samplers.daps import DAPS
from avdiff.samplers.langevin import Langevin
from avdiff.separators.posterior import PosteriorSeparator
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Observation

METHODS = Path(str(resources.files("experiments") / "methods"))
TABLE_I = {1: (300, 50, 2.0, 5e-4, 0.8), 2: (300, 100, 4.0, 1e-3, 0.8), 3: (400, 100, 3.0, 1e-3, 0.5)}


def load(name: str, folder: Path) -> PosteriorSeparator:
    """A preset with white Gaussian priors in place of trained ones."""
    text = (METHODS / f"{name}.yaml").read_text()
    text = re.sub(
        r"avdiff\.priors\.store\.load_prior, init_args: {source: \w+}", "avdiff.priors.gaussian.GaussianPrior", text
    )
    (folder / "method.yaml").write_text(text)
    separator = load_method(str(folder / "method.yaml"))
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


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("talkers", [1, 2, 3])
@pytest.mark.parametrize("name", ["ssnaps_closed", "ssnaps_fast", "local_em"])
def test_stable(name: str, talkers: int, hidden: bool, tmp_path: Path) -> None:
    visible = talkers - hidden
    layout = (SPEAKER,) * visible + (OFFSCREEN,) * hidden + (NOISE,)
    observation = Observation(
        ("a", "b"), torch.randn(2, 800), torch.zeros(2, visible, 2, 1) if visible else None, None, layout
    )
    result = load(name, tmp_path).separate(observation, rng=ClipNoise(0, observation.key))
    assert result.sources.isfinite().all()
    assert min(result.info["data_fit_db"]) > 0
