"""W&B without a network: a fit that was stopped goes on in its own run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_interrupted_fit import arguments, in_new_process, write_config


@pytest.mark.slow
def test_a_stopped_fit_goes_on_in_its_run(tmp_path: Path) -> None:
    write_config(tmp_path, workers=0)
    logger = ["--trainer.logger=WandbLogger", "--trainer.logger.offline=true", "--trainer.logger.save_dir=."]
    for steps in (3, 6):
        fit = in_new_process(tmp_path, arguments(*logger, f"--trainer.max_steps={steps}"))
        assert fit.returncode == 0, fit.stderr
    run = (tmp_path / "runs/noise/checkpoints/wandb_run_id").read_text()
    parts = sorted((tmp_path / "wandb").glob("offline-run-*"))
    assert [part.name.rsplit("-", 1)[1] for part in parts] == [run, run]
    assert all(part.stat().st_size for folder in parts for part in folder.glob("*.wandb"))
