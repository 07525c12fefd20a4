"""EM in the local Gaussian model against Gaussian posteriors."""

import pytest
import torch

from avdiff.errors import UserError
from avdiff.likelihood.mixing import GaussianLikelihood
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.joint import JointPrior
from avdiff.priors.presets import paper_noise
from avdiff.rng import ClipNoise
from avdiff.samplers.local_em import LocalEM
from avdiff.samplers.spectra import SpectrumFit
from avdiff.types import NOISE, OFFSCREEN, Observation

SAMPLES = 16_000
TALKER, HISS, STD = 0.05, 0.1, 0.02


def run(sampler: LocalEM, mixture: torch.Tensor) -> torch.Tensor:
    joint = JointPrior({OFFSCREEN: GaussianPrior(TALKER), NOISE: GaussianPrior(HISS)})
    observation = Observation(("a",), mixture, None, None, (OFFSCREEN, NOISE))
    likelihood = GaussianLikelihood(STD).bind(observation)
    return sampler.sample(
        joint.bind(observation), likelihood, (1, 2, mixture.shape[1]), like=mixture, rng=ClipNoise(0, ("a",))
    )


@pytest.mark.parametrize("sampler", [LocalEM(1, share=0.0), LocalEM(4, anchor=1.0, share=0.0)])
def test_white_gaussian_sources_get_their_posterior_mean(sampler: LocalEM) -> None:
    mixture = torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.1
    x = run(sampler, mixture)
    total = TALKER**2 + HISS**2 + STD**2
    for source, std in enumerate((TALKER, HISS)):
        assert torch.allclose(x[:, source], mixture * std**2 / total, atol=1e-5)


def test_what_is_heard_changes_the_others_variances_unless_they_are_anchored() -> None:
    """A mixture louder than the priors expect: each source then hears louder others, and takes less for itself."""
    mixture = torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.4
    free, anchored = (run(LocalEM(6, anchor=anchor, share=0.0), mixture) for anchor in (0.0, 1.0))
    assert (free[:, 0].std() / anchored[:, 0].std()).item() < 0.9


def test_the_noise_may_have_an_anchor_of_its_own() -> None:
    """With the noise held at what its prior says, the talker of a loud mixture hears no more of it than expected."""
    mixture = torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.4
    x = run(LocalEM(4, anchor=0.0, noise_anchor=1.0, share=0.0), mixture)
    assert torch.allclose(x[:, 0], mixture * TALKER**2 / (TALKER**2 + HISS**2 + STD**2), atol=1e-4)


def test_coloured_noise_is_found_and_taken_from_the_talker() -> None:
    """Noise of a low octave, that neither prior knows, beside a white talker: the talker's estimate lets less of it pass."""
    generator = torch.Generator().manual_seed(0)
    spectrum = torch.fft.rfft(torch.randn(1, SAMPLES, generator=generator))
    spectrum[:, 1000:] *= 0.1
    noise = torch.fft.irfft(spectrum, SAMPLES) * 0.3
    talker = torch.randn(1, SAMPLES, generator=generator) * TALKER
    plain, fitted = (
        run(LocalEM(4, anchor=1.0, spectra=spectra), talker + noise)[:, 0] - talker for spectra in (None, SpectrumFit())
    )
    assert fitted.square().mean() < 0.8 * plain.square().mean()


def test_what_is_left_is_shared_out() -> None:
    mixture = torch.randn(1, SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.4
    kept = (mixture - run(LocalEM(3, share=0.0), mixture).sum(1)).square().mean()
    shared = (mixture - run(LocalEM(3, share=1.0), mixture).sum(1)).square().mean()
    assert shared < 0.2 * kept


def test_a_click_in_silence_is_no_divergence() -> None:
    """All of a mixture's power may be in one sample, as when somebody knocks against the microphone."""
    mixture = torch.zeros(1, 30 * SAMPLES)
    mixture[0, SAMPLES] = TALKER * mixture.shape[1] ** 0.5
    x = run(LocalEM(1), mixture)
    assert x[0, 1].abs().max() > 0.7 * mixture.max()


def test_a_prior_that_takes_white_noise_only_is_refused() -> None:
    joint = JointPrior({NOISE: paper_noise()})
    observation = Observation(("a",), torch.zeros(1, SAMPLES), None, None, (NOISE,))
    with pytest.raises(UserError, match="take the shipped priors"):
        joint.bind(observation).estimate(torch.zeros(1, 1, SAMPLES), torch.ones(1, 1, 256, 101))


def test_settings_out_of_range_are_named() -> None:
    with pytest.raises(ValueError, match="anchor is 2"):
        LocalEM(anchor=2)
    with pytest.raises(ValueError, match="noise_anchor is -1"):
        LocalEM(noise_anchor=-1)
    with pytest.raises(ValueError, match="odd"):
        LocalEM(bins=4)
    with pytest.raises(ValueError, match="at least one"):
        LocalEM(0)
