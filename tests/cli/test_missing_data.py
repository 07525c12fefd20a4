"""A data set that is not there is one sentence: which variable to set, and what the folder must look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from avdiff.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("training", "data", "dataset"),
    [("speech", "speech", "voxceleb2"), ("speech_paper", "speech_paper", "voxceleb2"), ("noise", "noise", "dns")],
)
def test_missing_data_is_one_sentence(
    training: str,
    data: str,
    dataset: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVDIFF_DATA", str(tmp_path / "nowhere"))
    files = ("base", f"train/{training}", f"data/{data}/{dataset}", "cluster/local")
    composed = [part for file in files for part in ("--config", str(ROOT / f"experiments/{file}.yaml"))]
    tiny = {"speech": "speech", "speech_paper": "speech", "noise": "noise"}[training]
    small = [f"--model.init_args.prior=avdiff.priors.presets.tiny_{tiny}", "--model.init_args.initial=null"]
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *composed, *small, "--trainer.accelerator=cpu", "--trainer.logger=false"])
    assert stopped.value.code == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("avdiff: ")]
    assert len(said) == 1
    assert f"{tmp_path}/nowhere/{dataset}" in said[0]
    assert "AVDIFF_DATA" in said[0]
    assert "pack.json" in said[0]
    assert f"avdiff prepare {dataset}" in said[0]


def test_missing_weights_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of what the parser says of the types that it tried, nothing."""
    monkeypatch.chdir(tmp_path)
    files = ("base", "train/speech", "data/speech/synthetic", "cluster/local")
    composed = [part for file in files for part in ("--config", str(ROOT / f"experiments/{file}.yaml"))]
    with pytest.raises(SystemExit) as stopped:
        main(["fit", *composed, "--trainer.accelerator=cpu", "--trainer.logger=false"])
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert "avdiff: initial weights runs/lips/encoder.safetensors do not exist; train them first" in said
    assert "Union" not in said
