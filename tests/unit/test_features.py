"""Feature sets: the values of the encoder, whatever was there before, and a card that says what made them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from avdiff.cli import main
from avdiff.errors import UserError
from avdiff.lit.features import Features
from avdiff.nets.braven import BRAVEn
from avdiff.nets.visual import VisualEncoder
from datamodules.features import pretraining
from datamodules.packs import Clip, Pack, PackWriter

ROOT = Path(__file__).parents[2]
OPTIONS = ("--accelerator", "cpu", "--workers", "0", "--devices", "1", "--name", "tiny")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = BRAVEn(layers=2, dim=16, heads=2, hidden=24, width=4)
    file = tmp_path / "vsr_prelrs3vox2_tiny.pth"
    torch.save({f"encoder.{name}": value for name, value in network.state_dict().items()}, file)
    return file


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    writer = PackWriter(tmp_path / "pack", settings={"dataset": "voxceleb2"})
    for name, frames in {"a": 30, "b": 41, "c": 30, "d": 30, "sound": 0}.items():
        mouth = rng.integers(0, 256, (frames, 96, 96), dtype=np.uint8)
        writer.append(Clip(name, rng.normal(0, 0.1, 30 * 640), {}, mouth if frames else None))
    writer.close()
    return tmp_path / "pack"


def test_features_are_the_encoders_in_half_precision(pack: Path, checkpoint: Path) -> None:
    from avdiff.nets.imports import load_braven

    command = ["prepare", "features", str(pack), "--checkpoint", str(checkpoint), *OPTIONS, "--batch", "2"]
    main(command)
    network, found = load_braven(checkpoint), Pack(pack)
    for index in range(4):
        with torch.inference_mode():
            whole = network(torch.from_numpy(found.mouth(index))[None])[0]
        values = found.features(index, "tiny")
        assert values.dtype == np.float16
        assert values == pytest.approx(whole.numpy(), abs=2e-3)
        assert np.array_equal(found.features(index, "tiny", 5, 9), values[5:14])
    assert found.without_features("tiny").tolist() == []

    # What a killed run left half done is made again, and nothing else.
    folder = pack / "features" / "tiny"
    index = folder / "index-0000.jsonl"
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:2]) + lines[2][:-5])
    before, values = (folder / "values-0000-000.bin").read_bytes(), Pack(pack).features(0, "tiny")
    main(command)
    assert sorted(index.read_bytes().splitlines(keepends=True)) == sorted(lines)
    assert sorted((folder / "values-0000-000.bin").read_bytes()) == sorted(before)
    assert np.array_equal(Pack(pack).features(0, "tiny"), values)
    main(command)
    assert index.read_bytes().count(b"\n") == 4


def test_the_card_says_what_made_them_and_what_it_had_seen(
    pack: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["prepare", "features", str(pack), "--checkpoint", str(checkpoint), *OPTIONS]
    main(command)
    card = Pack(pack).feature_card("tiny")
    assert card["checkpoint"] == "vsr_prelrs3vox2_tiny.pth"
    assert card["sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert card["dim"] == 16
    assert card["pretraining"].startswith("yes: by its name")
    text = (pack / "features" / "tiny" / "card.md").read_text()
    assert card["sha256"] in text
    assert "test part is not published" in text
    with pytest.raises(SystemExit):
        main([*command, "--precision", "bf16-mixed"])
    assert "made with precision = '32-true'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "dataset", "answer"),
    [
        ("vsr_prelrs3vox2avs_large_ftlrs3vox2avs_selftrain_braven.pth", "voxceleb2", "yes"),
        ("vsr_prelrs3_large_ftlrs3_braven.pth", "voxceleb2", "no"),
        ("vsr_prelrs3vox2_large.pth", "faces", "not known"),
        ("weights.pth", "voxceleb2", "not known"),
    ],
)
def test_what_a_pretraining_saw_is_said_as_far_as_it_is_known(name: str, dataset: str, answer: str) -> None:
    assert pretraining(name, dataset).startswith(f"{answer}:")


class Context(VisualEncoder):
    """Of a frame its number, and the first and last that were shown with it."""

    dim = 3

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        number = crops[:, :, 0, 0].float()
        return torch.stack([number, number[:, :1].expand_as(number), number[:, -1:].expand_as(number)], dim=-1)


def test_a_long_clip_is_cut_as_separation_cuts_it() -> None:
    mouth = torch.arange(250, dtype=torch.uint8)[None, :, None, None].expand(1, 250, 96, 96)
    features = Features(Context(), seconds=6, overlap=2)(mouth)[0]
    assert torch.equal(features[:, 0], torch.arange(250.0))
    assert features[:125, 1:].unique(dim=0).tolist() == [[0, 149]]  # 0 to 6 s
    assert features[125:, 1:].unique(dim=0).tolist() == [[100, 249]]  # 4 to 10 s
    assert torch.equal(Features(Context())(mouth)[0, :, 2], torch.full((250,), 249.0))


def test_nothing_to_make_features_of(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writer = PackWriter(tmp_path / "noise")
    writer.append(Clip("a", np.ones(640)))
    writer.close()
    for folder, sentence in {"noise": "has no clip with video", "nowhere": "is no prepared data"}.items():
        with pytest.raises(SystemExit):
            main(["prepare", "features", str(tmp_path / folder), "--checkpoint", str(checkpoint), *OPTIONS])
        assert sentence in capsys.readouterr().err
    with pytest.raises(UserError, match="has no feature set 'tiny'"):
        Pack(tmp_path / "noise").features(0, "tiny")


@pytest.mark.slow
def test_two_processes_share_the_clips(pack: Path, checkpoint: Path) -> None:
    command = ["prepare", "features", str(pack), "--checkpoint", str(checkpoint), "--batch", "1"]
    options = ["--accelerator", "cpu", "--workers", "0", "--devices"]
    for devices, name in (("1", "one"), ("2", "two")):
        subprocess.run(
            [sys.executable, "-m", "avdiff.cli", *command, *options, devices, "--name", name],
            check=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    found = Pack(pack)
    ranks = [(pack / "features" / "two" / f"index-000{rank}.jsonl").read_text() for rank in range(2)]
    assert sorted(json.loads(line)["id"] for text in ranks for line in text.splitlines()) == ["a", "b", "c", "d"]
    assert all(text.count("\n") == 2 for text in ranks)
    for index in range(4):
        assert np.array_equal(found.features(index, "one"), found.features(index, "two"))
