"""Validation tells the same of the same weights, whatever the batches and the processes."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import lightning.pytorch as pl
import numpy as np
import pytest
import torch

from avdiff.lit.covariance import RandomCovariance
from avdiff.lit.score import ScoreModel
from avdiff.priors.presets import tiny_noise
from datamodules.clips import PreparedClips
from datamodules.sampling import VALIDATION_BATCH

CLIPS = VALIDATION_BATCH + 3


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / split).mkdir()
        audio = 3000 * 10 ** rng.uniform(-0.5, 0.5, (CLIPS, 1)) * rng.standard_normal((CLIPS, 6400))
        np.save(folder / split / "audio.npy", audio.clip(-32768, 32767).astype(np.int16))
    return folder


def data(folder: Path, size: int, rank: int = 0, processes: int = 1) -> PreparedClips:
    made = PreparedClips(folder, batch_size=size)
    made.setup("validate")
    if processes > 1:
        made.trainer = SimpleNamespace(global_rank=rank, world_size=processes)  # type: ignore[assignment]
    return made


def test_the_figures_are_those_of_the_clips(clips: Path) -> None:
    torch.manual_seed(0)
    model = ScoreModel(tiny_noise(), covariance=RandomCovariance(voices=0.5))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    one, five = (
        pl.Trainer(**quiet).validate(model, datamodule=data(clips, size), verbose=False)[0]  # type: ignore[arg-type]
        for size in (1, 5)
    )
    assert "val/error_db_shaped" in one
    assert one == five


@pytest.mark.parametrize("processes", [2, 3, 5])
def test_processes_wait_for_each_other_and_no_clip_counts_twice(clips: Path, processes: int) -> None:
    shares = [list(data(clips, 1, rank, processes).val_dataloader()) for rank in range(processes)]
    assert len({len(share) for share in shares}) == 1
    counted = [batch for share in shares for batch in share if batch["weight"]]
    whole = list(data(clips, 1).val_dataloader())
    assert sum(batch["weight"] for batch in counted) == CLIPS == sum(batch["weight"] for batch in whole)
    for batch in counted:
        assert torch.equal(batch["audio"], whole[batch["place"]]["audio"])


class Counted(pl.LightningModule):
    """Logs a figure a batch, as models do, with the weight of the batch."""

    def validation_step(self, batch: dict, batch_idx: int) -> None:
        self.log("val/figure", torch.tensor(batch["figure"]), batch_size=batch["weight"])


def test_a_batch_that_weighs_nothing_changes_no_figure() -> None:
    batches = [{"figure": 2.0, "weight": 3}, {"figure": 5.0, "weight": 1}, {"figure": 100.0, "weight": 0}]
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    loader = torch.utils.data.DataLoader(batches, batch_size=None)  # type: ignore[arg-type]
    figures = pl.Trainer(**quiet).validate(Counted(), loader, verbose=False)[0]  # type: ignore[arg-type]
    assert figures["val/figure"] == pytest.approx(2.75)
