"""NMF: updates that never raise the cost, dictionaries on disk, and who has which."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from avdiff.audio.representation import STFT
from avdiff.em.base import FLOOR, Stopping, cost
from avdiff.em.nmf import NMF
from avdiff.errors import UserError
from avdiff.lit.nmf import DictionaryModel
from avdiff.priors.factorisation import FactorisedPrior, activations, normalised, update_activations, update_patterns
from avdiff.priors.gaussian import GaussianPrior
from avdiff.priors.nmf import AnyVoice, Dictionary, EnrolledVoices, load_dictionary, save_dictionary
from avdiff.rng import ClipNoise
from avdiff.separators.em import EMSeparator
from avdiff.types import Observation


def exponential(*shape: int, seed: int = 0) -> torch.Tensor:
    return -torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).clamp_min(1e-6).log()


def test_no_update_raises_the_cost() -> None:
    power = exponential(2, 40, 33).double() ** 3  # heavy tails, far from the model
    h, w = exponential(2, 40, 5, seed=1).double(), exponential(2, 5, 33, seed=2).double()
    last = cost(power, h @ w + FLOOR)
    for _ in range(100):
        h = update_activations(power, h @ w + FLOOR, h, w)
        between = cost(power, h @ w + FLOOR)
        assert (between <= last + 1e-12).all()
        h, w = normalised(h, update_patterns(power, h @ w + FLOOR, h, w))
        last = cost(power, h @ w + FLOOR)
        assert (last <= between + 1e-12).all()


def test_patterns_are_normalised_without_changing_the_product() -> None:
    h, w = exponential(2, 7, 3), exponential(2, 3, 9, seed=1)
    scaled_h, scaled_w = normalised(h, w)
    assert torch.allclose(scaled_h @ scaled_w, h @ w, rtol=1e-5)
    assert torch.allclose(scaled_w.mean(-1), torch.ones(2, 3))


def test_activations_of_exact_data_are_found() -> None:
    w, true = exponential(3, 60), exponential(20, 3, seed=1) + 0.1
    assert torch.allclose(activations(true @ w, w, 2000, FLOOR), true, rtol=0.01, atol=0.01)


def test_clips_that_stop_are_left_alone() -> None:
    stopping = Stopping(2, 0.1, torch.zeros(()))
    assert stopping.step(torch.tensor([5.0, 5.0]))
    assert stopping.step(torch.tensor([5.0, 4.0]))
    kept = stopping.keep(torch.ones(2, 3), torch.zeros(2, 3))
    assert kept.tolist() == [[0.0] * 3, [1.0] * 3]
    assert not stopping.step(torch.tensor([1.0, 4.0]))
    assert stopping.costs == [[5.0, 5.0], [5.0, 4.0, 4.0]]


def test_a_dictionary_learns_the_patterns_of_its_data() -> None:
    """Noise of two spectra, one at a time: two patterns come as near as their spectra themselves."""
    white = torch.randn(8, 3200, generator=torch.Generator().manual_seed(0))
    smooth = white + 0.8 * white.roll(1, -1)
    audio = torch.where(torch.arange(8)[:, None] % 2 > 0, smooth, white)
    torch.manual_seed(0)
    model = DictionaryModel(Dictionary(2), updates=20)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    before = model.loss(audio).item()
    for _ in range(60):
        optimizer.zero_grad()
        model.loss(audio).backward()
        optimizer.step()
    own = model.dictionary.power(audio / audio.square().mean(-1, keepdim=True).sqrt()).unflatten(0, (4, 2))
    spectra = own.mean((0, 2))
    best = activations(own.flatten(0, 2), spectra, 20, FLOOR)
    reached = model.loss(audio).item()
    assert reached < before - 0.1
    assert reached < cost(own.flatten(0, 2), best @ spectra + FLOOR).item() + 0.02


def test_a_dictionary_comes_back_from_disk(tmp_path: Path) -> None:
    dictionary = Dictionary(5, n_fft=512, hop=160)
    save_dictionary(tmp_path, dictionary)
    again = load_dictionary(str(tmp_path))
    assert torch.allclose(again.patterns, dictionary.patterns, rtol=1e-2)
    assert (again.stft.n_fft, again.stft.hop, again.training) == (512, 160, False)
    assert load_dictionary("nmf").patterns.isfinite().all()


def test_a_missing_or_strange_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.safetensors does not exist; give nmf"):
        load_dictionary(str(tmp_path))
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match="holds weight; a dictionary has"):
        load_dictionary(str(tmp_path))


def test_talkers_are_told_apart_by_dictionaries_of_their_own(tmp_path: Path) -> None:
    """Two talkers whose spectra do not overlap: enrolled, each gets its own sound; unlisted, the clip is refused."""
    talkers = {"clip": ["low", "high"], "swapped": ["high", "low"]}
    (tmp_path / "talkers.json").write_text(json.dumps(talkers))
    for name, rising in (("low", False), ("high", True)):
        dictionary = Dictionary(1)
        slope = torch.linspace(-8, 8, dictionary.bins) * (1 if rising else -1)
        dictionary.log_patterns.data.copy_(slope[None])
        save_dictionary(tmp_path / name, dictionary)
    t = torch.arange(16_000) / 16_000
    low, high = torch.sin(2 * torch.pi * 500 * t), torch.sin(2 * torch.pi * 7000 * t)
    separator = EMSeparator(NMF(EnrolledVoices(tmp_path), rank=1, iterations=20))

    def separate(key: str) -> torch.Tensor:
        seen = Observation((key,), (low + high)[None], None, None, ("offscreen", "offscreen"))
        return separator.separate(seen, rng=ClipNoise(0, seen.key)).sources[0]

    for sources in (separate("clip"), separate("swapped").flip(0), separate("clip@30")):
        assert (sources[0] - low).square().mean() < 0.01 * low.square().mean()
        assert (sources[1] - high).square().mean() < 0.01 * high.square().mean()
    both = Observation(("clip",), (low + high)[None], None, None, ("offscreen", "offscreen"))
    alone = Observation(("clip",), high[None], None, None, ("offscreen", "noise"))
    voices = EnrolledVoices(tmp_path)
    assert torch.equal(voices.restricted([1]).patterns(alone, 1)[:, 0], voices.patterns(both, 2)[:, 1])
    with pytest.raises(UserError, match=r"lists 2 voice\(s\) for clip 'clip', which has 1 talker"):
        separator.separate(alone, rng=ClipNoise(0, alone.key))
    with pytest.raises(UserError, match=r"lists 0 voice\(s\) for clip 'other', which has 2 talker"):
        separate("other")


def test_an_enrolment_without_its_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"talkers\.json does not exist; it says who speaks"):
        EnrolledVoices(tmp_path)
    (tmp_path / "talkers.json").write_text("{}")
    with pytest.raises(UserError, match="names no voice"):
        EnrolledVoices(tmp_path)


def test_one_dictionary_serves_every_talker() -> None:
    dictionary = Dictionary(3)
    seen = Observation(("a", "b"), torch.zeros(2, 640), None, None, ("offscreen", "offscreen", "noise"))
    patterns = AnyVoice(dictionary).patterns(seen, 2)
    assert patterns.shape == (2, 2, 3, dictionary.bins)
    assert torch.equal(patterns[1, 1], dictionary.patterns)


def test_a_factorised_prior_filters_nearly_as_the_true_spectrogram_would() -> None:
    generator = torch.Generator().manual_seed(0)
    stft, samples = STFT(), 64_000
    frames = samples // stft.hop + 1
    h = torch.rand(2, frames, 3, generator=generator) ** 4
    w = torch.rand(3, stft.bins, generator=generator) ** 12
    true = (h @ w).mT / (h @ w).mean()
    clean, noise = torch.randn(2, 2, samples, generator=generator)
    clean = 0.05 * stft.inverse(stft(clean) * true.sqrt(), samples)
    sigma = torch.full_like(true, 0.05)
    oracle = stft.inverse(true / (true + 1) * stft(clean + 0.05 * noise), samples)

    def sdr(found: torch.Tensor) -> torch.Tensor:
        return 10 * (clean.square().sum(-1) / (found - clean).square().sum(-1)).log10()

    prior = FactorisedPrior(rank=3, iterations=100)
    mean, variance = prior.estimate(clean + 0.05 * noise, sigma)
    assert (sdr(mean) > sdr(oracle) - 1).all()
    assert (sdr(mean) > sdr(GaussianPrior(0.05).estimate(clean + 0.05 * noise, sigma)[0]) + 1).all()
    error = stft(mean - clean).abs().square().mean((1, 2)) / stft.energy
    assert torch.allclose(error, variance.mean((1, 2)), rtol=0.15)
    assert torch.equal(prior.denoise(clean + 0.05 * noise, torch.full((2,), 0.05)), mean)
    alone = prior.estimate((clean + 0.05 * noise)[1:], sigma[1:])[0]
    torch.testing.assert_close(alone, mean[1:], rtol=0, atol=1e-4)
