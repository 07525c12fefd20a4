"""Training as users do it: composed files, stop, go on, export, load."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from avdiff.cli import main
from avdiff.priors.nmf import load_dictionary
from avdiff.priors.store import load_prior
from avdiff.priors.vae import PRESETS, load_vae
from avdiff.separators.store import load_ravss
from tests.cli.tiny_clips import TinyClips
from tests.packs import write_noise, write_speech

ROOT = Path(__file__).parents[2]
DATA = {
    "class_path": "tests.cli.tiny_clips.TinyClips",
    "init_args": {"clips": 8, "val_clips": 2, "seconds": 0.4, "batch_size": 4},
}


def fit(monkeypatch: pytest.MonkeyPatch, training: str, *arguments: str, data: dict = DATA) -> None:
    Path("data.yaml").write_text(yaml.safe_dump({"data": data}))
    configs = (ROOT / "experiments/base.yaml", ROOT / f"experiments/train/{training}.yaml", "data.yaml")
    composed = [part for config in configs for part in ("--config", str(config))]
    common = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.num_sanity_val_steps=0"]
    monkeypatch.setattr(
        sys, "argv", ["avdiff", "fit", *composed, *common, "--trainer.val_check_interval=2", *arguments]
    )
    main()


def checkpoint(folder: str) -> dict:
    return torch.load(f"{folder}/checkpoints/last.ckpt", weights_only=True)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_noise_prior_trains_stops_goes_on_and_is_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    preset = "--model.init_args.prior=avdiff.priors.presets.tiny_noise"
    every = "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"
    save = ("--trainer.callbacks.dirpath=runs/noise/checkpoints", "--trainer.callbacks.save_last=true")
    fit(
        monkeypatch, "noise", preset, "--trainer.max_steps=2", every, *save, "--trainer.callbacks.every_n_train_steps=2"
    )
    first = checkpoint("runs/noise")
    assert first["global_step"] == 2
    fit(
        monkeypatch, "noise", preset, "--trainer.max_steps=4", every, *save, "--trainer.callbacks.every_n_train_steps=2"
    )
    second = checkpoint("runs/noise")
    assert second["global_step"] == 4
    name = "prior.network.output.weight"
    assert not torch.equal(first["state_dict"][name], second["state_dict"][name])

    monkeypatch.setattr(sys, "argv", ["avdiff", "export", "runs/noise/checkpoints/last.ckpt", "tiny_noise", "exported"])
    main()
    prior = load_prior("exported")
    expected = second["state_dict"][name].half().float()
    assert torch.equal(prior.network.output.weight, expected)


def test_a_dictionary_is_learned_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rank = "--model.init_args.dictionary.init_args.rank=4"
    fit(monkeypatch, "nmf", rank, "--trainer.max_steps=2")
    assert load_dictionary("runs/nmf/dictionary").rank == 4


def test_vaes_are_learned_from_mixtures_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = TinyClips()
    for split in ("train", "val"):
        tiny.generate(split, 4)
    prepared = [{"class_path": "datamodules.parts.Prepared", "init_args": {"folder": "clips"}}]
    mixtures = {
        "speech": prepared,
        "noise": prepared,
        "talkers": [1, 1],
        "seconds": 0.4,
        "mixtures": 4,
        "val_mixtures": 2,
    }
    training = {"class_path": "datamodules.training_mixtures.TrainingMixtures", "init_args": mixtures}
    data = {"class_path": "datamodules.mixtures.Mixtures", "init_args": {"batch_size": 2, "training": training}}
    fit(monkeypatch, "vae", "--trainer.max_steps=2", "--trainer.precision=32-true", data=data)
    for name in PRESETS:
        assert load_vae(f"runs/vae/weights/{name}").stft.n_fft == 1024


def test_lips_are_learned_before_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """`train-speech` in small: the encoder of the first training is the frozen one of the second."""
    lips = "--model.init_args.encoder.init_args={width: 4, dim: 16, dilations: [1]}"
    fit(monkeypatch, "lips", lips, "--trainer.max_steps=2")
    preset = "--model.init_args.prior=avdiff.priors.presets.tiny_speech"
    fit(monkeypatch, "speech", preset, "--trainer.max_steps=2", "--trainer.limit_val_batches=0")
    learned = load_file("runs/lips/encoder.safetensors")
    state = torch.load(next(Path("runs/speech/checkpoints").glob("*.ckpt")), weights_only=True)["state_dict"]
    assert all(torch.allclose(state[f"prior.{name}"], value, atol=1e-6) for name, value in learned.items())


def test_a_supervised_system_trains_on_drawn_mixtures(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "ravss"
    write_speech(Path("people"), people=4, clips=2, splits=("train", "val"))
    write_noise(Path("dns"), clips=4, splits=("train", "val"))
    part = "datamodules.parts.Prepared"
    drawn = {
        "speech": [{"class_path": part, "init_args": {"folder": "people"}}],
        "noise": [{"class_path": part, "init_args": {"folder": "dns"}}],
        **{"talkers": [1, 2], "seconds": 0.4, "mixtures": 8, "val_mixtures": 2, "dropout": 0.5},
    }
    training = {"class_path": "datamodules.training_mixtures.TrainingMixtures", "init_args": drawn}
    data = {"class_path": "datamodules.mixtures.Mixtures", "init_args": {"batch_size": 2, "training": training}}
    preset = f"--model.init_args.network=avdiff.separators.presets.tiny_{name}"
    every = f"--trainer.callbacks.dirpath=runs/{name}/checkpoints"
    save = (
        "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint",
        every,
        "--trainer.callbacks.save_last=true",
    )
    lips = "--model.init_args.lips=null"
    fit(monkeypatch, name, preset, lips, "--trainer.max_steps=2", *save, data=data)
    export = ["avdiff", "export", f"runs/{name}/checkpoints/last.ckpt", f"tiny_{name}", "exported"]
    monkeypatch.setattr(sys, "argv", export)
    main()
    learned = checkpoint(f"runs/{name}")["state_dict"]
    exported = load_ravss("exported").state_dict()
    assert exported.keys() == {key.removeprefix("network.") for key in learned}
    torch.testing.assert_close(
        exported["encoder.temporal.0.conv0.bias"], learned["network.encoder.temporal.0.conv0.bias"]
    )
