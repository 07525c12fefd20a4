"""EM methods on data drawn from their own model, and each of their parts against what is known exactly."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from avdiff.em.ldem import Langevin, energy, gradient
from avdiff.em.mcem import MCEM, Algorithm, EStep, MetropolisHastings
from avdiff.em.mixture import MixtureModel, Talkers
from avdiff.em.peem import PointEstimate
from avdiff.em.variational import SourcePosterior, VariationalMCEM
from avdiff.nets.vae import Gaussian, GaussianMixture
from avdiff.rng import ClipNoise
from tests.drawn import Drawn, draw

MCEM_STEPS = MetropolisHastings(draws=15, burn_in=10, variance=0.03, last_draws=40, last_burn_in=20)
ALGORITHMS: dict[str, Algorithm] = {
    "mcem": MCEM(MCEM_STEPS, iterations=40),
    "ldem": MCEM(Langevin(steps=8, chains=2, eta=1e-2), iterations=40),
    "peem": MCEM(PointEstimate(steps=8, rate=0.04), iterations=40),
}


@pytest.fixture(autouse=True)
def _no_gradients() -> object:
    with torch.no_grad():
        yield


def model_of(drawn: Drawn, rank: int = 2) -> MixtureModel:
    return MixtureModel.begin(drawn.power, drawn.talkers, rank, ClipNoise(0, ("a",) * len(drawn.power)))


@pytest.mark.parametrize("talkers", [1, 2, 3])
@pytest.mark.parametrize("name", ALGORITHMS)
def test_drawn_talkers_come_back_as_from_the_true_variances(name: str, talkers: int) -> None:
    """Started from nothing but the priors: within 1 dB of the Wiener filter that knows every variance."""
    drawn = draw(talkers, frames=40, bins=193)
    found = ALGORITHMS[name].run(drawn.power, drawn.talkers, 1, 2, ClipNoise(0, ("a",)))
    reached, best = drawn.sdr(found.shares), drawn.oracle()
    assert (reached[:-1] > best[:-1] - 1).all()
    assert torch.allclose(found.shares.sum(1), torch.ones_like(drawn.power), atol=1e-5)


@pytest.mark.parametrize("talkers", [1, 2, 3])
def test_the_variational_variant_stays_at_a_good_start(talkers: int) -> None:
    """It moves too little to find one by itself; from an encoder's start it is within 1 dB of the Wiener filter."""
    drawn = draw(talkers, frames=40, bins=193)
    noise = torch.randn(drawn.z.shape, generator=torch.Generator().manual_seed(1))
    start = replace(drawn.talkers, start=drawn.z + 0.2 * noise)
    algorithm = VariationalMCEM(iterations=40, draws=15, burn_in=10, variance=0.03)
    found = algorithm.run(drawn.power, start, 1, 2, ClipNoise(0, ("a",)))
    assert (drawn.sdr(found.shares)[:-1] > drawn.oracle()[:-1] - 1).all()


@pytest.mark.parametrize("talkers", [1, 3])
def test_no_m_step_raises_the_cost(talkers: int) -> None:
    """Samples of z that have nothing to do with the mixture, in double precision."""
    drawn = draw(talkers, clips=2, frames=20, bins=33)
    model = model_of(drawn)
    z = torch.randn(4, *drawn.z.shape, generator=torch.Generator().manual_seed(1))
    variances = drawn.talkers.log_variance(z).exp().double()
    model = replace(model, power=model.power.double(), gain=model.gain.double(), h=model.h.double(), w=model.w.double())
    first = last = model.cost(variances)
    for _ in range(100):
        model = model.maximised(variances)
        now = model.cost(variances)
        assert (now <= last + 1e-12).all()
        last = now
    assert (last < first - 0.1).all()
    levelled = replace(model, talkers=replace(model.talkers, levelled=True))
    assert torch.equal(levelled.maximised(variances).gain, model.gain)
    assert not torch.equal(levelled.maximised(variances).w, model.w)


def test_the_gradient_is_that_of_the_energy() -> None:
    """Against central differences in double precision, with two chains, smoothness and a prior of two branches."""
    drawn = draw(2, frames=5, bins=17)
    generator = torch.Generator().manual_seed(1)
    wide, narrow = (
        Gaussian(torch.randn(drawn.z.shape, generator=generator).double(), torch.full((), log).double())
        for log in (0.5, -1.0)
    )
    for part in drawn.talkers.log_variance.__closure__ or ():
        for decoder in part.cell_contents if isinstance(part.cell_contents, list) else ():
            decoder.double()
    prior = GaussianMixture(torch.tensor(0.3).double(), wide, narrow)
    model = model_of(replace(drawn, talkers=replace(drawn.talkers, prior=prior)))
    model = replace(
        model, power=model.power.double(), gain=1.7 * model.gain.double(), h=model.h.double(), w=model.w.double()
    )
    z = torch.randn(2, *drawn.z.shape, generator=generator).double()
    found, _ = gradient(model, z, smoothness=0.4)
    direction = torch.randn(z.shape, generator=generator).double()
    step = 1e-6
    ends = [energy(model, z + sign * step * direction, smoothness=0.4).sum() for sign in (1, -1)]
    assert torch.allclose((ends[0] - ends[1]) / (2 * step), (found * direction).sum(), rtol=1e-6)


