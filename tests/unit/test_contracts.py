"""What passes between the parts of a method: sample rates, priors that stay as they are, which sources are noise."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from avdiff.em.nmf import NMF
from avdiff.errors import UserError
from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import JointPrior
from avdiff.priors.nmf import AnyVoice, Dictionary
from avdiff.priors.presets import tiny_noise
from avdiff.rng import ClipNoise
from avdiff.samplers.conditional import Inner, NoiseStream
from avdiff.samplers.daps import DAPS
from avdiff.samplers.gaussian import ExactConditional
from avdiff.samplers.hmc import _Hamiltonian
from avdiff.samplers.levels import LevelFit
from avdiff.samplers.local_em import LocalEM
from avdiff.samplers.schedule import PolySchedule
from avdiff.separators.base import Separator
from avdiff.separators.chunked import Chunked
from avdiff.separators.em import EMSeparator
from avdiff.separators.posterior import PosteriorSeparator, Recipe
from avdiff.types import NOISE, OFFSCREEN, ClipInfo, Observation, Separation

SAMPLES = 1600


def observe(layout: tuple[str, ...] = (OFFSCREEN, NOISE), scale: float = 0.4) -> Observation:
    mixture = scale * torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0))
    return Observation(("a",), mixture, None, None, layout)


def joint(*roles: str) -> JointPrior:
    return JointPrior({role: GaussianPrior(0.05) for role in roles or (OFFSCREEN, NOISE)}, guidance=0.0)


def posterior() -> PosteriorSeparator:
    daps = DAPS(PolySchedule(2, 1.0), ExactConditional())
    return PosteriorSeparator(joint(), {1: Recipe(GaussianLikelihood(0.1), daps)})


def nmf() -> EMSeparator:
    return EMSeparator(NMF(AnyVoice(Dictionary(2, n_fft=128, hop=32)), rank=2, iterations=1))


# -- sample rates


@pytest.mark.parametrize("separator", [posterior, nmf, lambda: Chunked(nmf())], ids=["posterior", "EM", "chunked"])
def test_a_mixture_of_another_sample_rate_is_refused_and_the_remedy_named(separator) -> None:
    fast = replace(observe(), sample_rate=48_000)
    with pytest.raises(UserError, match=r"48000 Hz.*16000 Hz.*resample"):
        separator().separate(fast, rng=ClipNoise(0, fast.key))


def test_priors_of_another_sample_rate_take_mixtures_of_theirs() -> None:
    bound = JointPrior({NOISE: GaussianPrior(0.05, sample_rate=8_000)}).bind(
        replace(observe((NOISE,)), sample_rate=8_000)
    )
    assert bound.gains.tolist() == [[1.0]]


# -- priors stay as they are


def test_levels_that_are_fitted_do_not_change_the_prior_that_was_given() -> None:
    observation = observe()
    prior, likelihood = joint().bind(observation), GaussianLikelihood(0.01).bind(observation)
    x, sigma = observation.mixture[:, None].expand(1, 2, -1), 0.1
    before = prior.denoise(x, sigma)
    sampler = LocalEM(2, levels=LevelFit(doubt_db=0.0))
    fit = sampler.fit(prior, likelihood, (1, 2, SAMPLES), like=x, rng=ClipNoise(0, ("a",)))
    assert torch.equal(prior.denoise(x, sigma), before)
    assert not torch.allclose(fit.prior.denoise(x, sigma), before, rtol=0.1)
    assert fit.prior.evaluations == prior.evaluations == 2 + 3, "one count for both"


@dataclass(frozen=True)
class Spy(ExactConditional):
    """Keeps the priors' std that annealing goes on with."""

    seen: list[Tensor] = field(default_factory=list)

    @property
    def needs_deviation(self) -> bool:
        return True

    def draw(self, x0_hat, likelihood, at: Inner, noise: NoiseStream) -> Tensor:
        assert at.deviation is not None
        self.seen.append(at.deviation)
        return super().draw(x0_hat, likelihood, at, noise)


