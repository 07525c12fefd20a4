"""From published layouts to separated lists, by the README's commands, on real clips: prepare, train, export, lists, predict."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml

from avdiff.audio.io import read_audio, resample
from avdiff.cli import main
from avdiff.lit.store import SeparationStore
from datamodules.packs import Pack

ROOT = Path(__file__).parents[2]
SCENES = ("airport", "bus", "metro", "metro_station", "park", "public_square", "shopping_mall", "street_pedestrian")
MIXTURES = 3


def voxceleb2(real: Path, root: Path) -> list[str]:
    """Twelve clips of GRID's s1 as one speaker of dev, the other talkers as more of dev and of test; gives the ids."""
    talkers = {
        "dev/mp4/id00001": sorted((real / "grid/s1").glob("*.mp4"))[:12],
        "dev/mp4/id00002": sorted((real / "grid/others/grid_s2").iterdir()),
        "dev/mp4/id00003": sorted((real / "grid/others/grid_M_sbia1a").iterdir()),
        "test/mp4/id00004": sorted((real / "grid/others/grid_M_lbax4n").iterdir()),
        "test/mp4/id00005": sorted((real / "grid/others/grid_F_brbk7n").iterdir()),
        "test/mp4/id00006": sorted((real / "grid/others/grid_F_lbbc2a").iterdir()),
    }
    ids = []
    for talker, files in talkers.items():
        for number, file in enumerate(files):
            ids.append(f"{talker}/-video{number // 4:05d}/{number % 4:05d}")
            copy = root / f"{ids[-1]}.mp4"
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
    return ids


def noises(real: Path) -> list[Path]:
    return [file for folder in sorted((real / "esc10").glob("0*")) for file in sorted(folder.glob("*.ogg"))[:3]]


def dns(real: Path, root: Path) -> None:
    """16 kHz, flat: names of YouTube ids, some of which begin with "-", and of Freesound clips, two of a recording."""
    folder = root / "datasets/noise"
    folder.mkdir(parents=True)
    for number, file in enumerate(noises(real)):
        samples, rate = read_audio(file)
        audio = resample(torch.from_numpy(samples.mean(0)), rate, 16_000).numpy()
        freesound = f"{file.parent.name[4:]}_Freesound_validated_{number // 2}_{number % 2}"
        name = f"-{number:010d}" if number % 3 == 0 else freesound
        soundfile.write(folder / f"{name}.wav", audio, 16_000, subtype="PCM_16")


def dcase(real: Path, root: Path) -> None:
    """44.1 kHz, 24 bits, 10 s; lists separated by tabs, that of evaluation with Windows line ends and a file too many."""
    (root / "audio").mkdir(parents=True)
    (root / "evaluation_setup").mkdir()
    rows: dict[str, list[tuple[str, str]]] = {"fold1_train": [], "fold1_evaluate": []}
    for number, file in enumerate(noises(real)):
        samples, rate = read_audio(file)
        scene = SCENES[number % len(SCENES)]
        name = f"audio/{scene}-lisbon-{1000 + number}-{number}-{'ab'[number % 2]}.wav"
        soundfile.write(root / name, np.tile(samples.mean(0), 2)[: 10 * rate], rate, subtype="PCM_24")
        rows["fold1_evaluate" if number >= 16 else "fold1_train"].append((name, scene))
    rows["fold1_evaluate"].append(("audio/bus-lisbon-9999-9-a.wav", "bus"))
    for name, listed in rows.items():
        end = "\r\n" if name == "fold1_evaluate" else "\n"
        text = "".join("\t".join(row) + end for row in [("filename", "scene_label"), *listed])
        (root / f"evaluation_setup/{name}.csv").write_bytes(text.encode())


def avdiff(*given: str | Path) -> None:
    main([str(part) for part in given])


def in_new_process(*given: str | Path) -> None:
    command = [sys.executable, "-m", "avdiff.cli", *map(str, given)]
    ran = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def fit(training: str, dataset: str, steps: int, *more: str) -> list[str]:
    """What `make train-...` runs, with tiny networks."""
    files = ("base", f"train/{training}", f"data/{training}/{dataset}", "cluster/local")
    composed = [part for file in files for part in ("--config", str(ROOT / f"experiments/{file}.yaml"))]
    small = ["--data.init_args.batch_size=2", "--data.init_args.seconds=1.0", "--trainer.limit_val_batches=1"]
    small += [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}", "--trainer.accelerator=cpu"]
    return ["fit", *composed, *small, "--trainer.enable_progress_bar=false", *more]


