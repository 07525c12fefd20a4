"""The trainings of the Makefile: whole commands, with what ARGS adds."""

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
