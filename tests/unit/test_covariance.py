"""Noise whose level differs from bin to bin."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from avdiff.audio.representation import STFT
from avdiff.errors import UserError
from avdiff.lit.covariance import SMOOTHERS, RandomCovariance, buzzing, smoothed

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Known(RandomCovariance):
    """The same covariance for every clip."""

    def sample(self, count: int, bins: int, frames: int, *_: object) -> tuple[Tensor, Tensor]:
        deviation = torch.ones(bins, frames)
        deviation[60:120] = 0.1
        deviation[:, 40:70] *= 3
        return deviation.expand(count, -1, -1), deviation.expand(count, -1, -1)


@pytest.mark.parametrize("buzz", [0.0, 1.0])
def test_noise_has_its_deviation_in_every_bin(buzz: float) -> None:
    torch.manual_seed(0)
    stft = STFT()
    noise, deviation = Known(buzz=buzz).draw(stft, torch.zeros(400, 16_000))
    measured = (stft(noise).abs().square().mean(0) / stft.energy).sqrt()
    for rows, columns in ((slice(5, 50), slice(5, 30)), (slice(70, 110), slice(5, 30)), (slice(5, 50), slice(48, 62))):
        ratio = measured[rows, columns] / deviation[0, rows, columns]
        assert 0.9 < ratio.mean() < 1.1


def test_a_buzz_is_harmonic_and_as_dense_as_white_noise() -> None:
    torch.manual_seed(0)
    buzz = buzzing(64, 32_000, CPU)
    assert buzz.square().mean() == pytest.approx(1, abs=0.05)
    power = STFT()(buzz).abs().square()[:, 5:200]
    flatness = power.log().mean().exp() / power.mean()
    assert flatness < 0.75 * math.exp(-0.5772)  # of a periodogram of white noise: e^-0.58


def test_only_shaped_clips_buzz_and_all_are_finite() -> None:
    torch.manual_seed(0)
    stft, clips = STFT(), torch.randn(8, 16_000)
    clips[3] = 0
    noise, told = RandomCovariance(white=1.0, voices=1.0, buzz=1.0).draw(stft, clips)
    assert (told == 1).all()
    assert noise.square().mean() == pytest.approx(1, abs=0.05)
    power = stft(noise).abs().square()[:, 5:200]
    assert power.log().mean().exp() / power.mean() == pytest.approx(math.exp(-0.5772), abs=0.02)
    noise, told = RandomCovariance(white=0.0, voices=1.0, buzz=1.0).draw(stft, clips)
    assert noise.isfinite().all()
    assert told.isfinite().all()


def test_white_and_exact_clips_are_told_as_they_are() -> None:
    torch.manual_seed(0)
    deviation, told = RandomCovariance(white=1.0).sample(8, 256, 101, CPU)
    assert (deviation == 1).all()
    assert (told == 1).all()
    deviation, told = RandomCovariance(white=0.0, exact=1.0).sample(8, 256, 101, CPU)
    assert torch.equal(deviation, told)
    assert deviation.std((1, 2)).min() > 0.05


def test_the_others_are_told_wrong() -> None:
    torch.manual_seed(0)
    deviation, told = RandomCovariance(white=0.0, exact=0.0).sample(64, 256, 101, CPU)
    error = 20 * (told / deviation).log10()
    assert error.abs().mean() > 3
    assert error.mean().abs() < 6


def test_no_bin_is_silent() -> None:
    torch.manual_seed(0)
    deviation, _ = RandomCovariance(white=0.0, floor_db=-30.0).sample(64, 256, 101, CPU)
    assert 20 * deviation.min().log10() >= -30.001


def test_noise_of_voices_is_as_loud_as_the_next_clip_in_every_bin() -> None:
    torch.manual_seed(0)
    clips = torch.full((8, 256, 101), 1e-3)
    for clip in range(8):
        clips[clip, 30 * clip : 30 * clip + 20, 20:80] = 1.0
    covariance = RandomCovariance(white=0.0, exact=1.0, voices=1.0)
    deviation, told = covariance.sample(8, 256, 101, CPU, 40 * clips)
    assert torch.equal(deviation, told)
    assert torch.allclose(deviation.square().mean((1, 2)), torch.ones(8), atol=0.01)
    inside = torch.stack([deviation[i, 30 * ((i - 1) % 8) + 5 : 30 * ((i - 1) % 8) + 15, 30:70] for i in range(8)])
    own = torch.stack([deviation[i, 30 * i + 5 : 30 * i + 15, 30:70] for i in range(8)])
    assert (inside.mean((1, 2)) > 2 * own.mean((1, 2))).all()


def test_voices_need_a_batch_and_no_silence_breaks_them() -> None:
    torch.manual_seed(0)
    covariance = RandomCovariance(white=0.0, voices=1.0)
    for clips in (torch.zeros(4, 256, 101), torch.ones(1, 256, 101)):
        deviation, told = covariance.sample(len(clips), 256, 101, CPU, clips)
        assert deviation.isfinite().all()
        assert told.isfinite().all()
    assert deviation.std() > 0.05  # a clip alone has no neighbour, and gets a covariance of chance


def test_an_estimate_of_the_others_holds_some_of_the_talker() -> None:
    """By how much more than the noise is told where the talker is far louder; where the noise is, it is told about right."""
    torch.manual_seed(0)
    stft, count = STFT(), 32
    noise, told = Known().draw(stft, torch.zeros(count, 16_000))
    band = torch.zeros(256, 1)
    band[60:120] = 10.0
    clean = stft.inverse(stft(torch.randn(count, 16_000)) * band, 16_000)
    covariance = RandomCovariance(white=0.0, estimated=1.0)
    error = 20 * (covariance.estimate(stft, clean, noise, told) / told).log10()
    assert error[:, 70:110].mean() > 10
    assert error[:, 140:220].mean().abs() < 3
    assert torch.equal(RandomCovariance(estimated=0.0).estimate(stft, clean, noise, told), told)


def test_white_noise_is_told_as_it_is() -> None:
    torch.manual_seed(0)
    noise, clean, told = torch.randn(4, 16_000), torch.randn(4, 16_000), torch.ones(4, 256, 101)
    assert torch.equal(RandomCovariance(estimated=1.0).estimate(STFT(), clean, noise, told), told)


def test_smoothers_are_drawn_as_often_as_their_weights_say() -> None:
    torch.manual_seed(0)
    power = torch.rand(2000, 4, 6) + 0.5
    found = smoothed(power, {"none": 0.5, "time": 0.2, "all": 0.3})
    for name, weight in (("none", 0.5), ("time", 0.2), ("all", 0.3)):
        is_this = torch.isclose(found, SMOOTHERS[name](power)).all(2).all(1)
        assert is_this.float().mean().item() == pytest.approx(weight, abs=0.04)


def test_weights_of_smoothers_are_those_of_known_ones_and_sum_to_one() -> None:
    with pytest.raises(UserError, match=r"start_smoothers.*25x15"):
        RandomCovariance(start_smoothers={"7x7": 1.0})
    with pytest.raises(UserError, match="voice_smoothers sum to"):
        RandomCovariance(voice_smoothers={"none": 0.5, "3x3": 0.4})


def test_an_estimate_without_smoothing_is_the_power_itself_but_for_its_errors() -> None:
    """By the weights given: what is told of a covariance is a mean over time, or keeps its course."""
    torch.manual_seed(0)
    for name, flat in (("time", True), ("none", False)):
        law = RandomCovariance(white=0.0, exact=0.0, guess_smoothers={name: 1.0})
        power = torch.logspace(-2, 2, 101).expand(16, 256, 101)
        told = law._guess(power).log10().mean((0, 1))
        assert ((told[-1] - told[0]).abs() < 1.0).item() is flat
