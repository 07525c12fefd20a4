from __future__ import annotations

from typing import Any

import pytest
import torch

from avdiff.errors import UserError
from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Divergence, PosteriorSampler, Progress
from avdiff.samplers.conditional import ConditionalSampler, Inner, NoiseStream
from avdiff.samplers.daps import DAPS
from avdiff.samplers.dps import DPS
from avdiff.samplers.gaussian import ExactConditional
from avdiff.samplers.langevin import Langevin, decayed
from avdiff.samplers.ode import Euler
from avdiff.samplers.paradiffuse import OUVE, ParaDiffUSE
from avdiff.samplers.schedule import PolySchedule
from avdiff.samplers.shares import MixtureShares
from avdiff.samplers.width import PosteriorWidth, Proportional
from tests.gaussian import GaussianProduct, bind, white

KEYS = ("a", "b")


@pytest.mark.parametrize(("steps", "start", "below", "count"), [(300, 4.0, 0.25, 129), (400, 3.0, 0.14, 146)])
def test_schedule_of_the_paper(steps: int, start: float, below: float, count: int) -> None:
    sigmas = PolySchedule(steps, start).sigmas()
    assert (len(sigmas), sigmas[0], sigmas[-1]) == (steps, start, 0.01)
    assert sigmas == sorted(sigmas, reverse=True)
    assert sum(sigma < below for sigma in sigmas) == count


def test_decay_is_linear() -> None:
    assert [decayed(2.0, 0.5, progress) for progress in (0.0, 0.5, 1.0)] == [2.0, 1.5, 1.0]


def test_widths() -> None:
    assert Proportional(0.5)(2.0, 0.05) == 1.0
    assert PosteriorWidth()(3.0, 4.0) == pytest.approx(2.4)
    assert PosteriorWidth(std=4.0)(3.0, 99.0) == pytest.approx(2.4)


def test_every_draw_is_its_own() -> None:
    noise = NoiseStream(ClipNoise(0, KEYS), (2, 3, 50), torch.zeros(1))
    draws = torch.cat([noise.normal(), noise.block(2).transpose(1, 2).flatten(0, 1).view(4, 3, 50), noise.normal()])
    correlation = draws.flatten(0, 1) @ draws.flatten(0, 1).T / 50
    assert (correlation - torch.eye(len(correlation))).abs().max() < 0.99


def run(conditional: ConditionalSampler, y: torch.Tensor, steps: int = 4, **options: object) -> torch.Tensor:
    prior = GaussianProduct(white(0.05, 0.05), 0.05)
    sampler = DAPS(PolySchedule(steps, 1.0), conditional, Euler(1))
    shape = (len(y), 2, y.shape[1])
    return sampler.sample(prior, bind(GaussianLikelihood(0.05), y), shape, like=y, rng=ClipNoise(0, KEYS), **options)


def test_progress_is_told() -> None:
    told: list[Progress] = []
    result = run(ExactConditional(), torch.zeros(2, 30), callback=told.append)
    assert [(p.step, p.steps) for p in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [p.sigma for p in told] == PolySchedule(4, 1.0).sigmas()
    assert told[-1].denoised is result


def test_progress_of_a_warm_start_comes_first() -> None:
    start = DAPS(PolySchedule(2, 1.0), ExactConditional(), Euler(1))
    sampler = DAPS(PolySchedule(3, 0.1), ExactConditional(), Euler(1), start=start)
    told: list[Progress] = []
    prior, y = GaussianProduct(white(0.05, 0.05), 0.05), torch.zeros(2, 30)
    sampler.sample(
        prior, bind(GaussianLikelihood(0.05), y), (2, 2, 30), like=y, rng=ClipNoise(0, KEYS), callback=told.append
    )
    assert [(p.step, p.steps) for p in told] == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5)]
    assert [p.sigma for p in told] == PolySchedule(2, 1.0).sigmas() + PolySchedule(3, 0.1).sigmas()


