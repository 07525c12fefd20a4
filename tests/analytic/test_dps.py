"""DPS against the recursion that it obeys for white Gaussian priors, and against the posterior that it misses."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback

from avdiff.errors import UserError
from avdiff.likelihood.mixing import GaussianLikelihood, SpectralLikelihood
from avdiff.lit.separation import SeparationModule
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import JointPrior
from avdiff.priors.presets import tiny_noise, tiny_speech
from avdiff.rng import ClipNoise
from avdiff.samplers.dps import DPS, Guidance, Jointly, Literal, PerSource
from avdiff.samplers.schedule import PolySchedule
from avdiff.separators.posterior import PosteriorSeparator, Recipe
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Observation, Separation
from datamodules.mixtures import Mixtures, ToyMixtures
from tests.gaussian import GaussianProduct, bind, white

S, BETA, DRAWS = 0.05, 0.02, 20_000
SCHEDULE = PolySchedule(200, 2.0, 1e-4, rho=10)
TOTAL = 2 * S**2 + BETA**2  # variance of the mixture


def found(sampler: DPS) -> tuple[float, float, float]:
    """Of two white sources: slope of their sum on y and variance around it, and variance of their difference."""
    generator = torch.Generator().manual_seed(0)
    y = TOTAL**0.5 * torch.randn(1, DRAWS, dtype=torch.float64, generator=generator)
    prior, likelihood = GaussianProduct(white(S, S), S), bind(GaussianLikelihood(BETA), y)
    x = sampler.sample(prior, likelihood, (1, 2, DRAWS), like=y, rng=ClipNoise(1, ("clip",)))[0]
    total, slope = x.sum(0), float((x.sum(0) * y[0]).sum() / y.square().sum())
    return slope, float((total - slope * y[0]).var()), float((x[0] - x[1]).var())


def expected(sampler: DPS) -> tuple[float, float, float]:
    """The same by recursion over second moments, with the root mean square over a long clip in place of that over the draws."""
    sigmas = sampler.schedule.sigmas()
    covariance, variance, difference = 0.0, 2 * sigmas[0] ** 2, 2 * sigmas[0] ** 2
    out = (0.0, 0.0, 0.0)
    raised = 1 + min(sampler.churn / len(sigmas), math.sqrt(2) - 1)
    for sigma, then in pairwise([*sigmas, 0.0]):
        now = raised * sigma
        variance, difference = (v + 2 * (now**2 - sigma**2) for v in (variance, difference))
        c, step = S**2 / (S**2 + now**2), then - now
        out = (c * covariance / TOTAL, c**2 * (variance - covariance**2 / TOTAL), c**2 * difference)
        if isinstance(sampler.guidance, Literal):
            push = 2 * sampler.guidance.zeta * now * c / BETA**2
        else:
            push = 2 * sampler.guidance.zeta / math.sqrt(TOTAL - 2 * c * covariance + c**2 * variance)
        keep, pull = 1 + step * (1 - c) / now + step * push * c, -step * push
        variance = keep**2 * variance + 2 * keep * pull * covariance + pull**2 * TOTAL
        covariance = keep * covariance + pull * TOTAL
        difference *= (1 + step * (1 - c) / now) ** 2
    return out


@pytest.mark.parametrize(
    ("sampler", "stated"),
    [
        (DPS(SCHEDULE, PerSource(2.75)), (1.08, 0.0, 0.98)),
        (DPS(SCHEDULE, Jointly(0.5)), (1.34, 0.04, 0.98)),
        (DPS(SCHEDULE, PerSource(0.5), churn=50), (1.08, 0.01, 0.88)),
        (DPS(SCHEDULE, Literal()), (1.20, 0.0, 0.98)),
        (DPS(SCHEDULE, Literal(), churn=50), (1.03, 0.69, 0.88)),
    ],
    ids=["normalised", "overshoot", "churn", "literal", "literal, churn"],
)
def test_bias_is_as_stated(sampler: DPS, stated: tuple[float, float, float]) -> None:
    """Relative to the posterior's: mean of the sum, its variance, variance of the difference."""
    measured, wanted = found(sampler), expected(sampler)
    truth = (2 * S**2 / TOTAL, 2 * S**2 * BETA**2 / TOTAL, 2 * S**2)
    spread = (2 / DRAWS) ** 0.5  # relative standard error of a variance
    assert measured[0] == pytest.approx(wanted[0], rel=0.01)
    assert measured[1] == pytest.approx(wanted[1], rel=5 * spread, abs=2e-3 * truth[1])
    assert measured[2] == pytest.approx(wanted[2], rel=5 * spread)
    assert [m / t for m, t in zip(wanted, truth, strict=True)] == pytest.approx(stated, abs=0.006)


