"""Audio files, and the two bands of a recording."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avdiff.audio.consistency import make_consistent
from avdiff.audio.io import join_band, read_audio, resample, split_band, write_wav
from avdiff.errors import UserError
from tests.media import write_media


def tone(frequency: float, rate: int, seconds: float = 0.5) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 44_100, 48_000, 47_999])
def test_separated_bands_add_up_to_the_recording(rate: int) -> None:
    generator = torch.Generator().manual_seed(rate)
    x = torch.randn(rate + 137, generator=generator)
    heard, rest = split_band(x, rate)
    parts = torch.randn(2, len(heard), generator=generator)
    sources = torch.cat([parts, (heard - parts.sum(0))[None]])
    assert torch.allclose(join_band(sources, rate, len(x)).sum(0) + rest, x, atol=2e-5)


def test_above_8_khz_is_the_rest_and_below_is_heard() -> None:
    low, high = tone(1_000, 44_100), tone(12_000, 44_100)
    heard, rest = split_band(low + high, 44_100)
    inner = slice(4_410, -4_410)
    assert (rest - high)[inner].abs().max() < 3e-3
    assert (heard - tone(1_000, 16_000))[1_600:-1_600].abs().max() < 3e-3


def test_resampling_keeps_time_and_level_at_an_odd_rate() -> None:
    out = resample(tone(440, 47_999), 47_999, 16_000)
    assert (out[:8_000] - tone(440, 16_000))[1_600:-1_600].abs().max() < 1e-2


def test_joining_refuses_to_invent_samples() -> None:
    with pytest.raises(ValueError, match="do not fill"):
        join_band(torch.zeros(160), 44_100, 1_000)


def test_wav_keeps_what_lies_beyond_full_scale(tmp_path: Path) -> None:
    x = np.array([0.0, 1.5, -2.0, 1e-6], np.float32)
    write_wav(tmp_path / "x.wav", x, 22_050)
    back, rate = read_audio(tmp_path / "x.wav")
    assert rate == 22_050
    assert np.array_equal(back, x[None])


def test_any_container_with_sound_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "stereo.flac", np.full((800, 2), 0.25), 8_000)
    samples, rate = read_audio(tmp_path / "stereo.flac")
    assert (samples.shape, rate) == ((2, 800), 8_000)
    write_media(tmp_path / "film.mkv", audio=np.full((2, 1_600), 0.25))
    samples, rate = read_audio(tmp_path / "film.mkv")
    assert (samples.shape, rate) == ((2, 1_600), 16_000)
    assert samples == pytest.approx(0.25, abs=1e-4)
    with pytest.raises(UserError, match="There is no file"):
        read_audio(tmp_path / "absent.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8_000)
    with pytest.raises(UserError, match="no samples"):
        read_audio(tmp_path / "empty.wav")


def test_consistent_sources_add_up_and_the_silent_stay_silent() -> None:
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(2, 3, 4_000, generator=generator)
    sources[:, 0, 1_000:3_000] = 0.0
    mixture = torch.randn(2, 4_000, generator=generator)
    shared = make_consistent(sources, mixture)
    assert torch.allclose(shared.sum(1), mixture, atol=1e-5)
    assert shared[:, 0, 1_300:2_700].abs().max() == 0.0


def test_consistency_leaves_what_adds_up_and_gives_the_noise_what_nobody_explains() -> None:
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(3, 1_000, generator=generator)
    assert torch.allclose(make_consistent(sources, sources.sum(0)), sources, atol=1e-5)
    mixture = torch.randn(1_000, generator=generator)
    shared = make_consistent(torch.zeros(3, 1_000), mixture)
    assert torch.equal(shared[2], mixture)
    assert shared[:2].abs().max() == 0.0
