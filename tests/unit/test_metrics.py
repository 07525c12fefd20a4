"""Metrics agree with published figures, and have a reason wherever they have no value."""

from __future__ import annotations

import csv
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchmetrics.functional.audio.dnsmos as dnsmos

from avdiff.audio.io import read_audio, resample
from avdiff.errors import UserError
from avdiff.metrics.base import Undefined
from avdiff.metrics.bss import interference_and_artifacts
from avdiff.metrics.estoi import estoi
from avdiff.metrics.evaluate import METRICS, NISQA_METRICS, OfPairs, choose_metrics, score
from avdiff.metrics.nisqa import Nisqa
from avdiff.metrics.pesq import pesq, pesq_narrow
from avdiff.metrics.si_sdr import si_sdr
from avdiff.metrics.table import Score
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
    assert pesq_narrow(*pair, RATE) == pytest.approx(1.6072081327438354, abs=1e-6)
    assert estoi(*pair, RATE) == pytest.approx(0.3904490, abs=1e-6)


def test_si_sdr_by_hand() -> None:
    """Orthogonal distortion of a tenth of the power is 10 dB, at any scale of the estimate."""
    clean = torch.tensor([1.0, 1.0, 1.0, 1.0])
    distortion = torch.tensor([1.0, -1.0, 1.0, -1.0]) / math.sqrt(10)
    for gain in (1.0, -3.0, 0.01):
        assert si_sdr(gain * (clean + distortion), clean) == pytest.approx(10.0, abs=1e-4)


@pytest.mark.parametrize("metric", METRICS)
def test_silence_and_nonsense_have_a_reason(metric: str) -> None:
    clip, silent = noise(), torch.zeros(RATE)
    other = noise(seed=1)
    for estimate, reference, reason in [
        (silent, clip, "the estimate is silent"),
        (clip, silent, "reference.* is silent"),
        (1e-12 * clip, clip, "the estimate is silent"),
        (torch.full((RATE,), torch.nan), clip, "the estimate is not finite"),
    ]:
        found = METRICS[metric].values(torch.stack([estimate, other]), torch.stack([reference, other]), [0], RATE)
        assert isinstance(found[0], Undefined)
        assert re.search(reason, str(found[0]))


@pytest.mark.parametrize("metric", METRICS.values())
def test_a_metric_takes_one_clip_at_a_time(metric) -> None:
    if isinstance(metric, OfPairs):
        with pytest.raises(ValueError, match=r"\(10,\).*one clip at a time"):
            metric.measure(noise(10), noise(), RATE)


