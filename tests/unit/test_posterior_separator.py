from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from avdiff.errors import UserError
from avdiff.likelihood.base import BoundLikelihood
from avdiff.likelihood.mixing import SpectralLikelihood
from avdiff.priors.base import BoundPrior
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import JointPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, Divergence, Failure, PosteriorSampler
from avdiff.samplers.conditional import ConditionalSampler
from avdiff.samplers.daps import DAPS
from avdiff.samplers.gaussian import ExactConditional, TruncatedChain
from avdiff.samplers.langevin import Langevin
from avdiff.samplers.local_em import LocalEM
from avdiff.samplers.schedule import PolySchedule
from avdiff.separators.posterior import PosteriorSeparator, Recipe
from avdiff.types import NOISE, OFFSCREEN, Observation, Separation

LAYOUT = (OFFSCREEN, NOISE)
PLAIN = SpectralLikelihood(0.2, exponent=1.0)
EXACT = Recipe(PLAIN, DAPS(PolySchedule(5, 1.0), ExactConditional()))
LANGEVIN = Recipe(SpectralLikelihood(0.8), DAPS(PolySchedule(3, 1.0), Langevin(12, 5e-4)))


def observe(scale: float = 0.1) -> Observation:
    y = scale * torch.randn(3, 1000, generator=torch.Generator().manual_seed(0))
    return Observation(("a", "b", "c"), y, None, None, LAYOUT)


def separate(observation: Observation, recipe: Recipe = EXACT) -> Separation:
    prior = JointPrior({OFFSCREEN: GaussianPrior(0.05), NOISE: GaussianPrior(0.02)}, guidance=0.0)
    separator = PosteriorSeparator(prior, {1: recipe})
    return separator.separate(observation, rng=ClipNoise(7, observation.key))


