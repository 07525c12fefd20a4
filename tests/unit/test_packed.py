"""Packs as training data: crops on video frames, their order, and where a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from avdiff.errors import UserError
from datamodules.ledger import Ledger
from datamodules.packed import PackCrops, PackedClips
from datamodules.packs import Clip, Pack, PackWriter
from datamodules.talking_faces import TalkingFaces
from datamodules.voxceleb2 import VoxCeleb2


def pack(folder: Path, *frames: int, split: str = "train") -> Path:
    """Clips of which every sample and pixel tells its clip and video frame: clip c, frame f is (100 c + f) / 8192."""
    writer = PackWriter(folder)
    for clip, count in enumerate(frames):
        place = 100 * clip + np.arange(count)
        mouth = np.broadcast_to((place % 256).astype(np.uint8)[:, None, None], (count, 96, 96))
        audio = np.repeat(place / 8192, 640)
        writer.append(Clip(f"{split}{clip}", audio, {"split": split}, mouth, np.arange(count) % 2 == 0))
    writer.close()
    return folder


def features(folder: Path, name: str, *clips: str) -> None:
    found = Pack(folder)
    ledger = Ledger(folder / "features" / name, "index", ("values",))
    for index, clip in enumerate(found.ids.tolist()):
        if clip in clips:
            values = found.mouth(index)[:, 0, :3].astype("<f2")
            ledger.append([({"id": clip}, {"values": values.tobytes()})])
    (folder / "features" / name / "card.json").write_text(json.dumps({"dim": 3}))


def test_crops_are_cut_on_video_frames_everywhere(tmp_path: Path) -> None:
    crops = PackCrops(Pack(pack(tmp_path, 20, 8, 5)), 8 / 25, random=True)
    starts = set()
    for _ in range(200):
        crop = crops[0]
        frame = crop["audio"].reshape(8, 640) * 8192
        assert (frame == frame[:, :1]).all()
        start = int(frame[0, 0])
        starts.add(start)
        assert torch.equal(frame[:, 0], start + torch.arange(8.0))
        assert torch.equal(crop["visual"][:, 0, 0], start + torch.arange(8, dtype=torch.uint8))
        assert torch.equal(crop["seen"], (start + torch.arange(8)) % 2 == 0)
    assert starts == set(range(13))
    assert crops[1]["audio"][0] == pytest.approx(100 / 8192)
    short = crops[2]
    assert short["audio"].shape == (8 * 640,)
    assert short["audio"][5 * 640 - 1] == pytest.approx(204 / 8192)
    assert not short["audio"][5 * 640 :].any()
    assert not short["visual"][5:].any()
    assert not short["seen"][5:].any()
    assert list(PackCrops(Pack(tmp_path), 0.32, random=False, video=False)[0]) == ["audio"]


def test_features_take_the_place_of_crops(tmp_path: Path) -> None:
    features(pack(tmp_path, 20, 20), "tiny", "train0")
    with pytest.raises(UserError, match=r"lacks 1 of 2 clips, such as train1"):
        PackCrops(Pack(tmp_path), 0.32, random=True, features="tiny")
    with pytest.raises(UserError, match=r"has no feature set 'large'; it has tiny"):
        PackCrops(Pack(tmp_path), 0.32, random=True, features="large")
    (tmp_path / "features" / "tiny" / "index-0000.jsonl").unlink()
    features(tmp_path, "tiny", "train0", "train1")
    crop = PackCrops(Pack(tmp_path), 0.32, random=True, features="tiny")[0]
    assert crop["visual"].dtype == torch.float16
    assert torch.equal(crop["visual"][:, 2].float(), crop["audio"][::640] * 8192)


def test_what_is_not_prepared_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AVDIFF_DATA", str(tmp_path))
    for data in (VoxCeleb2(), TalkingFaces(tmp_path / "faces")):
        with pytest.raises(UserError) as told:
            data.setup("fit")
        for part in (str(tmp_path / data.dataset), "pack.json", f"avdiff prepare {data.dataset}", "AVDIFF_DATA"):
            assert part in str(told.value)
    pack(tmp_path / "voxceleb2", 20)
    with pytest.raises(UserError, match=r"no clip of split 'val'; it has train"):
        VoxCeleb2().setup("fit")


class Watched(pl.LightningModule):
    """Remembers what it was trained on."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.seen: list[list[float]] = []

    def training_step(self, batch: dict[str, Tensor], batch_idx: int) -> Tensor:
        self.seen.append(batch["audio"][:, 0].tolist())
        return self.scale * batch["audio"].mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(folder: Path, data: PackedClips, steps: int) -> list[list[float]]:
    model = Watched()
    last = folder / "last.ckpt"
    trainer = pl.Trainer(
        default_root_dir=folder,
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        limit_val_batches=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[
            pl.callbacks.ModelCheckpoint(folder, save_last=True, every_n_train_steps=1, save_on_train_epoch_end=False)
        ],
    )
    trainer.fit(model, data, ckpt_path=str(last) if last.exists() else None, weights_only=True)
    return model.seen


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("stops", [(3, 10), (5, 7, 10)], ids=["mid epoch", "at an epoch's end"])
def test_a_stopped_run_sees_the_same_clips_at_the_same_places(
    tmp_path: Path, workers: int, stops: tuple[int, ...]
) -> None:
    pack(tmp_path / "pack", *[30] * 10)
    pack(tmp_path / "pack", 20, split="val")

    def data() -> VoxCeleb2:
        return VoxCeleb2(tmp_path / "pack", batch_size=2, seconds=0.32, workers=workers)

    whole = fit(tmp_path / "whole", data(), 10)
    assert len({value for batch in whole for value in batch}) > 15  # other places in the second epoch
    parts = []
    for stop in stops:
        parts += fit(tmp_path / "parts", data(), stop)
    assert parts == whole