def test_annealing_goes_on_with_the_prior_that_its_start_fitted() -> None:
    observation = observe()
    prior, likelihood = joint().bind(observation), GaussianLikelihood(0.01).bind(observation)
    spy, start = Spy(), LocalEM(2, levels=LevelFit(doubt_db=0.0))
    how = {"like": observation.mixture, "rng": ClipNoise(0, ("a",))}
    DAPS(PolySchedule(2, 0.01, 0.005), spy, start=start).sample(prior, likelihood, (1, 2, SAMPLES), **how)
    fitted = start.fit(prior, likelihood, (1, 2, SAMPLES), **how).prior.deviation(SAMPLES)
    assert fitted is not None
    torch.testing.assert_close(spy.seen[0], fitted)
    assert not torch.allclose(fitted, prior.deviation(SAMPLES), rtol=0.1)


# -- which sources are noise


def test_the_priors_say_which_sources_are_noise() -> None:
    layout = (OFFSCREEN, OFFSCREEN, NOISE, NOISE)
    assert joint().bind(observe(layout)).noise.tolist() == [False, False, True, True]


def test_without_noise_nobody_has_the_anchor_of_the_noise() -> None:
    """Two voices of one prior are alike, so that their estimates are; the noise's anchor is for neither."""
    observation = observe((OFFSCREEN, OFFSCREEN))
    likelihood = GaussianLikelihood(0.01).bind(observation)
    sampler, prior = LocalEM(3, anchor=0.0, noise_anchor=1.0), joint(OFFSCREEN).bind(observation)
    x = sampler.sample(prior, likelihood, (1, 2, SAMPLES), like=observation.mixture, rng=ClipNoise(0, ("a",)))
    torch.testing.assert_close(x[:, 0], x[:, 1])


# -- networks


def test_a_compiled_joint_prior_leaves_the_priors_networks_alone() -> None:
    prior = tiny_noise()
    network = prior.network
    run = JointPrior({NOISE: prior}, compiled=True).priors[NOISE]
    assert "forward" not in vars(network)
    assert prior.network is network
    assert run.network is not network
    assert all(own is given for own, given in zip(run.parameters(), prior.parameters(), strict=True))
    run.network.register_forward_hook(lambda *_: None)
    assert not network._forward_hooks


# -- Hamiltonian Monte Carlo


@dataclass(frozen=True)
class Still(_Hamiltonian):
    """Stays where it is, and keeps which step it was told is the first."""

    told: list[bool] = field(default_factory=list)

    def _step(self, x, v, score, n, step, first):
        self.told.append(first)
        return x, v


def test_a_chain_that_does_not_move_has_one_first_step() -> None:
    observation, still = observe(), Still(12, 1e-4)
    noise = NoiseStream(ClipNoise(0, ("a",)), (1, 2, SAMPLES), observation.mixture)
    still.draw(torch.zeros(1, 2, SAMPLES), GaussianLikelihood(0.1).bind(observation), Inner(1.0, 1.0, 0.0), noise)
    assert still.told == [True] + [False] * 11


# -- separators


def test_figures_of_a_batch_are_not_taken_for_those_of_its_clips() -> None:
    """Also where a list has by chance as many values as the batch has clips."""
    found = Separation(
        ("a", "b"), (NOISE,), torch.zeros(2, 1, 5), {"levels": [0.3, 0.1]}, (ClipInfo({"fit": 1.0}), ClipInfo(failure="lost"))
    )  # fmt: skip
    assert found.record(0) == {"levels": [0.3, 0.1], "fit": 1.0, "clips_in_batch": 2}
    assert found.record(1) == {"levels": [0.3, 0.1], "failure": "lost", "clips_in_batch": 2}
    assert found.failures == (None, "lost")
    with pytest.raises(ValueError, match="1 clips"):
        replace(found, clips=(ClipInfo(),))


def test_a_wrapper_asks_its_method_what_it_wants_to_see() -> None:
    class Features(Separator):
        @property
        def visual_input(self) -> str:
            return "features"

    wrapper = Chunked(nmf())
    assert wrapper.visual_input == "none"
    wrapper.separator = Features()
    assert wrapper.visual_input == "features"
