"""Metrics agree with published figures, and have a reason wherever they have no value."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import soundfile
import torch

from avdiff.audio.io import read_audio, resample
from avdiff.errors import UserError
from avdiff.metrics.base import Undefined
from avdiff.metrics.estoi import estoi
from avdiff.metrics.evaluate import METRICS, Score, score
from avdiff.metrics.pesq import pesq
from avdiff.metrics.si_sdr import si_sdr
from avdiff.metrics.wer import SLOTS, GridRecogniser, without_letter, word_error_rate

RATE = 16_000


def noise(samples: int = RATE, seed: int = 0) -> torch.Tensor:
    return torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def pair(real_data: Path) -> tuple[torch.Tensor, torch.Tensor]:
    clean, babble = (
        soundfile.read(real_data / "metrics" / "pesq_pair" / name)[0] for name in ("speech.wav", "speech_bab_0dB.wav")
    )
    return torch.from_numpy(babble), torch.from_numpy(clean)


def test_published_figures(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Those of the PESQ package's documentation, and of pystoi for the same pair."""
    assert pesq(*pair, RATE) == pytest.approx(1.0832337141036987, abs=1e-6)
    assert estoi(*pair, RATE) == pytest.approx(0.3904490, abs=1e-6)


def test_si_sdr_by_hand() -> None:
    """Orthogonal distortion of a tenth of the power is 10 dB, at any scale of the estimate."""
    clean = torch.tensor([1.0, 1.0, 1.0, 1.0])
    distortion = torch.tensor([1.0, -1.0, 1.0, -1.0]) / math.sqrt(10)
    for gain in (1.0, -3.0, 0.01):
        assert si_sdr(gain * (clean + distortion), clean) == pytest.approx(10.0, abs=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_silence_and_nonsense_have_a_reason(metric: str) -> None:
    measure, clip, silent = METRICS[metric].measure, noise(), torch.zeros(RATE)
    for estimate, reference, reason in [
        (silent, clip, "the estimate is silent"),
        (clip, silent, "the reference is silent"),
        (1e-12 * clip, clip, "the estimate is silent"),
        (torch.full((RATE,), torch.nan), clip, "the estimate is not finite"),
    ]:
        with pytest.raises(Undefined, match=reason):
            measure(estimate, reference, RATE)
    with pytest.raises(ValueError, match=r"\(10,\).*one clip at a time"):
        measure(clip[:10], clip, RATE)


@pytest.mark.parametrize("samples", [10, 600, 3000])
@pytest.mark.parametrize("measure", [estoi, pesq])
def test_short_clips_have_a_reason(measure, samples: int) -> None:
    with pytest.raises(Undefined):
        measure(noise(samples), noise(samples), RATE)


def test_wide_band_only() -> None:
    with pytest.raises(ValueError, match="resample from 8000 Hz"):
        pesq(noise(), noise(), 8000)


def test_score_of_a_mixture() -> None:
    reference = torch.stack([noise(seed=1), noise(seed=2), noise(seed=3)])
    mixture = reference.sum(0)
    estimate = reference + 0.1 * mixture
    rows = score(estimate, reference, mixture, ("speaker", "offscreen", "noise"), RATE)
    assert [(row.source, row.metric) for row in rows] == [
        *(("speaker1", metric) for metric in ("si_sdr", "estoi", "pesq")),
        *(("offscreen", metric) for metric in ("si_sdr", "estoi", "pesq")),
        ("noise", "si_sdr"),
    ]
    assert rows[0] == Score("speaker1", "si_sdr", si_sdr(mixture, reference[0]), si_sdr(estimate[0], reference[0]))
    assert all(row.estimate > row.mixture for row in rows)


def test_score_keeps_what_has_no_value() -> None:
    reference = torch.stack([noise(seed=1), noise(seed=2)])
    estimate = torch.stack([torch.zeros(RATE), reference[1]])
    first, second = score(estimate, reference, reference.sum(0), ("speaker", "noise"), RATE, metrics=("si_sdr",))
    assert math.isnan(first.estimate)
    assert first.reason == "the estimate is silent"
    assert first.mixture == pytest.approx(0, abs=0.5)
    assert second.estimate > 100
    assert second.reason == ""


def test_score_refuses() -> None:
    clip = noise()
    with pytest.raises(UserError, match="no metric 'sdr'; the metrics are si_sdr"):
        score(clip[None], clip[None], clip, ("speaker",), RATE, metrics=("sdr",))
    with pytest.raises(ValueError, match="do not go together"):
        score(clip[None, 1:], clip[None], clip, ("speaker",), RATE)


def test_word_errors_are_of_the_corpus() -> None:
    """One error in a sentence of one word and none in one of three: a quarter, not a half."""
    assert word_error_rate(["now", "bin blue at"], ["soon", "bin blue at"]) == 0.25
    assert word_error_rate(["set red by k nine now"], [""]) == 1
    assert without_letter("set red by k nine now") == "set red by nine now"
    with pytest.raises(ValueError, match="0 transcripts were given for 1 references"):
        word_error_rate(["now"], [])


def test_recogniser_keeps_to_the_grammar_and_forgets() -> None:
    recogniser, clip = GridRecogniser(), noise(2 * RATE)
    assert recogniser.transcribe(torch.zeros(RATE)) == ""
    first = recogniser.transcribe(clip)
    assert first == "" or all(word in slot.split() for word, slot in zip(first.split(), SLOTS, strict=True))
    recogniser.transcribe(noise(RATE, seed=1).cumsum(0))
    assert recogniser.transcribe(0.01 * clip) == first
    with pytest.raises(ValueError, match="44100 Hz"):
        recogniser.transcribe(clip, 44_100)


def test_recogniser_hears_real_sentences(real_data: Path) -> None:
    said = {
        "bbaf2n": "bin blue at f two now",
        "bbaf3s": "bin blue at f three soon",
        "lwal4p": "lay white at l four please",
    }
    recogniser, heard = GridRecogniser(), []
    for name in said:
        samples, rate = read_audio(real_data / "grid" / "s1" / f"{name}.mp4")
        heard.append(recogniser.transcribe(resample(torch.from_numpy(samples[0]), rate, RATE)))
    assert word_error_rate(*([without_letter(s) for s in both] for both in (list(said.values()), heard))) <= 0.2