def steps_done(training: str) -> int:
    return torch.load(f"runs/{training}/checkpoints/last.ckpt", weights_only=True)["global_step"]


TINY = {
    "lips": "--model.init_args.encoder.init_args={width: 4, dim: 16, dilations: [1]}",
    "speech": "--model.init_args.prior=avdiff.priors.presets.tiny_speech",
    "noise": "--model.init_args.prior=avdiff.priors.presets.tiny_noise",
}
BOTH = ("--trainer.devices=2", "--trainer.strategy=ddp")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_from_published_layouts_to_separated_lists(
    real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AVDIFF_DATA", str(tmp_path / "data"))
    ids = voxceleb2(real_data, Path("VoxCeleb2"))
    dns(real_data, Path("DNS"))
    dcase(real_data, Path("TAU"))
    with gzip.open("vox-en.id.gz", "wt") as listed:
        listed.write("\n".join(ids) + "\n")

    held_out = ("--val-speakers", "1", "--val-clips", "2", "--seed", "1")  # not of id00001, who has most clips
    avdiff("prepare", "voxceleb2", "VoxCeleb2", "data/voxceleb2", "--list", "vox-en.id.gz", *held_out, "--workers", "2")
    avdiff("prepare", "dns", "DNS", "data/dns", "--workers", "2")
    avdiff("prepare", "dcase", "TAU", "data/dcase", "--workers", "2")
    people = {
        split: {row["speaker"] for row in Pack("data/voxceleb2", split).rows} for split in ("train", "val", "test")
    }
    assert people["test"] == {"id00004", "id00005", "id00006"}
    assert people["train"] | people["val"] == {"id00001", "id00002", "id00003"}
    assert not people["train"] & people["val"]
    assert "id00001" in people["train"]

    for training, dataset in (("lips", "voxceleb2"), ("speech", "voxceleb2"), ("noise", "dns")):
        keep = "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"
        often = ("every_n_train_steps=2", f"dirpath=runs/{training}/checkpoints", "save_last=true", "save_top_k=0")
        more = (TINY[training], keep, *(f"--trainer.callbacks.{setting}" for setting in often))
        more += ("--trainer.callbacks.enable_version_counter=false",)
        avdiff(*fit(training, dataset, 2, *more))
        assert steps_done(training) == 2
        in_new_process(*fit(training, dataset, 4, *more, *BOTH))  # the same training, now in two processes
        assert steps_done(training) == 4
    for kind in ("speech", "noise"):
        avdiff("export", f"runs/{kind}/checkpoints/last.ckpt", f"tiny_{kind}", f"my_{kind}")

    method = (ROOT / "experiments/methods/local_em.yaml").read_text()
    for kind in ("speech", "noise"):
        method = method.replace(f"source: {kind}", f"source: {tmp_path}/my_{kind}")
    Path("method.yaml").write_text(method)
    for noise, lists in (("dns", 5), ("dcase", 9)):
        seconds = ("--mixtures", str(MIXTURES), "--seconds", "2.8")
        avdiff("prepare", "lists", "data/voxceleb2", f"data/{noise}", f"lists/{noise}", *seconds)
        assert len(list(Path("lists", noise).glob("*.jsonl"))) == lists
    for number, file in enumerate(sorted(Path("lists").rglob("*.jsonl"))):
        packs = {"file": str(file), "speech": "data/voxceleb2", "noise": f"data/{file.parent.name}"}
        mixtures = {"class_path": "datamodules.lists.ListFile", "init_args": packs}
        data = {"class_path": "datamodules.mixtures.Mixtures", "init_args": {"mixtures": mixtures}}
        Path("list.yaml").write_text(yaml.safe_dump({"data": data}))
        configs = (ROOT / "experiments/predict.yaml", "method.yaml", "list.yaml")
        predict = ["predict", *(part for config in configs for part in ("--config", str(config)))]
        out = Path("separated", file.stem)
        predict += [f"--trainer.default_root_dir={out}", "--trainer.accelerator=cpu"]
        if number == 0:
            in_new_process(*predict, *BOTH)
        else:
            avdiff(*predict)
        store = SeparationStore(out)
        assert len(store.clips()) == MIXTURES
        assert all(store.read(key).sources.isfinite().all() for key in store.clips())
