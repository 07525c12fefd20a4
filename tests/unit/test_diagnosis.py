"""The table of `avdiff validate`: which error is which."""

import csv
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from torch.utils.data import DataLoader

from avdiff.lit.diagnosis import Diagnosis, diagnosis
from avdiff.lit.score import GAINS, LEVELS, ScoreModel
from avdiff.priors.presets import tiny_noise, tiny_speech


def test_wiener_is_the_linear_denoiser_of_the_spectrum() -> None:
    prior = tiny_noise()
    prior.spectrum.copy_(torch.linspace(0.1, 1.9, 256))
    x = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    out = prior.wiener(x, torch.tensor([0.05]))
    power = [prior.stft(signal).abs().square().mean(-1)[0] for signal in (x, out)]
    bin_gain = (power[1] / power[0]).sqrt()
    expected = prior.spectrum**2 / (prior.spectrum**2 + 1)  # sd² / (sd² + sigma²), both 0.05
    assert bin_gain[50:250] == pytest.approx(expected[50:250].numpy(), rel=0.03)


def test_wrong_lips_are_wrong_in_the_way_their_name_says(monkeypatch: pytest.MonkeyPatch) -> None:
    model = ScoreModel(tiny_speech())
    monkeypatch.setattr(
        model, "condition", lambda batch, keep=None: (batch["visual"], batch["seen"] if keep is None else keep)
    )
    visual = torch.arange(2 * 20).view(2, 20)
    seen = torch.ones(2, 20, dtype=torch.bool)
    seen[0, 0] = False
    wrong = model._wrong_lips({"visual": visual, "seen": seen})
    assert not wrong["no"][1].any()
    assert torch.equal(wrong["other"][0], visual.flip(0))
    assert wrong["frozen"][0].tolist() == [[10] * 20, [30] * 20]
    late, late_seen = wrong["late"]
    assert torch.equal(late[:, 5:], visual[:, :-5])  # 0.2 s at 25 frames a second
    assert late_seen[0].logical_not().nonzero().flatten().tolist() == [5]


def test_table_has_a_row_a_level_and_the_gain_of_lips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clip = {
        "audio": torch.randn(6400),
        "visual": torch.zeros(10, 96, 96, dtype=torch.uint8),
        "seen": torch.ones(10).bool(),
    }
    trainer = pl.Trainer(
        accelerator="cpu",
        default_root_dir=tmp_path,
        logger=False,
        callbacks=[Diagnosis()],
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.validate(ScoreModel(tiny_speech()), DataLoader([clip, clip], batch_size=2), verbose=False)
    with (tmp_path / "diagnosis.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["noise"]) for row in rows] == list(LEVELS)
    columns = ("Wiener", "no lips", "denoiser", "another's lips", "a frozen frame", "lips 0.2 s late", "lips gain")
    assert tuple(rows[0]) == ("noise", *columns)
    # both clips and all their frames have the same lips
    assert all(row["another's lips"] == row["denoiser"] == row["a frozen frame"] for row in rows)
    printed = capsys.readouterr().out
    assert "lips gain" in printed
    # a new network is the linear denoiser for data of 0.05: best at the level of the data
    by_gain = {gain: float(trainer.callback_metrics[f"val/error_db_gain_{gain}"]) for gain in GAINS}
    assert min(by_gain, key=by_gain.__getitem__) == 0
    assert f"+0 dB: {by_gain[0]:.2f}" in printed


def test_a_prior_without_lips_has_no_columns_for_them() -> None:
    logged = {f"val/error_db_sigma_{level}{key}": -1.0 for level in LEVELS for key in ("", "_wiener")}
    assert tuple(diagnosis(logged)[0]) == ("noise", "Wiener", "denoiser")
