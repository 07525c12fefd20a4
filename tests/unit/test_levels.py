"""Levels and spectra of sources from the mixture."""

import pytest
import torch

from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import BoundJointPrior, JointPrior
from avdiff.rng import ClipNoise
from avdiff.samplers.levels import LevelFit
from avdiff.samplers.local_em import LocalEM
from avdiff.samplers.spectra import SpectrumFit
from avdiff.types import NOISE, Observation

SAMPLES = 16_000
HUM = torch.tensor([False, True])  # which of two sources is noise


def spectra() -> torch.Tensor:
    """Variances of two sources, (1, 2, 64, 50): one low and in the first half, one high and throughout."""
    low = torch.linspace(1, 0.01, 64)[:, None].expand(-1, 50).clone()
    low[:, 25:] *= 1e-4
    high = torch.linspace(0.01, 1, 64)[:, None].expand(-1, 50)
    return torch.stack([low, high])[None]


@pytest.mark.parametrize("decibel", [(0.0, 0.0), (6.0, -20.0), (-10.0, 3.0)])
def test_levels_of_sources_with_known_spectra_are_found(decibel: tuple[float, float]) -> None:
    gains = 10 ** (torch.tensor(decibel) / 10)[None, :, None, None]
    total = (gains * spectra()).sum(1, keepdim=True)
    heard = total * torch.empty_like(total).exponential_(generator=torch.Generator().manual_seed(0))
    found = LevelFit(rounds=100, bins=1, frames=1, doubt_db=0.0).first(spectra(), heard)
    assert (10 * found.log10()).flatten().tolist() == pytest.approx(decibel, abs=0.5)


def test_the_next_levels_are_those_of_the_estimates() -> None:
    found = LevelFit(doubt_db=0.0).next(2 * spectra(), 8 * spectra())
    assert torch.allclose(found, torch.tensor(4.0))


def test_doubt_keeps_what_is_small_and_lets_through_what_is_large() -> None:
    fit = LevelFit(doubt_db=5.0, least_db=-35.0)
    for change, believed in ((1.0, 1 / 26), (5.0, 2.5), (-20.0, -20 * 400 / 425), (-90.0, -35.0)):
        power = spectra() * 10 ** (change / 10)
        found = fit.next(spectra(), power)
        assert (10 * found.log10()).flatten().tolist() == pytest.approx([believed] * 2, abs=1e-3)


def test_silence_has_finite_levels() -> None:
    fit = LevelFit(doubt_db=0.0)
    found = fit.first(spectra(), torch.zeros(1, 1, 64, 50))
    assert (10 * found.log10()).flatten().tolist() == pytest.approx([fit.least_db] * 2, abs=1e-3)


def test_a_source_louder_than_expected_is_not_held_down_and_the_fitted_prior_has_its_level() -> None:
    observation = Observation(
        ("a",), torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.4, None, None, (NOISE,)
    )
    kept = {}
    for levels in (None, LevelFit(doubt_db=0.0, most_db=30.0)):
        prior = JointPrior({NOISE: GaussianPrior(0.05)}).bind(observation)
        likelihood = GaussianLikelihood(0.1).bind(observation)
        fit = LocalEM(3, share=0.0, levels=levels).fit(
            prior, likelihood, (1, 1, SAMPLES), like=observation.mixture, rng=ClipNoise(0, ("a",))
        )
        assert isinstance(fit.prior, BoundJointPrior)
        kept[levels is None] = float(fit.prior.gains[0, 0])
        assert prior.gains.item() == 1, "the prior that was given is as it was"
        assert fit.prior.evaluations == prior.evaluations == 3
    assert kept[True] == 1
    assert 0.05 * kept[False] == pytest.approx((0.4**2 - 0.1**2) ** 0.5, rel=0.05)


def test_spectra_of_sources_are_found_band_by_band() -> None:
    """The first source has 6 dB less in its upper half than the prior says, and the second is as expected."""
    gains = torch.ones(1, 2, 64, 1)
    gains[0, 0, 32:] = 10**-0.6
    fades = torch.logspace(0, -2, 200).expand(64, -1)
    flat = torch.stack([fades, fades.flip(1)])[None]
    total = (gains * flat).sum(1, keepdim=True)
    heard = total * torch.empty_like(total).exponential_(generator=torch.Generator().manual_seed(0))
    found = SpectrumFit(rounds=200, band=5, doubt_db=0.0).first(flat, heard) / flat
    for source, (low, high) in enumerate(((0.0, -6.0), (0.0, 0.0))):
        decibel = 10 * found[0, source, :, 0].log10()
        assert [float(part.mean()) for part in (decibel[4:28], decibel[36:60])] == pytest.approx([low, high], abs=0.5)


def test_the_next_spectra_are_those_of_the_estimates_and_the_noise_swells_and_fades() -> None:
    colour = torch.linspace(0.5, 2, 64)[None, None, :, None]
    course = torch.linspace(2, 0.5, 50)[None, None, None]
    fit = SpectrumFit(bins=1, frames=1)
    voice, noise = fit.next(spectra(), spectra() * colour * course, HUM).split(1, 1)
    talker, hum = spectra().split(1, 1)
    torch.testing.assert_close(noise, hum * colour * course, rtol=1e-4, atol=0)
    ratio = voice / (talker * colour)
    torch.testing.assert_close(ratio, ratio[..., :1].expand_as(ratio), rtol=1e-4, atol=0)


def test_without_noise_no_source_swells_and_fades() -> None:
    """Of two voices the last keeps the course that its prior says."""
    course = torch.linspace(2, 0.5, 50)[None, None, None]
    nobody = torch.tensor([False, False])
    found = SpectrumFit(bins=1, frames=1).next(spectra(), spectra() * course, nobody) / spectra()
    torch.testing.assert_close(found, found[..., :1].expand_as(found), rtol=1e-4, atol=0)


def test_what_the_spectra_change_is_bounded_and_silence_stays_finite() -> None:
    fit = SpectrumFit(most_db=10.0)
    for found in (fit.first(spectra(), torch.zeros(1, 1, 64, 50)), fit.next(spectra(), torch.zeros(1, 2, 64, 50), HUM)):
        assert (found > 0).all()
        assert (found[:, 0] / spectra()[:, 0]).min() == pytest.approx(0.1, rel=1e-3)
    with pytest.raises(ValueError, match="band is 4; means have a centre"):
        SpectrumFit(band=4)
