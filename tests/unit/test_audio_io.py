"""Audio files, and the two bands of a recording."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avdiff.audio.consistency import make_consistent
from avdiff.audio.io import Sound, WavFile, join_band, reach, read_audio, resample, write_wav
from avdiff.audio.rumble import without_rumble
from avdiff.errors import UserError
from avdiff.video.decode import SoundTrack
from tests.media import write_media


def tone(frequency: float, rate: int, seconds: float = 0.5) -> torch.Tensor:
    return torch.sin(2 * math.pi * frequency * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [50, 8_000, 11_025, 16_000, 44_100, 48_000, 47_999])
def test_resampling_in_parts_is_resampling_of_the_whole(rate: int) -> None:
    """What a part at whole seconds needs of its neighbours is `reach` seconds, to 16 kHz and back."""
    x = torch.randn(9 * rate + 7, generator=torch.Generator().manual_seed(rate))
    whole, side = resample(x, rate, 16_000), reach(rate)
    first, last = 4 - side, 5 + side
    part = resample(x[first * rate : last * rate], rate, 16_000)[16_000 * side : 16_000 * (side + 1)]
    assert torch.allclose(part, whole[4 * 16_000 : 5 * 16_000], atol=2e-5)
    back = join_band(whole, rate, len(x))
    part = join_band(whole[first * 16_000 : last * 16_000], rate, (last - first) * rate)
    assert torch.allclose(part[rate * side : rate * (side + 1)], back[4 * rate : 5 * rate], atol=2e-5)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_joined_samples_are_as_many_as_asked_for(rate: int) -> None:
    assert join_band(torch.zeros(2, 16_000), rate, 3_000).shape == (2, 3_000)


def test_a_constant_and_its_drift_are_taken_and_a_voice_is_left() -> None:
    time = torch.arange(32_000) / 16_000
    for rumble in (torch.full_like(time, 1e3), 0.1 * time, 0.1 * (time > 1.0)):
        left = without_rumble(rumble)
        inner = left[1_600:-1_600][(time[1_600:-1_600] - 1.0).abs() > 0.06]
        assert inner.abs().max() < 1e-3
    assert torch.equal(without_rumble(torch.zeros(100)), torch.zeros(100))
    voice = tone(80, 16_000, 2.0)
    assert torch.allclose(without_rumble(voice)[1_600:-1_600], voice[1_600:-1_600], atol=0.01)


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


def test_equal_samples_are_equal_files_whenever_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).normal(0, 1, 1_001).astype(np.float32)
    write_wav(tmp_path / "a.wav", x, 16_000)
    monkeypatch.setattr("time.time", lambda: 1e9)
    with WavFile(tmp_path / "b.wav", 16_000) as file:
        file.write(x[:400])
        file.write(x[400:])
    content = (tmp_path / "a.wav").read_bytes()
    assert content == (tmp_path / "b.wav").read_bytes()
    assert b"PEAK" not in content
    info = soundfile.info(tmp_path / "a.wav")
    assert (info.format, info.subtype, info.frames, info.channels) == ("WAV", "FLOAT", 1_001, 1)
    assert not _log(tmp_path / "a.wav").count("should be")


def _log(path: Path) -> str:
    with soundfile.SoundFile(path) as file:
        return str(file.extra_info)


def test_a_wav_that_outgrows_its_header_is_rf64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WavFile, "LARGEST", 4_000)
    x = np.arange(1_200, dtype=np.float32)
    write_wav(tmp_path / "long.wav", x, 16_000)
    assert (tmp_path / "long.wav").read_bytes()[:4] == b"RF64"
    assert soundfile.info(tmp_path / "long.wav").format == "RF64"
    assert np.array_equal(read_audio(tmp_path / "long.wav")[0][0], x)
    assert np.array_equal(np.concatenate(list(SoundTrack(tmp_path / "long.wav")), axis=1)[0], x)
    assert not _log(tmp_path / "long.wav").count("should be")


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "RF64", "FLAC"])
def test_a_file_that_is_cut_short_is_told_of(form: str, tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000)
    path = tmp_path / "whole"
    soundfile.write(path, x, 16_000, format=form)
    sound = Sound(path)
    assert sum(block.shape[1] for block in sound) == 32_000
    assert not sound.notes
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    sound = Sound(path)
    assert sum(block.shape[1] for block in sound) == pytest.approx(16_000, abs=4_500)
    assert any("cut short" in note or "damaged" in note for note in sound.notes)


@pytest.mark.parametrize("size", [0, 2**31 - 4_096, 2**32 - 1])
def test_a_wav_whose_writer_did_not_know_its_size_is_read_to_its_end(size: int, tmp_path: Path) -> None:
    path = tmp_path / "piped.wav"
    x = np.random.default_rng(0).uniform(-0.5, 0.5, 32_000)
    soundfile.write(path, x, 16_000, subtype="PCM_16")
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = content[4:8] = size.to_bytes(4, "little")
    path.write_bytes(content)
    sound = Sound(path)
    (samples,) = np.concatenate(list(sound), axis=1)
    assert samples == pytest.approx(x, abs=1e-4)
    assert not sound.notes


def test_a_format_that_cannot_be_sought_is_read(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "phone.wav", np.zeros(1_600), 8_000, subtype="GSM610")
    samples, rate = read_audio(tmp_path / "phone.wav")
    assert samples.shape[1] == pytest.approx(1_600, abs=320)  # whole blocks
    assert rate == 8_000


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
