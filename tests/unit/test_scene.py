"""The scene classifier: published widths, features, decision, and training."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import soundfile
import torch

from avdiff.audio.scenes import DCASE2020, ESC10, classes_of
from avdiff.errors import UserError
from avdiff.evaluation import Scoring, score_folder
from avdiff.lit.scene import SceneModule, warm_restarts
from avdiff.metrics.summary import summarise
from avdiff.nets.scene import SceneFCNN, SceneFsFCNN, SceneNet, SceneResNet
from avdiff.scene.ensemble import SceneEnsemble, load_ensemble
from avdiff.scene.features import log_mel, with_differences
from avdiff.scene.fusion import fuse
from datamodules.mixtures import Entry, Mixture, MixtureList
from datamodules.scenes import Esc10Mixtures, Esc10Scenes, esc10_recordings


@pytest.mark.parametrize(
    ("network", "millions"),
    [(SceneResNet(), 13.0), (SceneResNet(3, 24), 3.2), (SceneFCNN(), 11.8), (SceneFsFCNN(), 16.5)],
    ids=["ResNet, ten classes", "ResNet, three", "FCNN", "fsFCNN"],
)
def test_published_sizes(network: SceneNet, millions: float) -> None:
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("kind", [SceneResNet, SceneFCNN, SceneFsFCNN])
def test_any_length_gives_logits(kind: type[SceneNet]) -> None:
    network = kind(10, 6).eval()
    for frames in (165, 423):
        assert network(torch.randn(2, 3, 128, frames)).shape == (2, 10)
    with pytest.raises(ValueError, match="1 classes and width 6"):
        kind(1, 6)


def test_paths_of_the_residual_network_do_not_meet_before_its_end() -> None:
    network = SceneResNet(10, 2).eval()
    x = torch.randn(1, 3, 128, 60)
    y = x.clone()
    y[:, :, 64:] += 1.0
    assert torch.equal(network.low(x[:, :, :64]), network.low(y[:, :, :64]))
    assert not torch.allclose(network(x), network(y))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_features_are_those_published() -> None:
    """Ten seconds make 431 frames, of which the differences leave 423; four seconds 173 and 165."""
    for seconds, frames in ((10, 431), (4, 173)):
        found = log_mel(0.01 * torch.randn(seconds * 44_100))
        assert found.shape == (128, frames)
        assert (float(found.min()), float(found.max())) == (0.0, 1.0)
        assert with_differences(found).shape == (3, 128, frames - 8)
    assert not log_mel(torch.zeros(44_100)).any()
    quiet, loud = (log_mel(level * torch.ones(44_100).uniform_(-1, 1, generator=generator())) for level in (0.1, 0.5))
    torch.testing.assert_close(quiet, loud, atol=1e-3, rtol=0)


def test_differences_of_a_parabola() -> None:
    """A slope over five frames of t² is 2 t, and that of 2 t is 2."""
    x = torch.arange(20.0).square()[None]
    plain, first, second = with_differences(x)
    torch.testing.assert_close(plain, x[:, 4:-4])
    torch.testing.assert_close(first, 2 * torch.arange(4.0, 16.0)[None])
    torch.testing.assert_close(second, torch.full((1, 12), 2.0))


def scores(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.loadtxt(path))


def labels(path: Path) -> list[str]:
    with path.open() as file:
        return [row["scene_label"] for row in csv.DictReader(file, delimiter="\t")]


def test_fusion_reproduces_the_published_accuracies(real_data: Path) -> None:
    """Scores of both kinds are in the order of the ten-class list; the other list has an order of its own."""
    folder = real_data / "dcase_scores"
    fine, coarse = scores(folder / "class10_results_acc0.794.txt"), scores(folder / "class3_results_acc0.932.txt")
    truth = [DCASE2020.fine.index(name) for name in labels(folder / "fold1_evaluate.csv")]
    label = torch.tensor(truth)
    parents = torch.tensor(DCASE2020.parents)

    def accuracy(decided: torch.Tensor, truth: torch.Tensor) -> float:
        return 100 * float((decided == truth).float().mean())

    assert accuracy(fine.argmax(1), label) == pytest.approx(79.39, abs=0.005)
    assert accuracy(coarse.argmax(1), parents[label]) == pytest.approx(93.23, abs=0.005)
    fused = fuse(fine, coarse, DCASE2020.parents)
    assert accuracy(fused.argmax(1), label) == pytest.approx(81.89, abs=0.005)
    torch.testing.assert_close(fused.sum(1), torch.ones(len(fused), dtype=fused.dtype))


def test_a_superclass_decides_between_equal_classes() -> None:
    assert DCASE2020.coarse == ("indoor", "outdoor", "transportation")
    fine = torch.ones(10)
    coarse = torch.tensor([0.1, 0.1, 0.8])
    fused = fuse(fine, coarse, DCASE2020.parents)
    best = [DCASE2020.fine[i] for i in fused.topk(3).indices.sort().values.tolist()]
    assert best == ["bus", "metro", "tram"]


def test_classes_of_scenes() -> None:
    assert classes_of(["park", "tram"]) is DCASE2020
    assert classes_of(["rain"]) is ESC10
    assert sorted(map(len, (ESC10.fine, ESC10.coarse))) == [3, 10]
    with pytest.raises(UserError, match="moon, park are of no classifier"):
        classes_of(["park", "moon"])


def test_the_rate_rises_at_every_restart() -> None:
    rates = [warm_restarts(epoch, (3, 7, 15), 1e-4) for epoch in (0, 1.5, 2.999, 3, 6.999, 7, 15, 30.999)]
    assert rates == pytest.approx([1, 0.50005, 1e-4, 1, 1e-4, 1, 1, 1e-4], abs=1e-3)


def tones(folder: Path) -> Path:
    """A stand-in for ESC-10: five clips a class, a tone or noise of its own."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(ESC10.fine, start=1):
        (folder / f"{number:03d}-{name}").mkdir(parents=True)
        for clip in range(9):
            fold = 1 + clip % 3
            wave = np.sin(np.arange(44_100) * 0.02 * number) + 0.05 * rng.standard_normal(44_100)
            soundfile.write(folder / f"{number:03d}-{name}" / f"{fold}-{clip}.ogg", 0.3 * wave, 44_100)
    return folder


