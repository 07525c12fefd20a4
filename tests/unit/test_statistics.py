"""Clips in numbers."""

import math

import pytest
import torch

from avdiff.audio.statistics import BANDS, describe, envelope_correlation, summary

RATE = 16_000
TIME = torch.arange(RATE) / RATE


def harmonics(pitch: float) -> torch.Tensor:
    return 0.05 * sum((2 * math.pi * k * pitch * TIME).sin() / k for k in range(1, 20))


def test_level_pitch_and_voicing_of_a_harmonic_tone() -> None:
    tone = harmonics(150.0)
    found = describe(torch.cat([tone, 1e-3 * torch.randn(RATE, generator=torch.Generator().manual_seed(0))]), RATE)
    assert found.level == pytest.approx(20 * math.log10(tone.square().mean().sqrt().item() / math.sqrt(2)), abs=0.01)
    assert abs(found.pitch - 150).mean() < 3
    assert found.voiced == pytest.approx(0.5, abs=0.1)


def test_bands_hold_the_share_of_their_octave() -> None:
    tone = (2 * math.pi * 300 * TIME).sin() + 0.1 * (2 * math.pi * 3000 * TIME).sin()
    shares = dict(zip(BANDS, describe(tone, RATE, pitch=False).bands, strict=False))
    assert shares[250] == pytest.approx(0, abs=0.1)
    assert shares[2000] == pytest.approx(-20, abs=0.3)
    assert max(shares[0], shares[1000], shares[4000]) < -25


def test_loudness_of_the_same_words_correlates_and_that_of_others_does_not() -> None:
    slow, fast = (1 + (2 * math.pi * rate * TIME).sin() for rate in (2, 5))
    noise = torch.randn(3, RATE, generator=torch.Generator().manual_seed(0))
    a, b = slow * noise[0], slow * noise[1]
    assert envelope_correlation(a, b) > 0.9
    assert abs(envelope_correlation(a, fast * noise[2])) < 0.5
    figures = summary([describe(x, RATE, pitch=False) for x in (a, b)], torch.stack([a, b]), torch.stack([b, a]))
    assert figures["loudness follows its lips, correlation"] > 0.9