def posterior_moments(model: MixtureModel, prior: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """Mean and deviation of a z of one dimension, one frame, by quadrature."""
    z = torch.linspace(-8, 8, 4001)
    total = model.gain[0, 0, 0] * model.talkers.log_variance(z[:, None, None, None, None])[:, 0, 0, 0].exp()
    total = total + model.noise()[0, 0]
    log = -(total.log() + model.power[0, 0] / total).sum(-1) + prior(z)
    weight = (log - log.max()).exp()
    mean = (z * weight).sum() / weight.sum()
    return float(mean), float((((z - mean) ** 2 * weight).sum() / weight.sum()).sqrt())


@pytest.mark.parametrize(
    "step",
    [MetropolisHastings(400, 200, 1.0), Langevin(steps=400, chains=1, eta=1e-2, tamed=False)],
    ids=["mh", "langevin"],
)
def test_samples_have_the_moments_of_the_posterior(step: EStep) -> None:
    """Two thousand equal frames with one z each, whose posterior is known by quadrature. The prior counts once."""
    frames, slope = 2000, torch.tensor([1.0, -0.5])
    power = torch.tensor([3.0, 0.2]).expand(1, frames, 2)
    zero = torch.zeros(1, 1, frames, 1)
    talkers = Talkers(lambda z: z * slope, Gaussian(zero + 0.3, zero - 0.5), zero, torch.ones(1, 1, frames))
    model = MixtureModel(power, talkers, talkers.gain, torch.full((1, frames, 1), 0.1), torch.ones(1, 1, 2))
    state, samples = step.draw(model, step.begin(zero, ClipNoise(0, ("a",)), 0), ClipNoise(0, ("a",)), 1)
    mean, deviation = posterior_moments(model, lambda z: -0.5 * (z - 0.3) ** 2 / torch.tensor(-0.5).exp())
    z = samples.z[:, 0, 0, :, 0]
    assert abs(float(z.mean()) - mean) < 0.06
    assert abs(float(z.std()) - deviation) < 0.04
    assert state.shape == (1, *zero.shape)
    kept = {MetropolisHastings: 200, Langevin: 1}[type(step)]  # all draws after burn-in, and a chain's last
    assert len(samples.z) == len(samples.variances) == kept


def test_the_posterior_of_the_sources_is_that_of_a_sum_of_gaussians() -> None:
    """Second moments given x, against the formulas of a Gaussian conditioned on a sum."""
    variances = torch.tensor([0.5, 2.0, 0.3])
    x = torch.tensor(1.7)
    found = SourcePosterior.of(x.square().view(1, 1, 1), variances[:2].view(1, 2, 1, 1), variances[2].view(1, 1, 1))
    gain = variances / variances.sum()
    covariance = variances.diag() - gain[:, None] * variances
    second = (gain * x).square() + covariance.diag()
    assert torch.allclose(torch.cat([found.speech.flatten(), found.noise.flatten()]), second)


def test_no_variational_m_step_raises_the_free_energy() -> None:
    drawn = draw(2, frames=20, bins=33)
    model = model_of(drawn)
    precision = (-drawn.talkers.log_variance(drawn.z + 0.5)).exp()
    posterior = VariationalMCEM._posterior(model, precision)

    def expected(model: MixtureModel) -> Tensor:
        """-E[ln p(s, b)] for the posterior that was."""
        gain, noise = model.gain[..., None], model.noise()
        speech = gain.log().expand_as(precision) + posterior.speech * precision / gain
        return speech.sum() + (noise.log() + posterior.noise / noise).sum()

    before = expected(model)
    for _ in range(5):
        model = VariationalMCEM.maximised(model, posterior, precision)
        after = expected(model)
        assert after <= before + 1e-3
        before = after


def test_gaussians_are_those_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    p, q = (Gaussian(*torch.randn(2, 3, 4, generator=generator)) for _ in range(2))
    first, second = (torch.distributions.Normal(g.mean, (0.5 * g.log_variance).exp()) for g in (p, q))
    expected = torch.distributions.kl_divergence(first, second).sum(-1)
    assert torch.allclose(p.divergence(q), expected, rtol=1e-4)
    z = torch.randn(2, 3, 4, generator=generator)
    logs = [first.log_prob(part).sum(-1) for part in z]
    assert torch.allclose(p.log_prob(z[0]) - p.log_prob(z[1]), logs[0] - logs[1], rtol=1e-4, atol=1e-5)
    both = GaussianMixture(torch.tensor(0.3), p, q)
    expected = torch.log(0.3 * first.log_prob(z).sum(-1).exp() + 0.7 * second.log_prob(z).sum(-1).exp())
    constant = 2 * torch.log(torch.tensor(2 * torch.pi))  # four dimensions
    assert torch.allclose(both.log_prob(z) - constant, expected, rtol=1e-4, atol=1e-4)
