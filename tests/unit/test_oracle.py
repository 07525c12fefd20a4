"""Priors that are told the sources, and the posterior that they make known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from avdiff.audio.representation import STFT
from avdiff.benchmark import run_benchmark
from avdiff.errors import UserError
from avdiff.evaluation import Scoring
from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.lit.separation import SeparationModule
from avdiff.metrics.evaluate import METRICS
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import JointPrior
from avdiff.priors.oracle import LocalGaussianPrior, local_posterior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import PosteriorSampler
from avdiff.samplers.exact import ExactPosterior
from avdiff.separators.posterior import PosteriorSeparator, Recipe
from avdiff.types import NOISE, OFFSCREEN, Observation, Separation
from datamodules.mixtures import Mixtures, ToyMixtures
from tests.gaussian import bind

SAMPLES = 160 * 40
LAYOUT = (OFFSCREEN, NOISE)
STD = 0.02


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_equal_variances_are_the_white_gaussian_prior() -> None:
    prior, white = LocalGaussianPrior(), GaussianPrior(0.05)
    x, sigma = noise(2, SAMPLES), torch.tensor([0.03, 0.2])
    cond = torch.full((2, 41, 256), 0.05**2)
    torch.testing.assert_close(prior.denoise(x, sigma, cond), white.denoise(x, sigma), atol=1e-5, rtol=1e-4)
    local = sigma[:, None, None].expand(2, 256, 41)
    for ours, known in zip(prior.estimate(x, local, cond), white.estimate(x, local), strict=True):
        torch.testing.assert_close(ours, known, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(prior.deviation(SAMPLES, cond), white.deviation(SAMPLES).expand(2, -1, -1))


def test_the_denoiser_is_the_wiener_filter_of_each_bin() -> None:
    """A tone in noise keeps its own bin and loses the others."""
    prior, sigma = LocalGaussianPrior(1, 1), 0.01
    tone = 0.1 * torch.sin(2 * torch.pi * 1000 / 16_000 * torch.arange(SAMPLES))[None]
    cond = prior.reveal(tone)
    stft = STFT()
    torch.testing.assert_close(cond.mT, (stft(tone).abs() ** 2 / stft.energy).clamp_min(1e-12))
    clean = prior.denoise(tone + sigma * noise(1, SAMPLES), torch.tensor([sigma]), cond)
    middle = slice(SAMPLES // 4, -SAMPLES // 4)
    error = (clean - tone)[:, middle].square().mean() / sigma**2
    v = cond[0, 20]
    assert error == pytest.approx(
        float((v / (v + sigma**2)).mean()), rel=0.5
    )  # 1 unfiltered; about 5 of 256 bins are kept
    assert error < 0.05


def test_variances_are_those_of_the_neighbourhood() -> None:
    source = noise(1, SAMPLES)
    alone, around = LocalGaussianPrior(1, 1).reveal(source)[0], LocalGaussianPrior(3, 3).reveal(source)[0]
    assert around[10, 20] == pytest.approx(float(alone[9:12, 19:22].mean()), rel=1e-5)
    assert around.mean() == pytest.approx(1.0, rel=0.05)


def test_posterior_is_that_of_a_gaussian_given_its_sum() -> None:
    variance = noise(2, 3, 4, 5).square() + 0.1
    gain, covariance = local_posterior(variance.double(), STD)
    prior = torch.diag_embed(variance.double().permute(0, 2, 3, 1))  # (B, bins, frames, K, K)
    ones = torch.ones(3, 1, dtype=torch.float64)
    heard = prior @ ones
    total = ones.T @ heard + STD**2
    torch.testing.assert_close(gain.permute(0, 2, 3, 1), (heard / total)[..., 0])
    torch.testing.assert_close(covariance.permute(0, 3, 4, 1, 2), prior - heard @ heard.mT / total)


def joint() -> JointPrior:
    return JointPrior({OFFSCREEN: LocalGaussianPrior(), NOISE: LocalGaussianPrior()})


def told(batch: int = 1, samples: int = SAMPLES) -> Observation:
    sources = 0.05 * torch.stack([noise(batch, samples), 0.5 * noise(batch, samples, seed=1)], dim=1)
    keys = tuple("abcd"[:batch])
    return Observation(keys, sources.sum(1), None, None, LAYOUT, truth=sources)


def test_exact_draws_have_the_posteriors_mean_and_covariance() -> None:
    observation, draws = told(), 400
    bound = joint().bind(observation, draws=draws)
    likelihood = bind(GaussianLikelihood(STD), observation.mixture.repeat(draws, 1))
    keys = ClipNoise(0, tuple(map(str, range(draws))))
    shape = (draws, 2, SAMPLES)
    like = observation.mixture
    x = ExactPosterior().sample(bound, likelihood, shape, like=like, rng=keys)
    mean = ExactPosterior(0.0).sample(bound, likelihood, shape, like=like, rng=keys)
    assert torch.equal(mean[0], mean[1])
    std = bound.deviation(SAMPLES)
    assert std is not None
    gain, covariance = local_posterior(std[:1].square(), STD)
    wanted = STFT().inverse(gain[0] * STFT()(observation.mixture), SAMPLES)
    torch.testing.assert_close(mean[0], wanted, atol=1e-6, rtol=1e-4)
    spread = float((x.mean(0) - mean[0]).square().mean() / x.var(0).mean())
    assert spread == pytest.approx(1 / draws, rel=0.2)
    found = torch.einsum("nkt,njt->kj", x - mean, x - mean) / (draws * SAMPLES)
    expected = covariance[0].mean((-2, -1))
    # overlapping frames see the same noise: the filter of every bin is a little blurred, which loses some of its power
    torch.testing.assert_close(found, expected, atol=0, rtol=0.12)


def test_levels_are_the_sources_own() -> None:
    """Whatever the recipe believes of levels, and at whatever scale."""
    observation = told(2)
    assert observation.truth is not None
    scaled = Observation(LAYOUT, 3 * observation.mixture, None, None, LAYOUT, truth=3 * observation.truth)
    plain = joint().bind(observation).deviation(SAMPLES)
    loud = joint().bind(scaled, {OFFSCREEN: -20.0}, scale=3.0)
    assert plain is not None
    torch.testing.assert_close(loud.deviation(SAMPLES), 3 * plain)
    x = noise(2, 2, SAMPLES)
    torch.testing.assert_close(loud.denoise(x, 0.3), 3 * joint().bind(observation).denoise(x / 3, 0.1))


def test_one_source_may_have_another_prior() -> None:
    mixed = JointPrior({OFFSCREEN: LocalGaussianPrior(), NOISE: GaussianPrior(0.05)})
    assert mixed.oracle
    assert not JointPrior({OFFSCREEN: GaussianPrior(), NOISE: GaussianPrior()}).oracle
    observation, x = told(), noise(1, 2, SAMPLES)
    out = mixed.bind(observation).denoise(x, 0.1)
    torch.testing.assert_close(out[:, 0], joint().bind(observation).denoise(x, 0.1)[:, 0])
    torch.testing.assert_close(out[:, 1], 0.2 * x[:, 1])


def separator() -> PosteriorSeparator:
    return PosteriorSeparator(joint(), {0: Recipe(GaussianLikelihood(1e-4), ExactPosterior())})


def test_a_recording_cannot_tell_its_sources() -> None:
    unknown = Observation(("a",), noise(1, SAMPLES), None, None, LAYOUT)
    with pytest.raises(UserError, match="told the sources"):
        separator().separate(unknown, rng=ClipNoise(0, ("a",)))


class Seen(SeparationModule):
    """Keeps what it is shown."""

    def predict_step(self, batch: Observation) -> Separation:
        self.truth = batch.truth
        return Separation(batch.key, batch.layout, batch.mixture[:, None].expand(-1, len(batch.layout), -1))


@pytest.mark.parametrize("oracle", [True, False])
def test_lists_tell_oracles_alone(oracle: bool) -> None:
    method = separator()
    if not oracle:
        method.prior = JointPrior({OFFSCREEN: GaussianPrior(), NOISE: GaussianPrior()})
    module, mixtures = Seen(method), ToyMixtures(1)
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    trainer.predict(module, datamodule=Mixtures(mixtures), return_predictions=False)
    if oracle:
        assert module.truth is not None
        assert torch.equal(module.truth[0], mixtures[0].sources)
    else:
        assert module.truth is None


@pytest.mark.parametrize(("temperature", "variance"), [(1.0, 1.0), (0.5, 0.25)])
def test_draws_are_measured_against_the_posterior(temperature: float, variance: float) -> None:
    method = PosteriorSeparator(joint(), {0: Recipe(GaussianLikelihood(1e-4), ExactPosterior(temperature))}, draws=8)
    observation = told(2)
    result = method.separate(observation, rng=ClipNoise(0, observation.key))
    assert len(result.clips) == 2
    for clip in result.clips:
        for source in clip.figures["posterior"]:
            assert source["bias"][1] == pytest.approx(0.0, abs=0.02)
            assert source["variance"] == pytest.approx((0.0, variance), rel=0.05)
    # the mixture taken for a source is off by all of the others: here they have 1/4 and 4 times the source's own power
    far = [source["bias"][0] for source in result.clips[0].figures["posterior"]]
    assert far == pytest.approx([0.2 * 0.25 / 0.2, 0.8 * 1.0 / 0.2], rel=0.4)


@dataclass(frozen=True)
class Constant(PosteriorSampler):
    """Draws around a value that is not the posterior's mean."""

    def sample(self, prior, likelihood, shape, *, like, rng, callback=None):
        off = ExactPosterior().sample(prior, likelihood, shape, like=like, rng=rng)
        return off + 0.5 * off.new_tensor(prior.sigma_data)


