"""The trainings of the Makefile: whole commands, with what ARGS adds; and jobs under SLURM."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRAININGS = ("speech", "noise", "nmf", "vae", "flowavse", "ravss", "visual-mask", "scene")


@pytest.mark.parametrize("training", TRAININGS)
def test_a_training_is_whole_commands(training: str) -> None:
    """A comma in the arguments of a make function cuts them off, for one."""
    make = ["make", "--dry-run", "--silent", f"train-{training}", "TALKERS=3", "ARGS=--data.speed [1,2] --end"]
    recipe = subprocess.run(make, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    subprocess.run(["bash", "-n"], input=recipe, text=True, check=True, capture_output=True)
    fits = [line for line in recipe.replace("\\\n", " ").splitlines() if "avdiff fit" in line]
    assert fits
    assert all("--end" in fit for fit in fits)
    if training == "flowavse":
        assert "--data.training.talkers='[3,3]'" in fits[0]


@pytest.mark.parametrize("job", ["fit", "benchmark", "prepare"])
def test_tasks_of_a_job_have_its_cores(job: str, tmp_path: Path) -> None:
    """srun does not take --cpus-per-task from sbatch since SLURM 22.05."""
    srun = tmp_path / "srun"
    srun.write_text("#!/bin/sh\necho $SRUN_CPUS_PER_TASK\n")
    srun.chmod(0o755)
    given = {"SLURM_CPUS_PER_TASK": "6", "AVDIFF_DATA": "data", "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = ["bash", str(ROOT / f"experiments/cluster/{job}.sbatch")]
    told = subprocess.run(script, env=os.environ | given, capture_output=True, text=True, check=True).stdout
    assert told == "6\n"
