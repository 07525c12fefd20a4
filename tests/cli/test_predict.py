"""`avdiff predict` from the data to the files: batches, processes, a kill midway."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from avdiff.cli import main
from avdiff.lit.store import SeparationStore
from datamodules.mixtures import ToyMixtures

ROOT = Path(__file__).parents[2]
CLIPS = 9


def arguments(out_dir: Path, *more: str) -> list[str]:
    configs = ["--config", str(ROOT / "experiments/predict.yaml"), "--config", str(ROOT / "tests/configs/toy.yaml")]
    toy = ["--data.mixtures.init_args.clips", str(CLIPS), "--trainer.default_root_dir", str(out_dir)]
    return ["predict", *configs, *toy, *more]


def in_new_process(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avdiff.cli", *arguments, "--allow", "tests"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, torch.Tensor]:
    store = SeparationStore(folder)
    return {key: store.read(key).sources for key in sorted(store.clips())}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """All clips of a run in one go, four in a batch."""
    out_dir = tmp_path_factory.mktemp("whole")
    main(arguments(out_dir, "--data.batch_size", "4"))
    return contents(out_dir)


def test_every_mixture_is_separated_by_a_sample_of_its_posterior(whole: dict[str, torch.Tensor]) -> None:
    mixtures = ToyMixtures(CLIPS)
    assert list(whole) == [entry.key for entry in mixtures.entries()]
    both = [mixtures[i] for i, entry in enumerate(mixtures.entries()) if len(entry.layout) == 2]
    deviation = torch.cat([whole[m.key] - m.mixture / 2 for m in both], dim=-1)
    # 320 draws of N(0, std² / 2), whose sum is the mixture up to the likelihood's width
    assert abs(float(deviation[0].mean())) < 4 * 0.0707 / 320**0.5
    assert float(deviation[0].std()) == pytest.approx(0.0707, rel=0.2)
    assert float(deviation.sum(0).abs().max()) < 0.05


def test_two_processes_finish_what_a_killed_run_left(whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    store = SeparationStore(tmp_path)
    kill = ["--trainer.callbacks+=tests.cli.interruption.KillBefore", "--trainer.callbacks.init_args.batch", "1"]
    killed = in_new_process(arguments(tmp_path, *kill))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = {key: store.path(key).stat().st_mtime_ns for key in store.clips()}
    assert len(first) == 2

    resumed = in_new_process(arguments(tmp_path, "--trainer.devices", "2", "--trainer.strategy", "ddp"))
    assert resumed.returncode == 0, resumed.stderr
    assert first.items() <= {key: store.path(key).stat().st_mtime_ns for key in store.clips()}.items()
    second = contents(tmp_path)
    assert second.keys() == whole.keys()
    for key, sources in whole.items():
        torch.testing.assert_close(second[key], sources, rtol=0, atol=1e-6)
    assert not list(tmp_path.glob(".partial*"))


def test_a_clip_that_diverges_is_given_up_alone(whole: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """A prior that makes one clip explode: its reason is on disk, the others are as they were, and the run ends well."""
    prior = "--model.separator.init_args.prior.init_args.priors.noise"
    fragile = [
        prior,
        "tests.cli.fragile.FragilePrior",
        f"{prior}.init_args.std",
        "0.1",
        f"{prior}.init_args.samples",
        "64",
    ]
    with pytest.warns(UserWarning, match="toy/000 was given up: sampling diverged at step 1, noise level 2"):
        main(arguments(tmp_path, "--data.batch_size", "4", *fragile))
    store = SeparationStore(tmp_path)
    assert store.failures() == {"toy/000"}
    found = contents(tmp_path)
    assert found.keys() == whole.keys() - {"toy/000"}
    for key, sources in found.items():
        torch.testing.assert_close(sources, whole[key], rtol=0, atol=1e-6)
    info = store.read_failure("toy/000")
    assert info is not None
    assert "bounded: true" in info["failure"]
    written = store.path("toy/000") / "failure.json"
    first = written.stat().st_mtime_ns
    main(arguments(tmp_path, "--data.batch_size", "4", *fragile))
    assert written.stat().st_mtime_ns == first, "it is not tried again"
