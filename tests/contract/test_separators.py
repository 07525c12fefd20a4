"""What every method must satisfy. A new method adds one line to METHODS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from avdiff.em.ldem import Langevin as LangevinEM
from avdiff.em.mcem import MCEM, Algorithm, MetropolisHastings
from avdiff.em.nmf import NMF
from avdiff.em.peem import PointEstimate
from avdiff.em.vae import VAEMixture
from avdiff.em.variational import VariationalMCEM
from avdiff.likelihood.autograd import Autograd
from avdiff.likelihood.base import Likelihood
from avdiff.likelihood.mixing import SpectralLikelihood
from avdiff.likelihood.separation_loss import SeparationLoss
from avdiff.nets.visual import LipEncoder
from avdiff.priors.joint import JointPrior
from avdiff.priors.nmf import AnyVoice, Dictionary
from avdiff.priors.presets import tiny_noise, tiny_speech
from avdiff.priors.vae import conditional_vae
from avdiff.rng import ClipNoise
from avdiff.samplers.base import PosteriorSampler
from avdiff.samplers.conditional import ConditionalSampler
from avdiff.samplers.daps import DAPS
from avdiff.samplers.dps import DPS, Jointly
from avdiff.samplers.exact import ExactPosterior
from avdiff.samplers.gauss_newton import GaussNewton
from avdiff.samplers.gaussian import ExactConditional, TruncatedChain
from avdiff.samplers.hmc import DampedHMC, SplitHMC
from avdiff.samplers.langevin import Langevin
from avdiff.samplers.local import LocalGaussian
from avdiff.samplers.local_em import LocalEM
from avdiff.samplers.ode import Euler, Heun
from avdiff.samplers.paradiffuse import OUVE, ParaDiffUSE
from avdiff.samplers.schedule import PolySchedule
from avdiff.samplers.shares import MixtureShares
from avdiff.samplers.width import PosteriorWidth
from avdiff.separators.base import Separator
from avdiff.separators.chunked import Chunked
from avdiff.separators.em import EMSeparator
from avdiff.separators.flowavse import FlowAVSESeparator
from avdiff.separators.posterior import PosteriorSeparator, Recipe
from avdiff.separators.presets import tiny_flowavse, tiny_ravss, tiny_visual_mask
from avdiff.separators.ravss import RAVSSSeparator
from avdiff.separators.visual_mask import VisualMaskSeparator
from avdiff.types import Observation
from tests.supervised import randomise

SAMPLES = 640 * 8
LAYOUTS = [("speaker", "noise"), ("speaker", "speaker", "noise"), ("speaker", "offscreen", "noise")]


def _joint() -> JointPrior:
    """Random weights that do something: a new network is near zero."""
    torch.manual_seed(0)
    priors = {"speaker": tiny_speech(), "noise": tiny_noise()}
    for prior in priors.values():
        for name, value in prior.network.named_parameters():
            if name.endswith("weight") and value.ndim == 4:
                torch.nn.init.normal_(value, std=0.05)
        prior.eval().requires_grad_(False)
    return JointPrior(priors, guidance=0.5)


def _posterior(
    sampler: PosteriorSampler,
    exponent: float,
    around: Callable[[Likelihood], Likelihood] = lambda of: of,
    draws: int = 1,
) -> PosteriorSeparator:
    likelihood = SpectralLikelihood(beta=0.5, exponent=exponent, separation=SeparationLoss())
    return PosteriorSeparator(_joint(), {1: Recipe(around(likelihood), sampler)}, draws=draws)


def _nmf() -> EMSeparator:
    torch.manual_seed(0)
    return EMSeparator(NMF(AnyVoice(Dictionary(8).requires_grad_(False)), rank=3, iterations=10))


def _vae(algorithm: Algorithm) -> EMSeparator:
    torch.manual_seed(0)
    vae = conditional_vae(LipEncoder(width=4, dim=16, dilations=(1,)))
    return EMSeparator(VAEMixture(vae.eval().requires_grad_(False), algorithm, rank=3, levels={1: -3.0}))


def _daps(conditional: ConditionalSampler, **more: object) -> DAPS:
    return DAPS(PolySchedule(steps=3, sigma_max=0.5, sigma_min=0.01), conditional, **more)


METHODS: dict[str, Callable[[], Separator]] = {
    "ssnaps": lambda: _posterior(_daps(Langevin(steps=3, eta=5e-4)), 2 / 3),
    "ssnaps_heun": lambda: _posterior(_daps(Langevin(steps=3, eta=5e-4), ode=Heun(2)), 2 / 3),
    "ssnaps_closed": lambda: _posterior(_daps(TruncatedChain(steps=50, eta=5e-4, step_cap=1.0)), 1.0),
    "ssnaps_exact": lambda: _posterior(_daps(ExactConditional(), ode=Euler(1), width=PosteriorWidth()), 1.0),
    "ssnaps_fast": lambda: _posterior(_daps(LocalGaussian(known=True), ode=Euler(1), start=LocalEM(1)), 1.0),
    "ssnaps_autograd": lambda: _posterior(_daps(Langevin(steps=3, eta=5e-4)), 2 / 3, Autograd),
    "ssnaps_from_mixture": lambda: _posterior(_daps(ExactConditional(), ode=Euler(1), start=MixtureShares()), 1.0),
    "ssnaps_hmc": lambda: _posterior(_daps(DampedHMC(steps=3, eta=5e-4)), 2 / 3),
    "ssnaps_split_hmc": lambda: _posterior(_daps(SplitHMC(steps=3, eta=5e-4)), 2 / 3),
    "ssnaps_newton": lambda: _posterior(_daps(GaussNewton(steps=50, eta=5e-4, polish=1)), 2 / 3),
    "davss_nm": lambda: _posterior(DPS(PolySchedule(3, 0.5, 0.01, rho=10), churn=1.0), 2 / 3),
    "davss_nm_heun": lambda: _posterior(DPS(PolySchedule(3, 0.5, 0.01, rho=10), Jointly(), heun=True), 2 / 3),
    "paradiffuse": lambda: _posterior(ParaDiffUSE(OUVE(steps=3)), 1.0, draws=2),
    "local_em": lambda: _posterior(LocalEM(2), 1.0),
    "wiener": lambda: _posterior(ExactPosterior(), 1.0),
    "nmf": _nmf,
    "vae_mcem": lambda: _vae(MCEM(MetropolisHastings(4, 2, last_draws=6, last_burn_in=3), 4)),
    "vae_ldem": lambda: _vae(MCEM(LangevinEM(2, 4, 2, spread=2), 4)),
    "vae_peem": lambda: _vae(MCEM(PointEstimate(3), 4)),
    "vae_variational": lambda: _vae(VariationalMCEM(4, 4, 2)),
    "flowavse": lambda: FlowAVSESeparator({1: randomise(tiny_flowavse())}),
    "ravss": lambda: RAVSSSeparator(randomise(tiny_ravss())),
    "visual_mask": lambda: VisualMaskSeparator(randomise(tiny_visual_mask())),
    "chunked": lambda: Chunked(_posterior(_daps(ExactConditional()), 1.0), seconds=30),
}
DETERMINISTIC = {"local_em", "flowavse", "ravss", "visual_mask"}  # nothing is drawn


@pytest.fixture(params=METHODS, scope="module")
def method(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def separator(method: str) -> Separator:
    return METHODS[method]()


def observation(layout: tuple[str, ...], scale: float = 1.0) -> Observation:
    generator = torch.Generator().manual_seed(1)
    visible = layout.count("speaker")
    return Observation(
        ("clip/a", "clip/b"),
        scale * 0.1 * torch.randn(2, SAMPLES, generator=generator),
        torch.randint(0, 256, (2, visible, 8, 96, 96), dtype=torch.uint8, generator=generator),
        None,
        layout,
    )


def separate(separator: Separator, seen: Observation, seed: int = 0) -> torch.Tensor:
    return separator.separate(seen, rng=ClipNoise(seed, seen.key)).sources


def agreement_db(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(a.square().sum() / (a - b).square().sum().clamp_min(1e-20)))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: "+".join(layout))
def test_every_source_of_the_layout_comes_back(separator: Separator, layout: tuple[str, ...]) -> None:
    result = separator.separate(seen := observation(layout), rng=ClipNoise(0, seen.key))
    assert result.key == seen.key
    assert result.layout == layout
    assert result.sources.shape == (2, len(layout), SAMPLES)
    assert result.sources.dtype == torch.float32
    assert result.sources.isfinite().all()


def test_a_clip_does_not_depend_on_its_batch(separator: Separator) -> None:
    both = observation(LAYOUTS[1])
    whole = separate(separator, both)
    for row in (0, 1):
        assert agreement_db(whole[row], separate(separator, both.select([row]))[0]) > 40


def test_a_clip_depends_on_the_seed_where_a_draw_is_made(separator: Separator, method: str) -> None:
    seen = observation(LAYOUTS[0])
    same = agreement_db(separate(separator, seen), separate(separator, seen, seed=1)) > 40
    assert same == (method in DETERMINISTIC)


def test_the_result_scales_with_the_mixture(separator: Separator) -> None:
    quiet, loud = observation(LAYOUTS[2]), observation(LAYOUTS[2], scale=30.0)
    assert agreement_db(30 * separate(separator, quiet), separate(separator, loud)) > 40


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_mixture_that_is_not_finite_is_given_up_alone(separator: Separator, value: float) -> None:
    whole = observation(LAYOUTS[1])
    broken = replace(whole, mixture=whole.mixture.clone())
    broken.mixture[1, 100] = value
    result = separator.separate(broken, rng=ClipNoise(0, broken.key))
    assert result.failures == (None, "the mixture holds values that are not finite; mend the recording")
    assert result.sources[1].isnan().all()
    assert agreement_db(result.sources[0], separate(separator, whole)[0]) > 40


def test_silence_gives_silence(separator: Separator) -> None:
    assert separate(separator, observation(LAYOUTS[1], scale=0.0)).abs().max() == 0
