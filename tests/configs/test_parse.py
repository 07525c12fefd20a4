"""Every composition of experiments/ that the Makefile and the README name is valid: no unknown or misspelt key."""

from __future__ import annotations

import shlex
import subprocess
from itertools import product
from pathlib import Path

import lightning.pytorch as pl
import pytest
from lightning.pytorch.cli import LightningCLI

ROOT = Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"


class ParseOnly(LightningCLI):
    """Stops before anything is built."""

    def instantiate_classes(self) -> None: ...
    def _run_subcommand(self, subcommand: str) -> None: ...


def parse(subcommand: str, *files: Path) -> LightningCLI:
    return parse_line([subcommand, *(part for file in files for part in ("--config", str(file)))])


def parse_line(arguments: list[str]) -> LightningCLI:
    return ParseOnly(
        pl.LightningModule, pl.LightningDataModule, subclass_mode_model=True, subclass_mode_data=True, args=arguments
    )


def files(pattern: str) -> list[Path]:
    return sorted(EXPERIMENTS.glob(pattern))


BF16 = {"speech", "speech_paper", "noise", "noise_paper", "lips", "vae", "visual_mask"}  # the others train in float32
MIXTURES = {"flowavse", "flowavse_paper", "ravss", "visual_mask"}  # trainings of which many share their data
SHARED = {**dict.fromkeys(MIXTURES, "mixtures"), "ravss_paper": "mixtures_paper"}


def trainings() -> list[tuple[Path, Path, Path]]:
    """Training, data and cluster files that go together."""
    return [
        (train, data, cluster)
        for train in files("train/*.yaml")
        for data in files(f"data/{SHARED.get(train.stem, train.stem)}/*.yaml")
        for cluster in files("cluster/*.yaml")
    ]


def name(case: object) -> str:
    return case.stem if isinstance(case, Path) else str(case)


@pytest.mark.parametrize(("train", "data", "cluster"), trainings(), ids=name)
def test_trainings(train: Path, data: Path, cluster: Path) -> None:
    config = parse("fit", EXPERIMENTS / "base.yaml", train, data, cluster).config
    assert config.fit.model.class_path.startswith("avdiff.lit.")
    assert config.fit.trainer.precision == ("bf16-mixed" if train.stem in BF16 else "32-true")
    assert not config.fit.trainer.sync_batchnorm  # processes of mixtures see different numbers of talkers


def test_a_training_that_stops_early_keeps_its_best_weights() -> None:
    files = (EXPERIMENTS / f"{name}.yaml" for name in ("base", "train/ravss_paper", "data/mixtures_paper/voxceleb2"))
    callbacks = parse("fit", *files).config.fit.trainer.callbacks
    (stop,) = (each.init_args for each in callbacks if each.class_path.endswith("EarlyStopping"))
    kept = [each.init_args for each in callbacks if each.class_path.endswith("ModelCheckpoint")]
    (best,) = (each for each in kept if each.save_top_k == 1)
    assert (best.monitor, best.mode, best.filename) == (stop.monitor, stop.mode, "best")
    assert best.dirpath == kept[0].dirpath  # the first is where StopOnSignal writes


def test_the_command_of_a_short_training_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (line,) = (line for line in Path("experiments/train/short.yaml").read_text().splitlines() if "make " in line)
    make = [*shlex.split(line.removeprefix("#")), "--dry-run", "--silent"]
    recipe = subprocess.run(make, capture_output=True, text=True, check=True).stdout.replace("\\\n", " ")
    fits = [shlex.split(line)[1:] for line in recipe.splitlines() if "avdiff fit" in line]
    lips, speech = (parse_line(fit).config.fit for fit in fits)
    assert (lips.trainer.max_steps, speech.trainer.max_steps) == (2000, 200)
    assert speech.model.init_args.decay_steps == 200


@pytest.mark.parametrize("enrolled", files("train/enrolled/*.yaml"), ids=name)
def test_enrolled_trainings(enrolled: Path) -> None:
    config = parse("fit", EXPERIMENTS / "base.yaml", EXPERIMENTS / "train" / enrolled.name, enrolled).config
    assert config.fit.ckpt_path is None
    assert config.fit.trainer.enable_checkpointing is False


@pytest.mark.parametrize(
    ("method", "data"), list(product(files("methods/*.yaml"), files("benchmarks/*.yaml"))), ids=name
)
def test_methods(method: Path, data: Path) -> None:
    config = parse("predict", EXPERIMENTS / "predict.yaml", method, data).config
    assert config.predict.model.class_path == "avdiff.lit.separation.SeparationModule"
    assert config.predict.return_predictions is False
    assert config.predict.trainer.inference_mode is False


@pytest.mark.parametrize("data", files("data/mixtures/*.yaml"), ids=name)
def test_training_mixtures(data: Path) -> None:
    config = parse("fit", EXPERIMENTS / "base.yaml", ROOT / "tests/configs/toy.yaml", data).config
    assert config.fit.data.init_args.training.class_path == "datamodules.training_mixtures.TrainingMixtures"


def test_a_misspelt_key_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((EXPERIMENTS / "methods/ssnaps.yaml").read_text().replace("sigma_max", "sigma_maxx"))
    with pytest.raises(SystemExit):
        parse("predict", EXPERIMENTS / "predict.yaml", wrong, EXPERIMENTS / "benchmarks/embedded.yaml")
    assert "sigma_maxx" in capsys.readouterr().err
