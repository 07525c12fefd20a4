"""A run that takes long says so before it is under way."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

from avdiff.commands import BENCHMARKED
from avdiff.lit.callbacks import SeparationProgress, expected
from avdiff.lit.separation import SeparationModule
from avdiff.methods import method_files
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, Progress
from avdiff.separators.base import Separator
from avdiff.types import Observation, Separation
from datamodules.mixtures import Mixtures, ToyMixtures

ROOT = Path(__file__).parents[2]


def test_the_time_of_a_run() -> None:
    assert expected(2.0, 100) is None
    assert "20 minutes: 12 s each of 100" in str(expected(12.0, 100))
    assert "2.5 hours" in str(expected(90.0, 100))
    assert expected(2.0, 100, limit=1.0) is not None


class Steps(Separator):
    """Takes 40 steps."""

    visual_input = "none"

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        sources = torch.zeros(1, len(observation.layout), observation.mixture.shape[1])
        for step in range(40):
            if callback is not None:
                callback(Progress(step + 1, 40, 1.0, sources))
        return Separation(observation.key, observation.layout, sources)


@pytest.mark.parametrize(("limit", "told"), [(0.0, 1), (600.0, 0)])
def test_a_long_run_is_told_of_once(limit: float, told: int, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_model_summary=False, callbacks=[SeparationProgress(limit=limit)]
    )
    trainer.predict(SeparationModule(Steps()), datamodule=Mixtures(ToyMixtures(4)), return_predictions=False)
    assert capsys.readouterr().out.count("This will take about") == told


def test_the_method_of_a_benchmark_is_the_same_everywhere() -> None:
    assert BENCHMARKED in method_files()
    assert f"METHOD ?= {BENCHMARKED}\n" in (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"default: {BENCHMARKED})" in (ROOT / "avdiff" / "cli.py").read_text(encoding="utf-8")
