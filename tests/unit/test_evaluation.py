"""Estimates of any method against a list: what is scored, what is not done twice, what is missing."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile
import torch
from torch import Tensor

import avdiff.evaluation as evaluation
from avdiff.cli import main
from avdiff.errors import UserError
from avdiff.evaluation import GRID_MODEL, Scoring, score_folder
from avdiff.metrics.asr import Recogniser
from avdiff.metrics.evaluate import choose_metrics
from avdiff.metrics.summary import summarise
from avdiff.metrics.table import read_rows
from avdiff.metrics.words import normalise
from avdiff.types import NOISE, SPEAKER, source_names
from datamodules.mixtures import Entry, Mixture, MixtureList, ToyMixtures
from datamodules.wav_list import WavList

RATE = 16_000
SI_SDR = Scoring(choose_metrics(["si_sdr"]))


def write(folder: Path, mixtures: MixtureList, gain: float = 0.2) -> None:
    """Estimates with an error of which `gain` decides the level."""
    for index, entry in enumerate(mixtures.entries()):
        (folder / entry.key).mkdir(parents=True, exist_ok=True)
        item = mixtures[index]
        for name, source in zip(source_names(entry.layout), item.sources, strict=True):
            soundfile.write(folder / entry.key / f"{name}.wav", (source + gain * item.mixture).numpy(), RATE, "FLOAT")


def test_scored_once_and_anew_where_files_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mixtures = ToyMixtures(4)
    write(tmp_path / "a", mixtures)
    given: list[int] = []
    one = evaluation._score_clip
    monkeypatch.setattr(evaluation, "_score_clip", lambda *args: given.append(args[-1]) or one(*args))

    def run(scoring: Scoring = SI_SDR) -> list:
        given.clear()
        return score_folder(tmp_path / "a", mixtures, scoring, scores=tmp_path / "scores").rows

    first = run()
    assert given == [0, 1, 2, 3]
    assert run() == first
    assert given == []
    half = tmp_path / "scores" / "toy/001" / "scores.json"
    half.write_text(half.read_text()[:40])
    assert run() == first, "half a file is no scores"
    assert given == [1]
    file = tmp_path / "a" / "toy/002" / "noise.wav"
    soundfile.write(file, mixtures[2].sources[1].numpy(), RATE, "FLOAT")
    changed = run()
    assert given == [2]
    assert [a.clip for a, b in zip(first, changed, strict=True) if a != b] == ["toy/002"]
    assert len(run(Scoring(choose_metrics(["si_sdr", "sar"])))) == 2 * len(first)
    assert run() == changed, "metrics that are not asked for are left out"


@pytest.mark.slow
def test_processes_give_the_same_table(tmp_path: Path) -> None:
    mixtures = ToyMixtures(4)
    write(tmp_path / "a", mixtures)
    alone = score_folder(tmp_path / "a", mixtures, SI_SDR, scores=tmp_path / "one").rows
    two = Scoring(SI_SDR.metrics, workers=2)
    assert score_folder(tmp_path / "a", mixtures, two, scores=tmp_path / "two").rows == alone


def test_what_is_missing_is_kept_and_counted(tmp_path: Path) -> None:
    mixtures = ToyMixtures(5)
    write(tmp_path, mixtures)
    (tmp_path / "toy/000" / "offscreen.wav").unlink()
    (tmp_path / "toy/004" / "noise.wav").write_bytes(b"")
    (tmp_path / "toy/004" / "offscreen.wav").write_bytes(b"RIFF and so on, but no sound at all")
    soundfile.write(tmp_path / "toy/001" / "noise.wav", torch.zeros(9000).numpy(), RATE)
    for file in (tmp_path / "toy/002").iterdir():
        file.unlink()
    (tmp_path / "toy/002").rmdir()
    scored = score_folder(tmp_path, mixtures, SI_SDR, scores=tmp_path / "scores")
    assert scored.missing == 1
    reasons = {(row.clip, row.source): row.reason for row in scored.rows if math.isnan(row.estimate)}
    assert reasons == {
        ("toy/000", "offscreen"): "there is no estimate",
        ("toy/001", "noise"): "the estimate has 9000 samples in 1 channels, not 64 in one",
        ("toy/002", "offscreen"): "there is no estimate",
        ("toy/002", "noise"): "there is no estimate",
        ("toy/004", "offscreen"): "the estimate cannot be read: Format not recognised.",
        ("toy/004", "noise"): "the estimate cannot be read: Format not recognised.",
    }
    assert [(m.role, m.sources, m.undefined) for m in summarise(scored.rows)] == [("offscreen", 0, 3), ("noise", 2, 3)]


def test_no_estimate_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no estimate of any of the 3 mixtures.*toy/000 with offscreen, noise as .wav"):
        score_folder(tmp_path, ToyMixtures(3), SI_SDR)
    write(tmp_path, ToyMixtures(1))
    soundfile.write(tmp_path / "toy/000" / "noise.wav", torch.zeros(64).numpy(), 8000)
    with pytest.raises(UserError, match=r"has 8000 Hz; estimates are scored at 16000 Hz"):
        score_folder(tmp_path, ToyMixtures(1), SI_SDR)


def test_consistent_estimates_add_up(tmp_path: Path) -> None:
    """Estimates that lack half of the mixture gain it back, and the raw scores stay beside."""

    class Pairs(ToyMixtures):
        def entries(self) -> list[Entry]:
            return [Entry(f"toy/{i}", ("offscreen", "noise")) for i in range(self.clips)]

    mixtures = Pairs(3, samples=4000)
    write(tmp_path, mixtures, gain=-0.5)
    raw = score_folder(tmp_path, mixtures, SI_SDR, scores=tmp_path / "raw").rows
    made = score_folder(tmp_path, mixtures, Scoring(SI_SDR.metrics, consistent=True), scores=tmp_path / "made").rows
    # s - y/2 and n - y/2 are opposite and add up to nothing: each then gets half of y back
    assert all(row.estimate == pytest.approx(0, abs=1.0) for row in raw)
    assert all(row.estimate > 100 for row in made)


class Sentences(MixtureList):
    """Two talkers who say tones: what is heard is how many samples are not zero."""

    def entries(self) -> list[Entry]:
        return [Entry(f"said/{i}", (SPEAKER, SPEAKER, NOISE)) for i in range(2)]

    def __getitem__(self, index: int) -> Mixture:
        sources = torch.zeros(3, 1600)
        sources[0, : 100 * (index + 1)] = 0.1
        sources[2, 5] = 1e-3
        return Mixture(f"said/{index}", "said", (SPEAKER, SPEAKER, NOISE), sources, sources.sum(0))


class Counts(Recogniser):
    """A word for every hundred samples that are not zero."""

    model = "counts/words"

    def transcribe(self, clips: Sequence[Tensor]) -> list[str]:
        assert all(len(clip) == 1600 or not clip.any() for clip in clips)
        return ["word " * (int(clip.count_nonzero()) // 100) for clip in clips]


def test_word_errors_of_what_is_heard_in_the_clean_signal(tmp_path: Path) -> None:
    mixtures = Sentences()
    for index, entry in enumerate(mixtures.entries()):
        (tmp_path / entry.key).mkdir(parents=True)
        sources = mixtures[index].sources.clone()
        sources[0] = sources[0] if index else 0  # the first talker's word is lost in the first mixture
        for name, source in zip(source_names(entry.layout), sources, strict=True):
            soundfile.write(tmp_path / entry.key / f"{name}.wav", source.numpy(), RATE, "FLOAT")
    scored = score_folder(tmp_path, mixtures, Scoring({}, recognisers=[Counts()]), transcripts=tmp_path / "heard")
    rows = [row for row in scored.rows if row.metric == "wer"]
    assert [(row.source, row.weight, row.model) for row in rows] == [
        ("speaker1", 1, "counts/words"),
        ("speaker2", 0, "counts/words"),
        ("speaker1", 2, "counts/words"),
        ("speaker2", 0, "counts/words"),
    ]
    [mean] = summarise(rows)
    assert mean.estimate == pytest.approx(1 / 3), "one word of three"
    assert (mean.mixture, mean.undefined) == (0, 2), "who says nothing is counted apart"


def listed(
    folder: Path, lines: Sequence[Sequence[str]], header: Sequence[str] = ("clip", "source", "reference")
) -> Path:
    with (folder / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *lines])
    return folder / "list.csv"


def test_a_list_of_wavs_by_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mixtures = ToyMixtures(3, samples=4000)
    write(tmp_path / "clean", mixtures, gain=0.0)
    write(tmp_path / "mine", mixtures)
    lines = [
        (entry.key, name, f"clean/{entry.key}/{name}.wav")
        for entry in mixtures.entries()
        for name in source_names(entry.layout)
    ]
    file = listed(tmp_path, lines)
    main(["evaluate", str(tmp_path / "mine"), "--list", str(file), "--metric", "si_sdr", "sar"])
    rows = read_rows(tmp_path / "mine_scores" / "scores_raw.csv")
    assert {(row.clip, row.source) for row in rows} == {line[:2] for line in lines}
    assert {row.condition for row in rows} == {"list"}
    assert "| list | noise | si_sdr | 3 | 0 |" in capsys.readouterr().out
    assert not list((tmp_path / "mine").rglob("scores.json")), "the estimates are left as they are"
    monkeypatch.chdir(tmp_path / "mine")
    main(["evaluate", ".", "--list", str(file), "--metric", "si_sdr", "--clips", "2"])
    rows = read_rows(tmp_path / "mine_scores" / "scores_raw.csv")
    assert {row.clip for row in rows} == {"toy/000", "toy/001"}


def test_scores_are_of_the_references_that_they_were_made_against(tmp_path: Path) -> None:
    """Other settings of a list, other files of it, files that were written anew, transcripts that came later."""
    write(tmp_path / "toys", ToyMixtures(2))
    scores = [
        score_folder(tmp_path / "toys", mixtures, SI_SDR, scores=tmp_path / "kept").rows
        for mixtures in (ToyMixtures(2), ToyMixtures(2, seed=1), ToyMixtures(1), ToyMixtures(2))
    ]
    assert scores[0] != scores[1]
    assert scores[3] == scores[0]

    for name in ("a", "b"):
        write(tmp_path / name, ToyMixtures(1, samples=4000, seed=ord(name)), gain=0.0)
    mine, sources = tmp_path / "a", ("offscreen", "noise")

    def lines(folder: str, said: str) -> list[tuple[str, ...]]:
        files = {name: f"{folder}/toy/000/{name}.wav" for name in sources}
        return [("toy/000", name, file, said if name == "offscreen" else "") for name, file in files.items()]

    def run(folder: str, said: str = "") -> dict[str, float]:
        file = listed(tmp_path, lines(folder, said), ("clip", "source", "reference", "transcript"))
        rows = score_folder(mine, WavList(file), SI_SDR, scores=tmp_path / "csv").rows
        return {row.metric: row.estimate for row in rows if row.source == "offscreen"}

    assert run("a")["si_sdr"] > 50
    assert run("b")["si_sdr"] < 0, "the list names other files"
    assert set(run("a", "bin blue at f two now")) == {"si_sdr", "wer"}
    write(tmp_path / "c", ToyMixtures(1, samples=4000, seed=ord("a")), gain=0.0)
    assert run("c")["si_sdr"] > 50
    write(tmp_path / "c", ToyMixtures(1, samples=4000, seed=7), gain=0.0)
    assert run("c")["si_sdr"] < 0, "a file of the list was written anew"


@pytest.mark.parametrize(
    ("lines", "header", "sentence"),
    [
        ([], ("clip", "source"), "has no column 'reference'"),
        ([], ("clip", "source", "reference"), "holds no mixture"),
        ([("a", "speaker1", "x.wav"), ("a", "noise")], ("clip", "source", "reference"), r"line 3 of .* lacks a value"),
        ([("a", "noise", "x.wav")] * 2, ("clip", "source", "reference"), r"line 3 of .* has noise of clip a again"),
        ([("a", "voice", "x.wav")], ("clip", "source", "reference"), "names the source 'voice'"),
        ([("a", "speaker2", "x.wav")], ("clip", "source", "reference"), "are called speaker1"),
        (
            [("a", "speaker1", "x.wav", "bin blue at f two now"), ("a", "speaker2", "x.wav", "")],
            ("clip", "source", "reference", "transcript"),
            "transcripts of some talkers only",
        ),
        (
            [("a", "speaker1", "x.wav", "the old farmer watched the river")],
            ("clip", "source", "reference", "transcript"),
            r"line 2 of .* 'the old farmer watched the river', which is no GRID sentence",
        ),
    ],
)
def test_lists_that_are_none(
    lines: Sequence[Sequence[str]], header: Sequence[str], sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=sentence):
        WavList(listed(tmp_path, lines, header)).entries()


def test_a_list_is_utf8_with_or_without_a_mark(tmp_path: Path) -> None:
    file, text = tmp_path / "list.csv", "clip,source,reference\ngrün,noise,x.wav\n"
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(text, encoding=encoding)
        assert [entry.key for entry in WavList(file).entries()] == ["grün"]
    file.write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"list\.csv is no list: it is not UTF-8"):
        WavList(file)


def test_references_that_do_not_fit(tmp_path: Path) -> None:
    for name, samples, rate in [("a", 100, RATE), ("b", 90, RATE), ("c", 100, 8000)]:
        soundfile.write(tmp_path / f"{name}.wav", torch.zeros(samples).numpy(), rate)
    for noise, sentence in [
        ("b", r"\[90, 100\] samples"),
        ("c", "8000 Hz; references are mono"),
        ("d", "no file .*d.wav"),
    ]:
        file = listed(tmp_path, [("x", "speaker1", "a.wav"), ("x", "noise", f"{noise}.wav")])
        with pytest.raises(UserError, match=sentence):
            WavList(file)[0]


def test_grid_sentences_are_judged_by_the_grammar(tmp_path: Path) -> None:
    """Noise says no sentence: every word of a known transcript is lost, and the model is told."""
    white = 0.1 * torch.randn(2, RATE, generator=torch.Generator().manual_seed(0))
    for name, source in zip(("speaker1", "noise"), white, strict=True):
        soundfile.write(tmp_path / f"{name}.wav", source.numpy(), RATE, "FLOAT")
    lines = [("x", "speaker1", "speaker1.wav", "bin blue at f two now"), ("x", "noise", "noise.wav", "")]
    file = listed(tmp_path, lines, ("clip", "source", "reference", "transcript"))
    write(tmp_path / "mine", WavList(file), gain=0.0)
    rows = score_folder(tmp_path / "mine", WavList(file), SI_SDR).rows
    [words] = [row for row in rows if row.metric == "wer"]
    assert (words.source, words.weight, words.model) == ("speaker1", 5, GRID_MODEL)
    assert words.estimate >= 0.6


def recorded(folder: Path, *names: str, mixture: str = "", column: bool = False) -> Path:
    """A list of white sources of these names, and the estimates of their halves."""
    white = 0.1 * torch.randn(len(names), RATE, generator=torch.Generator().manual_seed(0))
    noise = 0.1 * torch.randn(RATE, generator=torch.Generator().manual_seed(1))
    (folder / "mine" / "x").mkdir(parents=True)
    for name, source in zip(names, white, strict=True):
        soundfile.write(folder / f"{name}.wav", source.numpy(), RATE, "FLOAT")
        soundfile.write(folder / "mine" / "x" / f"{name}.wav", (source + 0.1 * noise).numpy(), RATE, "FLOAT")
    soundfile.write(folder / "heard.wav", (white.sum(0) + noise).numpy(), RATE, "FLOAT")
    lines = [("x", name, f"{name}.wav", *([mixture] if column else [])) for name in names]
    if mixture and not column:
        lines.append(("x", "mixture", mixture))
    return listed(folder, lines, ("clip", "source", "reference", *(["mixture"] if column else [])))


def evaluated(folder: Path, file: Path, *more: str) -> str:
    main(["evaluate", str(folder / "mine"), "--list", str(file), "--metric", "si_sdr", "--workers", "1", *more])
    return (folder / "mine_scores" / "scores_raw.md").read_text()


def test_a_mixture_that_the_list_does_not_give_is_not_made_up(tmp_path: Path) -> None:
    text = evaluated(tmp_path, recorded(tmp_path, "speaker1"))
    assert "no improvement: the list gives no mixture" in text
    assert "| condition | role | metric | sources | undefined | estimate | 95 % | model |" in text
    assert "| list | speaker | si_sdr | 1 | 0 | 20." in text
    assert "nan" not in text
    with (tmp_path / "mine_scores" / "scores_raw.csv").open() as table:
        [row] = csv.DictReader(table)
    assert "mixture" not in row
    assert row["reason"] == "the list gives no mixture"
    with (tmp_path / "mine_scores" / "scores_raw_summary.csv").open() as table:
        [mean] = csv.DictReader(table)
    assert not {"mixture", "improvement", "error"} & mean.keys()


@pytest.mark.parametrize("column", [False, True])
def test_a_mixture_that_the_list_gives_is_what_is_improved_on(column: bool, tmp_path: Path) -> None:
    text = evaluated(tmp_path, recorded(tmp_path, "speaker1", mixture="heard.wav", column=column))
    line = next(line for line in text.splitlines() if line.startswith("| list | speaker | si_sdr |"))
    before, after, gained = (float(cell) for cell in line.split("|")[6:9])
    assert before == pytest.approx(0, abs=0.2)
    assert gained == pytest.approx(after - before, abs=0.02)
    assert "si_sdr_zero_mean" in text, "the head says which SI-SDR it is"


def test_a_missing_estimate_has_dashes(tmp_path: Path) -> None:
    file = recorded(tmp_path, "speaker1", "noise")
    (tmp_path / "mine" / "x" / "noise.wav").unlink()
    text = evaluated(tmp_path, file)
    assert "| list | noise | si_sdr | 0 | 1 | – | – | – | – |" in text
    assert "nan" not in text


def test_consistency_needs_the_mixture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluated(tmp_path, recorded(tmp_path, "speaker1"), "--consistent")
    assert "gives no mixture of x" in capsys.readouterr().err


def test_the_two_conventions_of_si_sdr(tmp_path: Path) -> None:
    """An offset is an error for the one and nothing for the other."""
    file = recorded(tmp_path, "speaker1", mixture="heard.wav")
    clean, _ = soundfile.read(tmp_path / "speaker1.wav")
    soundfile.write(tmp_path / "mine" / "x" / "speaker1.wav", clean + 0.1, RATE, "FLOAT")
    scoring = Scoring(choose_metrics(["si_sdr", "si_sdr_zero_mean"]))
    found = {row.metric: row.estimate for row in score_folder(tmp_path / "mine", WavList(file), scoring).rows}
    assert found["si_sdr"] == pytest.approx(0, abs=0.2)
    assert found["si_sdr_zero_mean"] > 60


@pytest.mark.parametrize(
    ("header", "lines", "sentence"),
    [
        ("clip,source,reference", ["../x,noise,a.wav"], "line 2.*cannot name a folder"),
        ("clip,source,reference", ["/x,noise,a.wav"], "line 2.*cannot name a folder"),
        ("clip,source,reference", [f"{'x' * 300},noise,a.wav"], "line 2.*clip"),
        ("clip,source,reference", ['"a\nb",noise,a.wav'], "clip.*one line"),
        ("clip,source,reference,mix", ["x,noise,a.wav,b.wav"], "column 'mix'"),
        ("clip,source,reference,clip", ["x,noise,a.wav,y"], "column 'clip' twice"),
        ("clip,source,reference", ["x,noise,a.wav,b.wav"], "line 2.*more values"),
        ("clip,source,reference", ["x,mixture,a.wav"], "a mixture and no source"),
        ("clip,source,reference", ["x,mixture,a.wav", "x,mixture,b.wav"], "line 3.*mixture"),
        ("clip,source,reference", ["x,noise,a.wav", "y,speaker1,a.wav"], "no mixture of clip y, and one of x"),
        ("clip,source,reference,condition", ["x,speaker1,a.wav,p", "x,noise,a.wav,q"], "line 3.*condition 'q'"),
    ],
)
def test_lists_of_odd_lines(header: str, lines: Sequence[str], sentence: str, tmp_path: Path) -> None:
    file = tmp_path / "list.csv"
    file.write_text("\n".join([header, *lines]) + "\n")
    with pytest.raises(UserError, match=re.compile(sentence, re.DOTALL)):
        WavList(file)


def test_a_list_leads_to_no_folder_beside_the_output(tmp_path: Path) -> None:
    """Of whatever kind the list is."""
    toys = ToyMixtures(1)
    write(tmp_path / "mine", toys)

    class Elsewhere(ToyMixtures):
        def entries(self) -> list[Entry]:
            return [replace(entry, key=f"../{entry.key}") for entry in super().entries()]

    with pytest.raises(UserError, match="cannot name a folder"):
        score_folder(tmp_path / "mine", Elsewhere(1), SI_SDR, scores=tmp_path / "scores")


@pytest.mark.parametrize("heard", ["...", ".", " . . ", "…", "♪", "-", "♪ ... -"])
def test_what_recognisers_write_for_silence_has_no_word(heard: str) -> None:
    assert normalise(heard) == ""
    assert normalise(f"Hello {heard} 3.5") == "hello 3.5"