def test_heun_is_nearer_to_the_limit_of_many_steps() -> None:
    """The difference of two sources is not pushed: it follows the ODE, which ends at the prior's variance."""
    errors = [abs(found(DPS(PolySchedule(60, 2.0, 1e-4, 10), heun=heun))[2] / (2 * S**2) - 1) for heun in (False, True)]
    assert errors[0] > 0.05
    assert errors[1] < 0.03


def test_evaluations() -> None:
    y = torch.zeros(1, 10)
    for sampler, wanted in ((DPS(PolySchedule(8, 1.0)), 8), (DPS(PolySchedule(8, 1.0), heun=True), 15)):
        prior = GaussianProduct(white(S, S), S)
        sampler.sample(prior, bind(GaussianLikelihood(BETA), y), (1, 2, 10), like=y, rng=ClipNoise(0, ("a",)))
        assert prior.evaluations == wanted


@pytest.mark.parametrize("guidance", [PerSource(2.0), Jointly(2.0)])
def test_size_of_the_step(guidance: Guidance) -> None:
    g = torch.randn(3, 2, 500) * torch.tensor([1.0, 10.0])[:, None]
    step, scaled = guidance(g, 0.3), guidance(1e3 * g, 0.3)
    torch.testing.assert_close(step, scaled)
    assert step.square().mean((1, 2)).sqrt().tolist() == pytest.approx([2.0] * 3, rel=1e-4)
    ratio = (step[:, 1].std(-1) / step[:, 0].std(-1)).mean().item()
    assert ratio == pytest.approx(1.0 if isinstance(guidance, PerSource) else 10.0, rel=0.1)


def networks() -> tuple[JointPrior, Observation]:
    torch.manual_seed(0)
    priors = {SPEAKER: tiny_speech(), NOISE: tiny_noise()}
    for prior in priors.values():
        for name, value in prior.network.named_parameters():
            if name.endswith("weight") and value.ndim == 4:
                torch.nn.init.normal_(value, std=0.05)
        prior.eval().requires_grad_(False)
    mouths = torch.randint(0, 256, (1, 1, 4, 96, 96), dtype=torch.uint8)
    observation = Observation(("a",), 0.05 * torch.randn(1, 2560), mouths, None, (SPEAKER, NOISE))
    return JointPrior(priors, guidance=0.5, bounded=True), observation


def test_gradient_goes_through_both_networks() -> None:
    """Through guidance, bound and preconditioning: the slope along the gradient against a difference quotient."""
    joint, observation = networks()
    prior, likelihood = joint.bind(observation), SpectralLikelihood(0.8).bind(observation)
    x = 0.1 * torch.randn(1, 2, 2560, generator=torch.Generator().manual_seed(1))
    sigma, step = 0.1, 0.02
    x0_hat, drift = DPS(PolySchedule(2, 1.0), Literal())._drift(prior, likelihood, x, sigma)
    gradient = (drift - (x - x0_hat) / sigma) / sigma  # of -log p
    for source in range(2):
        along = torch.zeros_like(x)
        along[:, source] = gradient[:, source] / gradient[:, source].norm()
        ahead, behind = (likelihood.log_prob(prior.denoise(x + h * along, sigma)) for h in (step, -step))
        slope = float((behind - ahead) / (2 * step))
        assert slope == pytest.approx(float(gradient[:, source].norm()), rel=0.03)


def predict(folder: Path, inference_mode: bool) -> Separation:
    sampler = DPS(PolySchedule(20, 1.0, 1e-3, rho=10))
    joint = JointPrior({OFFSCREEN: GaussianPrior(0.1), NOISE: GaussianPrior(0.1)}, guidance=0.0)
    separator = PosteriorSeparator(joint, {0: Recipe(SpectralLikelihood(0.8), sampler)})
    trainer = pl.Trainer(
        accelerator="cpu",
        inference_mode=inference_mode,
        logger=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        default_root_dir=folder,
    )
    kept: list[Separation] = []
    trainer.callbacks.append(LambdaCallback(on_predict_batch_end=lambda *given: kept.append(given[2])))
    data = Mixtures(ToyMixtures(1, samples=640), 1)
    trainer.predict(SeparationModule(separator), datamodule=data, return_predictions=False)
    return kept[0]


def test_runs_under_lightning_and_inference_mode_is_refused_in_a_sentence(tmp_path: Path) -> None:
    separation = predict(tmp_path, inference_mode=False)
    assert separation.failures == (None,)
    assert separation.info["evaluations"] == 20
    assert not separation.sources.requires_grad
    assert min(clip.figures["data_fit_db"] for clip in separation.clips) > 10
    with pytest.raises(UserError, match="inference_mode to false"):
        predict(tmp_path, inference_mode=True)