def test_divergence_names_step_noise_level_clip_and_cause() -> None:
    y = torch.zeros(2, 30)
    with pytest.raises(Divergence, match=r"step 1, noise level 1: .* lower the sampler's eta") as caught:
        run(Langevin(100, 0.1), y)
    assert caught.value.clips == [0, 1]
    assert caught.value.samples.isnan().all()
    y[1] = torch.nan
    with pytest.raises(Divergence, match=r"clip\(s\) 1 of 2 were given up") as caught:
        run(ExactConditional(), y)
    assert caught.value.clips == [1]


def test_the_other_clips_of_a_batch_end_as_if_it_had_not_been_there() -> None:
    y = torch.zeros(2, 30)
    fine = run(ExactConditional(), y)
    y[1] = torch.nan
    told: list[Progress] = []
    with pytest.raises(Divergence) as caught:
        run(ExactConditional(), y, callback=told.append)
    torch.testing.assert_close(caught.value.samples[0], fine[0])
    assert caught.value.samples[1].isnan().all()
    assert len(told) == 4, "annealing went on to its end"


class Amplifier(GaussianProduct):
    """A denoiser that makes the second clip louder with every evaluation."""

    def __init__(self) -> None:
        super().__init__(white(0.05, 0.05), 0.05)

    def denoise(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        clean = super().denoise(x, sigma)
        clean[1] = 90 * x[1]
        return clean


def test_an_exploding_denoiser_is_blamed() -> None:
    y = 0.1 * torch.randn(2, 30)
    sampler = DAPS(PolySchedule(9, 1.0), ExactConditional(), Euler(1))
    with pytest.raises(Divergence, match="bounded: true") as caught:
        sampler.sample(Amplifier(), bind(GaussianLikelihood(0.05), y), (2, 2, 30), like=y, rng=ClipNoise(0, KEYS))
    [(row, failure)] = caught.value.failures.items()
    assert row == 1
    assert failure.step == 2
    assert failure.sigma == pytest.approx(sampler.schedule.sigmas()[1])
    assert caught.value.samples[0].isfinite().all()


class Breaking(GaussianProduct):
    """A denoiser that has no number for the second clip below noise level 0.5."""

    def denoise(self, x: torch.Tensor, sigma: float) -> torch.Tensor:
        broken = torch.tensor([1.0, torch.nan if sigma < 0.5 else 1.0])
        return super().denoise(x, sigma) * broken[:, None, None]


@pytest.mark.parametrize(
    "sampler",
    [DAPS(PolySchedule(9, 1.0), ExactConditional(), Euler(1)), DPS(PolySchedule(9, 1.0)), ParaDiffUSE(OUVE(unit=0.5))],
    ids=lambda sampler: type(sampler).__name__,
)
def test_progress_of_a_clip_that_diverged_is_zero(sampler: PosteriorSampler) -> None:
    y, told = 0.1 * torch.randn(2, 30), list[Progress]()
    prior, rng = Breaking(white(0.05, 0.05), 0.05), ClipNoise(0, KEYS)
    likelihood = bind(GaussianLikelihood(0.05), y)
    with pytest.raises(Divergence) as caught:
        sampler.sample(prior, likelihood, (2, 2, 30), like=y, rng=rng, callback=told.append)
    assert caught.value.clips == [1]
    first = caught.value.failures[1].step
    assert first > 1
    assert all(p.denoised[1].any() == (p.step < first) for p in told)
    assert all(p.denoised[0].all() for p in told)


def test_failures_of_a_warm_start_are_taken_over() -> None:
    y = torch.zeros(2, 30)
    y[1] = torch.nan
    start = DAPS(PolySchedule(3, 1.0), ExactConditional(), Euler(1))
    sampler = DAPS(PolySchedule(2, 0.5), AsGuessed(), Euler(1), start=start)
    prior = GaussianProduct(white(0.05, 0.05), 0.05)
    with pytest.raises(Divergence) as caught:
        sampler.sample(prior, bind(GaussianLikelihood(0.05), y), (2, 2, 30), like=y, rng=ClipNoise(0, KEYS))
    assert caught.value.clips == [1]
    assert caught.value.samples[0].isfinite().all()


def test_last_state_is_denoised() -> None:
    y = 0.05 * torch.randn(2, 2000)
    prior = GaussianProduct(white(0.05, 0.05), 0.05)
    likelihood, rng = bind(GaussianLikelihood(0.05), y), ClipNoise(0, KEYS)
    raw, clean = (
        DAPS(PolySchedule(4, 1.0), ExactConditional(), Euler(1), denoise_last=last).sample(
            prior, likelihood, (2, 2, 2000), like=y, rng=rng
        )
        for last in (False, True)
    )
    torch.testing.assert_close(clean, prior.denoise(raw, 0.01))


def test_ode_must_aim_below_the_annealing() -> None:
    with pytest.raises(UserError, match="sigma_end"):
        DAPS(PolySchedule(4, 1.0, sigma_min=0.01), ExactConditional(), Euler(2, sigma_end=0.01))


def test_langevin_in_place_leaves_its_centre() -> None:
    y, x0_hat = torch.zeros(2, 30), torch.zeros(2, 2, 30)
    noise = NoiseStream(ClipNoise(0, KEYS), (2, 2, 30), y)
    Langevin(3, 1e-4).draw(x0_hat, bind(GaussianLikelihood(0.05), y), Inner(1.0, 1.0, 0.0), noise)
    assert not x0_hat.any()


class Still(PosteriorSampler):
    """Always the same sources."""

    def sample(self, prior: object, likelihood: object, shape: tuple[int, ...], **options: object) -> torch.Tensor:
        return torch.arange(shape[-1]).expand(shape) / 10


class AsGuessed(ConditionalSampler):
    """The guess itself."""

    def draw(self, x0_hat: torch.Tensor, *rest: object) -> torch.Tensor:
        return x0_hat


def test_a_warm_start_is_annealed_from_where_it_is() -> None:
    prior = GaussianProduct(white(1e3, 1e3), 1e3)  # knows next to nothing: returns what it is given
    sampler = DAPS(PolySchedule(1, 0.02), AsGuessed(), Euler(1), start=Still(), denoise_last=False)
    y = torch.zeros(2, 500)
    x = sampler.sample(prior, bind(GaussianLikelihood(0.05), y), (2, 2, 500), like=y, rng=ClipNoise(0, KEYS))
    difference = x - torch.arange(500) / 10
    assert difference.std().item() == pytest.approx(0.02, rel=0.05)
    assert difference.mean().abs() < 0.002


class Hiss(PosteriorSampler):
    """Noise."""

    def sample(self, prior: object, likelihood: object, shape: tuple[int, int, int], **options: Any) -> torch.Tensor:
        return NoiseStream(options["rng"], shape, options["like"]).normal()


def test_a_warm_start_does_not_draw_the_noise_that_is_added_to_it() -> None:
    prior = GaussianProduct(white(1e3, 1e3), 1e3)
    sampler = DAPS(PolySchedule(1, 1.0), AsGuessed(), Euler(1), start=Hiss(), denoise_last=False)
    y = torch.zeros(2, 5_000)
    x = sampler.sample(prior, bind(GaussianLikelihood(0.05), y), (2, 2, 5_000), like=y, rng=ClipNoise(0, KEYS))
    assert x.square().mean().item() == pytest.approx(2.0, rel=0.05)  # 4 if it were the same


def test_a_start_at_the_mixture_asks_no_prior() -> None:
    y = torch.arange(6.0).view(2, 3)
    for sampler, each in ((MixtureShares(), 0.5), (MixtureShares(1.0), 1.0)):
        x = sampler.sample(None, bind(GaussianLikelihood(0.1), y), (2, 2, 3), like=y, rng=ClipNoise(0, KEYS))  # type: ignore[arg-type]
        torch.testing.assert_close(x, each * y[:, None].expand(2, 2, 3))
