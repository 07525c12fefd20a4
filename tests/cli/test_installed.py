"""A built wheel in an environment of its own, which has what the wheel requires and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.installation import ROOT, link
from tests.media import write_media

PARTS = ("avdiff", "datamodules", "experiments")
FILES = ("pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel, and links to the packages of this environment that avdiff[synthetic] requires."""
    folder = tmp_path_factory.mktemp("installed")
    for part in PARTS:
        shutil.copytree(ROOT / part, folder / "source" / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FILES:
        shutil.copy(ROOT / file, folder / "source" / file)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run(build, check=True)
    shutil.rmtree(folder / "source")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    python = folder / "venv" / "bin" / "python"
    where = sysconfig.get_path("purelib", "venv", vars={"base": str(folder / "venv")})
    link(Path(where), ["synthetic"])
    [wheel] = folder.glob("avdiff-*.whl")
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    return folder / "venv"


def avdiff(environment: Path, folder: Path, *arguments: str) -> str:
    """What the command says in its own environment."""
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env["AVDIFF_CACHE"] = str(folder / "cache")
    command = [str(environment / "bin" / "avdiff"), *arguments]
    said = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    return said.stdout


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_wheel_runs_the_demo(environment: Path, tmp_path: Path) -> None:
    assert "si_sdr" in avdiff(environment, tmp_path, "demo", "--output", "out")
    assert (tmp_path / "out" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_wheel_separates_a_recording(environment: Path, tmp_path: Path) -> None:
    from skimage.data import astronaut

    face = np.ascontiguousarray(astronaut()[:240, 96:336])
    frames = [np.pad(face, ((0, 0), (i, 60 - i), (0, 0))) for i in range(40)]
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 25_600))
    write_media(tmp_path / "talk.mp4", frames=frames, audio=sound)
    avdiff(environment, tmp_path, "separate", "talk.mp4", "--output", "out")
    assert {"person1.wav", "noise.wav", "preview.mp4", "report.html"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_wheel_trains(environment: Path, tmp_path: Path) -> None:
    [configs] = environment.glob("lib/python*/site-packages/experiments")
    small = {"clips": 4, "val_clips": 2, "batch_size": 2}
    data = {"class_path": "datamodules.embedded.EmbeddedNoise", "init_args": small}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"data": data}))
    files = (configs / "base.yaml", configs / "train" / "noise.yaml", "data.yaml")
    avdiff(
        environment,
        tmp_path,
        "fit",
        *(part for file in files for part in ("--config", str(file))),
        "--model.init_args.prior=avdiff.priors.presets.tiny_noise",
        "--trainer.accelerator=cpu",
        "--trainer.max_steps=2",
        "--trainer.num_sanity_val_steps=0",
    )
    assert list(tmp_path.glob("runs/**/*.ckpt"))