def test_a_bias_is_told() -> None:
    method = PosteriorSeparator(joint(), {0: Recipe(GaussianLikelihood(1e-4), Constant())}, draws=8)
    observation = told()
    result = method.separate(observation, rng=ClipNoise(0, observation.key))
    # every source's posterior variance is about v_1 v_2 / (v_1 + v_2), in units of sigma_data^2 = 1.25 (0.05^2)
    expected = 0.25 / (0.2 / 1.25)
    assert [source["bias"][1] for source in result.clips[0].figures["posterior"]] == pytest.approx(
        [expected] * 2, rel=0.3
    )


def test_no_posterior_is_told_where_a_prior_is_not_exact() -> None:
    mixed = JointPrior({OFFSCREEN: LocalGaussianPrior(), NOISE: GaussianPrior(0.05)})
    method = PosteriorSeparator(mixed, {0: Recipe(GaussianLikelihood(1e-4), ExactPosterior())}, draws=2)
    assert "posterior" not in method.separate(told(), rng=ClipNoise(0, ("a",))).record(0)


def test_a_benchmark_has_the_figures_in_its_table(tmp_path: Path) -> None:
    recipe = Recipe(GaussianLikelihood(1e-4), ExactPosterior())
    mixtures = ToyMixtures(2, samples=8000)
    results = run_benchmark(
        "exact", PosteriorSeparator(joint(), {0: recipe}, draws=4), Mixtures(mixtures), mixtures, tmp_path, settings="s",
        scoring=Scoring({"si_sdr": METRICS["si_sdr"]}),
    )  # fmt: skip
    assert results is not None
    means = {(mean.role, mean.metric): mean for mean in results.means}
    assert means[OFFSCREEN, "posterior_variance"].estimate == pytest.approx(1.0, rel=0.2)
    assert means[OFFSCREEN, "posterior_variance"].mixture == 0
    assert abs(means[OFFSCREEN, "posterior_bias"].estimate) < 0.1
    assert means[OFFSCREEN, "posterior_bias"].mixture > 0.1
