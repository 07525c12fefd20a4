"""Noise whose level differs from bin to bin."""

import torch

from avdiff.audio.representation import STFT
from avdiff.lit.covariance import RandomCovariance, shaped_noise

CPU = torch.device("cpu")


def test_shaped_noise_has_its_deviation_in_every_bin() -> None:
    stft = STFT()
    deviation = torch.ones(256, 101)
    deviation[60:120] = 0.1
    deviation[:, 40:70] *= 3
    noise = shaped_noise(stft, deviation.expand(400, -1, -1), 16_000)
    measured = (stft(noise).abs().square().mean(0) / stft.energy).sqrt()
    for rows, columns in ((slice(5, 50), slice(5, 30)), (slice(70, 110), slice(5, 30)), (slice(5, 50), slice(48, 62))):
        ratio = measured[rows, columns] / deviation[rows, columns]
        assert 0.9 < ratio.mean() < 1.1


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
