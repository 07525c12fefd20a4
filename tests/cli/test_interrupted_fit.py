"""A fit that is killed, or told to stop, goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml

from avdiff.cli import main

ROOT = Path(__file__).parents[2]
STEPS = 9  # four an epoch, so that there are epochs to pass from one to the next


def write_config(folder: Path, workers: int, requeue: bool = False, **cluster: object) -> None:
    """Tiny data and weights; `last.ckpt` every third step."""
    data = {"clips": 8, "val_clips": 2, "seconds": 0.24, "batch_size": 2, "workers": workers}
    keep = {"dirpath": "runs/noise/checkpoints", "save_last": True, "save_top_k": 0, "every_n_train_steps": 3}
    ema = {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}
    trainer = {
        "accelerator": "cpu",
        "precision": "32-true",
        "max_steps": STEPS,
        "limit_val_batches": 0,
        "enable_progress_bar": False,
        "logger": {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "log"}},
        "callbacks": [
            ema,
            {
                "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                "init_args": keep | {"enable_version_counter": False, "save_on_train_epoch_end": False},
            },
            {"class_path": "tests.cli.interruption.Recorder"},
            {"class_path": "avdiff.lit.stopping.StopOnSignal", "init_args": {"requeue": requeue}},
        ],
    }
    config = {
        "model": {"init_args": {"prior": "avdiff.priors.presets.tiny_noise"}},
        "data": {"class_path": "tests.cli.tiny_clips.TinyClips", "init_args": data},
        "trainer": trainer | cluster,
    }
    folder.mkdir(exist_ok=True)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config))


def arguments(*more: str) -> list[str]:
    files = (ROOT / "experiments/base.yaml", ROOT / "experiments/train/noise.yaml", "tiny.yaml")
    return ["fit", *(part for file in files for part in ("--config", str(file))), *more]


def stopped(sends: str, after: int) -> list[str]:
    callback = "--trainer.callbacks+=tests.cli.interruption.SignalledAfter"
    return arguments(callback, f"--trainer.callbacks.step={after}", f"--trainer.callbacks.sends={sends}")


def in_new_process(folder: Path, given: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avdiff.cli", *given, "--allow", "tests"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, start_new_session=True
    )


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "runs/noise/checkpoints/last.ckpt", weights_only=True)


def record(folder: Path, rank: int = 0) -> list[dict]:
    return [json.loads(line) for line in (folder / f"record/steps-{rank}.jsonl").read_text().splitlines()]


def test_a_killed_and_a_stopped_fit_end_as_one_that_was_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    write_config(whole, workers=0)
    monkeypatch.chdir(whole)
    main(arguments())

    write_config(parts, workers=1)
    killed = in_new_process(parts, stopped("SIGKILL", after=4))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert checkpoint(parts)["global_step"] == 3  # one step is done again
    # in the second epoch, whose first steps are in the checkpoint; the loader's process has the signal too
    told = in_new_process(parts, stopped("SIGTERM", after=5))
    assert told.returncode == 143, told.stderr
    assert "Stopped by SIGTERM after step 6" in told.stderr
    assert checkpoint(parts)["global_step"] == 6
    monkeypatch.chdir(parts)
    main(arguments())

    expected, found = record(whole), record(parts)
    assert [line["step"] for line in expected] == list(range(1, STEPS + 1))
    assert [line["step"] for line in found] == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9]
    assert found.pop(3) == found[3]  # the step that was lost was the same when it was done again
    for one, other in zip(expected, found, strict=True):
        assert one["clips"] == other["clips"]
        assert one["noise"] == other["noise"]
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    for epoch in (found[:4], found[4:8]):
        assert len({clip for line in epoch for clip in line["clips"]}) == 8  # none lost, none twice
    for part in ("state_dict", "current_model_state"):
        one, other = checkpoint(whole)[part], checkpoint(parts)[part]
        assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


def test_ranks_have_clips_and_noise_of_their_own_and_slurm_has_its_job_back(tmp_path: Path) -> None:
    """Two tasks as srun starts them; the signal reaches the second alone."""
    cluster = yaml.safe_load((ROOT / "experiments/cluster/slurm.yaml").read_text())["trainer"]
    settings = {name: cluster[name] for name in ("strategy", "plugins")}
    write_config(tmp_path, workers=0, requeue=True, devices=2, **settings)
    fit = stopped("nothing", after=2)
    scontrol = tmp_path / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f"#!/bin/sh\necho \"$@\" >> '{tmp_path}/asked'\n")
    scontrol.chmod(0o755)
    tasks = []
    for rank in ("0", "1"):
        job = {"SLURM_JOB_ID": "4321", "SLURM_JOB_NAME": "fit", "SLURM_NODELIST": "127.0.0.1", "SLURM_NNODES": "1"}
        task = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "0", "SLURM_PROCID": rank}
        task |= {"SLURM_LOCALID": rank, "PATH": f"{scontrol.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "avdiff.cli", *fit, "--allow", "tests"]
        tasks.append(subprocess.Popen(command, cwd=tmp_path, env=os.environ | job | task, stderr=subprocess.PIPE))
    try:
        while not all((tmp_path / f"ready-{rank}").exists() for rank in (0, 1)):
            assert all(task.poll() is None for task in tasks), [task.communicate()[1].decode() for task in tasks]
            time.sleep(0.05)
        tasks[1].terminate()
        (tmp_path / "go").touch()
        ended = [task.communicate(timeout=120)[1].decode() for task in tasks]
    finally:
        for task in tasks:
            task.kill()
    assert [task.returncode for task in tasks] == [143, 143], ended
    assert (tmp_path / "asked").read_text() == "requeue 4321\n"
    first, second = record(tmp_path, 0), record(tmp_path, 1)
    assert len(first) == len(second) == checkpoint(tmp_path)["global_step"]
    seen = [{clip for line in lines[:2] for clip in line["clips"]} for lines in (first, second)]
    assert len(seen[0] | seen[1]) == 8  # an epoch is two steps of two clips each
    assert not {line["noise"] for line in first} & {line["noise"] for line in second}


def test_slurm_without_srun_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    srun = [{"class_path": "avdiff.lit.slurm.StartedBySrun"}]
    write_config(tmp_path, workers=0, devices=2, strategy="ddp", plugins=srun)
    with pytest.raises(SystemExit) as stopped:
        main(arguments())
    assert stopped.value.code == 2
    assert "avdiff: this training is for processes that srun starts" in capsys.readouterr().err