def test_a_fold_is_held_out(tmp_path: Path) -> None:
    found = esc10_recordings(tones(tmp_path), test_fold=3, val_share=3)
    assert len(found) == 90
    assert all((item.split == "test") == item.path.name.startswith("3-") for item in found)
    assert sum(item.split == "val" for item in found) == 20
    with pytest.raises(UserError, match="is not ESC-10 with a fold 3"):
        esc10_recordings(tmp_path / "001-baby_cry")


def test_mixtures_with_other_recordings_are_told_apart(tmp_path: Path) -> None:
    first, other = (Esc10Mixtures(tones(tmp_path / str(fold)), clips=3, test_fold=fold) for fold in (3, 2))
    assert first.entries() == other.entries()
    assert all(first.version(i) != other.version(i) for i in range(3))
    assert Esc10Mixtures(tmp_path / "3", clips=1).version(0) == first.version(0)


@pytest.mark.slow
def test_it_learns_tones_and_comes_back_from_its_checkpoints(tmp_path: Path) -> None:
    data = Esc10Scenes(tones(tmp_path / "sounds"), batch_size=10, cache=tmp_path / "cache")
    data.seconds = 1.0
    pl.seed_everything(0, verbose=False)
    for name, classes, superclasses in (("fine", 10, False), ("coarse", 3, True)):
        network = SceneFCNN(classes, 8, dropout=0.0)
        module = SceneModule(network, superclasses, restarts=(40,), mixup=0.1, frames=30, masked_bins=2)
        trainer = pl.Trainer(
            accelerator="cpu", max_epochs=40, logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(module, datamodule=data)
        trainer.save_checkpoint(tmp_path / "runs" / name / "checkpoints" / "last.ckpt")
    assert len(list((tmp_path / "cache").iterdir())) == 60
    ensemble = load_ensemble(tmp_path / "runs", ESC10)
    held_out = [item for item in esc10_recordings(tmp_path / "sounds") if item.split == "test"]
    right = [ensemble.name(torch.from_numpy(soundfile.read(item.path)[0]), 44_100) == item.scene for item in held_out]
    assert sum(right) >= 15, "of 30 tones of another fold, where chance is 3"
    assert ensemble.model == load_ensemble(tmp_path / "runs", ESC10).model
    with pytest.raises(UserError, match="0 networks of classes and 0 of superclasses"):
        load_ensemble(tmp_path, ESC10)


def test_a_classifier_of_other_scenes_is_refused(tmp_path: Path) -> None:
    for name, classes, superclasses in (("fine", 10, False), ("coarse", 3, True)):
        network = SceneFCNN(classes, 2)
        told = {
            "network": "SceneFCNN", "classes": classes, "width": 2, "superclasses": superclasses,
            "names": list(ESC10.coarse if superclasses else ESC10.fine),
        }  # fmt: skip
        state = {f"network.{key}": value for key, value in network.state_dict().items()}
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        torch.save({"scene": told, "state_dict": state}, tmp_path / name / "checkpoints" / "last.ckpt")
    assert load_ensemble(tmp_path, ESC10).classes == ESC10
    with pytest.raises(UserError, match="tells living, machine, nature apart, not indoor, outdoor, transportation"):
        load_ensemble(tmp_path, DCASE2020)


class Park(MixtureList):
    """Noise that is a constant: its sign is its scene."""

    def entries(self) -> list[Entry]:
        return [Entry(f"park/{i}", ("speaker", "noise")) for i in range(3)]

    def scenes(self) -> dict[str, str]:
        return {"park/0": "park", "park/1": "tram", "park/2": "bus"}

    def __getitem__(self, index: int) -> Mixture:
        talker = torch.full((100,), -3.0)
        noise = torch.full((100,), (1.0, -1.0, 1.0)[index])
        return Mixture(f"park/{index}", "park", ("speaker", "noise"), torch.stack([talker, noise]), talker + noise)


class Signs(SceneEnsemble):
    """Positive is a park, negative a tram."""

    def __init__(self) -> None:
        self.model = "signs"

    def transcribe(self, clips):
        return ["park" if clip.mean() > 0 else "tram" for clip in clips]


def test_scenes_of_mixtures_estimates_and_residuals(tmp_path: Path) -> None:
    """The third noise is not recognised even when clean: the selected rows leave it out."""
    for index, (talker, noise) in enumerate([(-3.0, 0.5), (-3.0, 0.5), (-1.0, 0.5)]):
        for name, value in (("speaker1", talker), ("noise", noise)):
            (tmp_path / f"park/{index}").mkdir(parents=True, exist_ok=True)
            soundfile.write(tmp_path / f"park/{index}" / f"{name}.wav", np.full(100, value), 16_000, "FLOAT")
    rows = score_folder(tmp_path, Park(), Scoring({}, scenes=Signs())).rows
    means = {mean.metric: (mean.mixture, mean.estimate, mean.sources) for mean in summarise(rows)}
    # mixtures -2, -4, -2 are trams; estimates are parks; mixture minus talker: 1, -1, -1
    assert means["scene"] == pytest.approx((1 / 3, 1 / 3, 3))
    assert means["scene_selected"] == pytest.approx((1 / 2, 1 / 2, 2))
    assert means["scene_residual"] == pytest.approx((1 / 3, 2 / 3, 3))
    assert means["scene_residual_selected"] == pytest.approx((1 / 2, 1.0, 2))
    assert not any(math.isnan(row.estimate) for row in rows if row.metric.startswith("scene"))


def test_what_is_left_without_a_talker_who_is_missing_has_a_reason(tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"park/{index}").mkdir(parents=True)
        soundfile.write(tmp_path / f"park/{index}" / "noise.wav", np.full(100, 0.5), 16_000, "FLOAT")
    rows = {row.metric: row for row in score_folder(tmp_path, Park(), Scoring({}, scenes=Signs())).rows}
    assert not math.isnan(rows["scene"].estimate)
    assert math.isnan(rows["scene_residual"].estimate)
    assert rows["scene_residual"].reason == "there is no estimate"