@pytest.mark.parametrize("recipe", [EXACT, LANGEVIN])
def test_result_scales_with_the_input(recipe: Recipe) -> None:
    quiet, loud = (separate(observe(scale), recipe).sources for scale in (0.01, 1.0))
    torch.testing.assert_close(loud, 100 * quiet, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("recipe", [EXACT, LANGEVIN])
def test_a_clip_does_not_depend_on_its_batch(recipe: Recipe) -> None:
    whole = separate(observe(), recipe).sources
    alone = separate(observe().select([1]), recipe).sources
    torch.testing.assert_close(alone[0], whole[1], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("recipe", [EXACT, LANGEVIN])
def test_silence_gives_silence(recipe: Recipe) -> None:
    observation = observe()
    observation.mixture[1] = 0
    result = separate(observation, recipe)
    assert result.sources.isfinite().all()
    assert not result.sources[1].any()
    assert result.sources[0].any()
    assert result.clips[1].figures["data_fit_db"] is None


def test_sources_make_up_the_mixture() -> None:
    result = separate(observe())
    assert result.layout == LAYOUT
    assert result.sources.shape == (3, 2, 1000)
    assert min(clip.figures["data_fit_db"] for clip in result.clips) > 8
    assert result.info["evaluations"] == 5 * 2 + 1
    assert result.info["seconds"] > 0


def test_runs_in_inference_mode_and_leaves_no_graph() -> None:
    with torch.inference_mode():
        inside = separate(observe(), LANGEVIN).sources
    outside = separate(observe(), LANGEVIN).sources
    assert not outside.requires_grad
    torch.testing.assert_close(inside, outside)


@pytest.mark.parametrize("conditional", [ExactConditional(), TruncatedChain(50, 5e-4)])
def test_closed_forms_refuse_a_compressed_likelihood(conditional: ConditionalSampler) -> None:
    with pytest.raises(UserError, match="exponent 1"):
        Recipe(SpectralLikelihood(0.8), DAPS(PolySchedule(5, 1.0), conditional))
    Recipe(PLAIN, DAPS(PolySchedule(5, 1.0), conditional))


def test_recipe_of_the_largest_fitting_number() -> None:
    prior = JointPrior({NOISE: GaussianPrior()})
    separator = PosteriorSeparator(prior, {1: EXACT, 3: LANGEVIN})
    for talkers, wanted in {1: EXACT, 2: EXACT, 3: LANGEVIN, 5: LANGEVIN}.items():
        assert separator.recipe((OFFSCREEN,) * talkers + (NOISE,)) is wanted
    with pytest.raises(UserError, match="no recipe for 0 talker"):
        separator.recipe((NOISE,))


@dataclass(frozen=True)
class Spy(PosteriorSampler):
    """Returns silence, and keeps the mixture that the likelihood was bound to."""

    seen: list[torch.Tensor] = field(default_factory=list)

    def sample(
        self,
        prior: BoundPrior,
        likelihood: BoundLikelihood,
        shape: tuple[int, int, int],
        *,
        like: torch.Tensor,
        rng: ClipNoise,
        callback: Callback | None = None,
    ) -> torch.Tensor:
        assert likelihood.gaussian is not None
        self.seen.append(likelihood.gaussian.mixture)
        return like.new_zeros(shape)


def test_mixture_is_brought_to_the_level() -> None:
    spy, observation = Spy(), observe()
    separator = PosteriorSeparator(
        JointPrior({OFFSCREEN: GaussianPrior(0.05), NOISE: GaussianPrior()}), {1: Recipe(PLAIN, spy)}, level=2.0
    )
    separator.separate(observation, rng=ClipNoise(0, observation.key))
    torch.testing.assert_close(spy.seen[0].square().mean(-1).sqrt(), torch.full((3,), 0.1))


def drawing(draws: int, recipe: Recipe = EXACT) -> PosteriorSeparator:
    prior = JointPrior({OFFSCREEN: GaussianPrior(0.05), NOISE: GaussianPrior(0.02)}, guidance=0.0)
    return PosteriorSeparator(prior, {1: recipe}, draws=draws)


def test_draws_are_averaged_and_their_spread_is_told() -> None:
    observation = observe()
    several = drawing(3).separate(observation, rng=ClipNoise(7, observation.key))
    single = []
    for draw in ("", "#1", "#2"):
        keys = tuple(key + draw for key in observation.key)
        single.append(drawing(1).separate(observation, rng=ClipNoise(7, keys)).sources)
    torch.testing.assert_close(several.sources, torch.stack(single).mean(0), atol=1e-6, rtol=1e-4)
    assert several.std is not None
    torch.testing.assert_close(several.std, torch.stack(single).std(0), atol=1e-6, rtol=1e-3)
    assert [clip.figures["draws"] for clip in several.clips] == [3, 3, 3]
    assert several.info["evaluations"] == 5 * 2 + 1  # a network call holds them all
    assert drawing(1).separate(observation, rng=ClipNoise(7, observation.key)).std is None


@dataclass(frozen=True)
class LosesRows(PosteriorSampler):
    """Gives the rows' numbers, and loses some of them."""

    rows: tuple[int, ...]

    def sample(self, prior, likelihood, shape, *, like, rng, callback=None):
        x = torch.arange(float(shape[0]))[:, None, None].expand(shape).clone()
        x[list(self.rows)] = torch.nan
        raise Divergence({row: Failure(1, 1.0, f"row {row}") for row in self.rows}, x)


def test_draws_that_diverge_are_left_out() -> None:
    """Of three clips with two draws each, the first loses one draw, the second both."""
    observation = Observation(("a", "b", "c"), torch.ones(3, 1000), None, None, LAYOUT)
    result = drawing(2, Recipe(PLAIN, LosesRows((1, 2, 3)))).separate(observation, rng=ClipNoise(0, observation.key))
    unit = 1 / 0.05
    assert result.std is not None
    assert [clip.figures["draws"] for clip in result.clips] == [1, 0, 2]
    assert [bool(reason) for reason in result.failures] == [False, True, False]
    assert "row 2" in str(result.failures[1])
    assert result.sources[:, 0, 0].tolist() == pytest.approx([0.0, float("nan"), 4.5 * unit], nan_ok=True)
    assert result.std[:, 0, 0].tolist() == pytest.approx([float("nan")] * 2 + [0.5**0.5 * unit], nan_ok=True)


def test_a_method_that_draws_nothing_refuses_several_draws() -> None:
    with pytest.raises(UserError, match="draws nothing"):
        drawing(4, Recipe(PLAIN, LocalEM()))
