"""Odd settings and damaged clips of a training, each a sentence that names the setting or the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avdiff.errors import UserError
from avdiff.lit.lips import LipReader
from avdiff.lit.nmf import DictionaryModel
from avdiff.lit.score import ScoreModel
from avdiff.lit.vae import VAEModel
from avdiff.nets.visual import LipEncoder
from avdiff.priors.nmf import Dictionary
from avdiff.priors.presets import tiny_noise
from datamodules.clips import ClipFolder, PreparedClips
from datamodules.embedded import EmbeddedNoise
from datamodules.mixtures import Mixtures, ToyMixtures
from datamodules.parts import EmbeddedTalkers, FolderParts
from datamodules.sampling import Draws


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("batch_size", lambda: EmbeddedNoise(batch_size=0)),
        ("workers", lambda: EmbeddedNoise(workers=-1)),
        ("clips", lambda: EmbeddedNoise(clips=0)),
        ("val_clips", lambda: EmbeddedNoise(val_clips=0)),
        ("seconds", lambda: EmbeddedNoise(seconds=-1)),
        ("seconds", lambda: EmbeddedNoise(seconds=float("nan"))),
        ("repeat", lambda: EmbeddedNoise(repeat=0)),
        ("skip", lambda: EmbeddedNoise(skip=-1)),
        ("generators", lambda: EmbeddedNoise(generators=0)),
        ("clips", lambda: EmbeddedTalkers(clips=0)),
        ("workers", lambda: Mixtures(ToyMixtures(), workers=-1)),
        ("batch_size", lambda: Mixtures(ToyMixtures(), batch_size=0)),
        ("empty", lambda: Mixtures(ToyMixtures(clips=0)).predict_dataloader()),
        ("8 training clips", lambda: Draws(8, 3, processes=3)),
        ("learning_rate", lambda: ScoreModel(tiny_noise(), learning_rate=float("nan"))),
        ("learning_rate", lambda: ScoreModel(tiny_noise(), learning_rate=0)),
        ("warmup_steps", lambda: ScoreModel(tiny_noise(), warmup_steps=-1)),
        ("dropout", lambda: ScoreModel(tiny_noise(), dropout=1.5)),
        ("gain_db", lambda: ScoreModel(tiny_noise(), gain_db=(3, -12))),
        ("learning_rate", lambda: LipReader(LipEncoder(4, 8, (1,)), learning_rate=-1)),
        ("updates", lambda: DictionaryModel(Dictionary(2), updates=0)),
        ("dropout", lambda: VAEModel(presets=("audio_vae",), dropout=-0.1)),
    ],
)
def test_an_odd_setting_is_named(name: str, build: Callable[[], object]) -> None:
    with pytest.raises(UserError, match=name):
        build()


def folder(path: Path, **arrays: np.ndarray) -> Path:
    path.mkdir()
    good = {"audio": np.zeros((3, 6400), np.int16), "lengths": np.full(3, 6400)}
    good |= {"mouth": np.zeros((3, 10, 96, 96), np.uint8), "seen": np.ones((3, 10), bool)}
    for name, array in (good | arrays).items():
        np.save(path / f"{name}.npy", array)
    return path


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("audio", np.zeros((3, 6400), np.float32)),
        ("audio", np.zeros(6400, np.int16)),
        ("lengths", np.full(2, 6400)),
        ("lengths", np.full(3, 9000)),
        ("lengths", np.full(3, -1)),
        ("lengths", np.full(3, np.nan)),
        ("mouth", np.zeros((3, 10, 64, 64), np.uint8)),
        ("mouth", np.zeros((2, 10, 96, 96), np.uint8)),
        ("seen", np.zeros((3, 10), np.int64)),
        ("phonemes", np.zeros(3, np.uint8)),
    ],
)
def test_an_odd_array_of_a_clip_folder_is_named(name: str, array: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{name}\.npy"):
        ClipFolder(folder(tmp_path / "clips", **{name: array}), 0.4, False)


@pytest.mark.parametrize("name", ["audio", "lengths", "mouth", "seen"])
@pytest.mark.parametrize("damage", [b"", b"garbage", None])
def test_a_damaged_array_is_named(name: str, damage: bytes | None, tmp_path: Path) -> None:
    file = folder(tmp_path / "clips") / f"{name}.npy"
    file.write_bytes(file.read_bytes()[:-10] if damage is None else damage)
    with pytest.raises(UserError, match=rf"{name}\.npy"):
        ClipFolder(tmp_path / "clips", 0.4, False)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.*audio\.npy"):
        PreparedClips(tmp_path / "nowhere").setup("fit")


@pytest.mark.parametrize("text", ["{", '{"voice": 3, "face": 1}\n', '{"voice": {"variant": "a"}, "face": 1}\n'])
def test_a_damaged_account_of_the_talkers_is_named(text: str, tmp_path: Path) -> None:
    (folder(tmp_path / "clips") / "meta.jsonl").write_text(text)
    with pytest.raises(UserError, match=r"meta\.jsonl"):
        FolderParts(tmp_path / "clips")