def test_interference_and_artifacts_are_those_of_mir_eval() -> None:
    """Values of mir_eval 0.8.2 for the same signals, which its 512-tap projections decompose alike."""
    separation = pytest.importorskip("mir_eval.separation")
    references = torch.stack([noise(6000, seed) for seed in range(3)]).double()
    estimates = references + 0.3 * references.roll(1, 0) + 0.2 * noise(18000, 9).view(3, -1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # mir_eval announces a new home
        _, sir, sar, _ = separation.bss_eval_sources(references.numpy(), estimates.numpy(), compute_permutation=False)
    found = interference_and_artifacts(estimates, references, [2, 0])
    assert found == [pytest.approx((sir[k], sar[k]), abs=0.01) for k in (2, 0)]


def test_interference_needs_another_source() -> None:
    clip = noise(4000)[None]
    rows = score(clip + 0.1, clip, clip[0], ("speaker",), RATE, metrics=("sir", "sar"))
    assert math.isnan(rows[0].estimate)
    assert rows[0].reason
    assert rows[1].estimate > 15


def test_nisqa_gives_its_published_scores(real_data: Path) -> None:
    network = Nisqa(real_data / "nisqa" / "nisqa.tar")
    with (real_data / "nisqa" / "expected.csv").open() as file:
        published = list(csv.DictReader(file))
    assert len(published) == 10
    for row in published:
        samples, rate = soundfile.read(real_data / "nisqa" / "wavs" / row["deg"])
        told = [float(row[f"{name}_pred"]) for name in ("mos", "noi", "dis", "col", "loud")]
        assert list(network.dimensions(torch.from_numpy(samples), rate).values()) == pytest.approx(told, abs=1e-4)


def test_nisqa_of_what_it_cannot_judge(real_data: Path) -> None:
    metrics = choose_metrics(["nisqa", "nisqa_loudness"], nisqa=real_data / "nisqa")
    references = torch.stack([noise(500), noise(500, 1)])
    rows = score(references, references, references.sum(0), ("speaker", "noise"), RATE, metrics)
    assert [(row.source, row.metric, row.model) for row in rows] == [
        ("speaker1", name, "NISQA v2.0") for name in ("nisqa", "nisqa_loudness")
    ]
    assert all(math.isnan(row.estimate) and "too short" in row.reason for row in rows)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    for name in NISQA_METRICS:
        with pytest.raises(UserError, match="give them: --nisqa"):
            choose_metrics([name])
    with pytest.raises(UserError, match=r"is not NISQA's nisqa.tar; fetch .*CC BY-NC-SA"):
        choose_metrics(["nisqa"], nisqa=tmp_path)
    with pytest.raises(UserError, match="give them: --dnsmos"):
        choose_metrics(["dnsmos"])
    with pytest.raises(UserError, match=r"has no DNSMOS/sig_bak_ovr.onnx"):
        choose_metrics(["dnsmos"], dnsmos=tmp_path)


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK\x03\x04torn"])
def test_weights_that_are_something_else(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "nisqa.tar").write_bytes(content)
    with pytest.raises(UserError, match=r"nisqa.tar is damaged or not NISQA v2.0"):
        choose_metrics(["nisqa"], nisqa=tmp_path)
    (tmp_path / "DNSMOS").mkdir()
    for name in ("sig_bak_ovr.onnx", "model_v8.onnx"):
        (tmp_path / "DNSMOS" / name).write_bytes(content)
    with pytest.raises(UserError, match=r"sig_bak_ovr.onnx is damaged or no ONNX network"):
        choose_metrics(["dnsmos"], dnsmos=tmp_path)


def test_dnsmos_asks_the_networks_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Network:
        """Stands for an ONNX session: tells the mean of what it hears, P.808 alone or three figures."""

        def __init__(self, path: str) -> None:
            self.outputs = 1 if path.endswith("model_v8.onnx") else 3
            assert path.startswith(str(tmp_path))

        def run(self, names: None, inputs: dict) -> list:
            assert inputs["input_1"].shape[0] == 1
            return [np.full((1, self.outputs), 3.0)]

    (tmp_path / "DNSMOS").mkdir()
    for name in ("sig_bak_ovr.onnx", "model_v8.onnx"):
        (tmp_path / "DNSMOS" / name).touch()
    monkeypatch.setattr(dnsmos, "_cached_load_session", lambda path, *_: Network(path))
    [row] = score(
        noise()[None], noise()[None], noise(), ("speaker",), RATE, choose_metrics(["dnsmos"], dnsmos=tmp_path)
    )
    assert row.model == "DNSMOS P.835"
    assert row.estimate == pytest.approx(float(dnsmos._polyfit_val(np.full((1, 4), 3.0), False)[0, 3]))
    [short] = score(
        noise(800)[None], noise(800)[None], noise(800), ("speaker",), RATE, choose_metrics(["dnsmos"], dnsmos=tmp_path)
    )
    assert "shorter than 0.1 s" in short.reason


@pytest.mark.parametrize("samples", [10, 600, 3000])
@pytest.mark.parametrize("measure", [estoi, pesq, pesq_narrow])
def test_short_clips_have_a_reason(measure, samples: int) -> None:
    with pytest.raises(Undefined):
        measure(noise(samples), noise(samples), RATE)


def test_wide_band_only() -> None:
    with pytest.raises(ValueError, match="PESQ takes 16000 Hz; resample from 8000 Hz"):
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


def test_only_offscreen_talkers_are_permuted_and_that_is_said() -> None:
    layout = ("speaker", "speaker", "offscreen", "offscreen", "noise")
    reference = torch.stack([noise(seed=k) for k in range(5)])
    rows = score(reference[[1, 0, 3, 2, 4]], reference, reference.sum(0), layout, RATE, metrics=("si_sdr",))
    assert [row.permuted for row in rows] == [False, False, True, True, False]
    assert [row.estimate > 50 for row in rows] == [False, False, True, True, True]


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
