"""The predict loop from the data to the files: batches, processes, a kill midway."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import torch

from avdiff.lit.store import SeparationStore
from datamodules.mixtures import ToyMixtures
from tests.cli.toy_predict import CLIPS, predict


def script(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cli.toy_predict", *map(str, arguments)]
    return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)


def contents(folder: Path) -> dict[str, torch.Tensor]:
    store = SeparationStore(folder)
    return {key: store.read(key).sources for key in store.keys()}


def test_killed_in_one_process_and_resumed_in_two_leaves_the_files_of_a_run_in_one_go(tmp_path: Path) -> None:
    predict(tmp_path / "whole", batch_size=4)
    whole = contents(tmp_path / "whole")
    assert set(whole) == {entry.key for entry in ToyMixtures(CLIPS).entries()}

    killed = script(tmp_path / "resumed", 2, 1, 1)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    first = contents(tmp_path / "resumed")
    assert len(first) == 2
    written = {key: (tmp_path / "resumed" / key).stat().st_mtime_ns for key in first}

    resumed = script(tmp_path / "resumed", 2, 2, 0)
    assert resumed.returncode == 0, resumed.stderr
    second = contents(tmp_path / "resumed")
    assert second.keys() == whole.keys()
    for key in whole:
        torch.testing.assert_close(second[key], whole[key], rtol=0, atol=1e-7)
    assert written == {key: (tmp_path / "resumed" / key).stat().st_mtime_ns for key in first}, "done clips were redone"
    assert not list((tmp_path / "resumed").glob(".partial*"))
