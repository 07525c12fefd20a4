"""Trees as DNS and DCASE are published, of real recordings: prepared by the commands, and listed."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
import soundfile
import torch

from avdiff.audio.io import read_audio, resample
from avdiff.cli import main
from datamodules.dcase import DCASE, NAME
from datamodules.dns import DNS
from datamodules.lists import ListFile
from datamodules.packs import Pack
from tests.packs import write_speech

SCENES = ("park", "street_traffic", "tram")


@pytest.fixture
def recordings(real_data: Path) -> list[Path]:
    """Eight of each of three classes of ESC-10."""
    classes = sorted(path for path in (real_data / "esc10").iterdir() if path.is_dir())[1:4]
    return [file for folder in classes for file in sorted(folder.glob("*.ogg"))[:8]]


def convert(file: Path, to: Path, rate: int, subtype: str) -> None:
    samples, own = read_audio(file)
    to.parent.mkdir(parents=True, exist_ok=True)
    audio = resample(torch.from_numpy(samples.mean(axis=0)), own, rate)
    soundfile.write(to, audio.numpy(), rate, subtype=subtype)


def test_real_noise_in_published_layouts(recordings: list[Path], tmp_path: Path) -> None:
    for number, file in enumerate(recordings):
        name = f"-{number:010d}" if number % 2 else f"fan_Freesound_validated_{number // 4}_{number % 4}"
        convert(file, tmp_path / "dns/datasets/noise" / f"{name}.wav", 16_000, "PCM_16")
    rows: dict[str, list[str]] = {"fold1_train": ["filename\tscene_label"], "fold1_evaluate": ["filename\tscene_label"]}
    segments = count()
    for number, file in enumerate(recordings):
        scene, place = SCENES[number // 8], number % 8
        name = f"audio/{scene}-lyon-{place}-{next(segments)}-a.wav"
        convert(file, tmp_path / NAME / name, 44_100, "PCM_24")
        rows["fold1_evaluate" if place < 3 else "fold1_train"].append(f"{name}\t{scene}")
    (tmp_path / NAME / "evaluation_setup").mkdir()
    for name, lines in rows.items():
        (tmp_path / NAME / "evaluation_setup" / f"{name}.csv").write_text("\r\n".join(lines) + "\r\n", newline="")

    main(["prepare", "dns", str(tmp_path / "dns"), str(tmp_path / "packs/dns"), "--workers", "0"])
    main(["prepare", "dcase", str(tmp_path / NAME), str(tmp_path / "packs/dcase"), "--workers", "0"])
    assert len(Pack(tmp_path / "packs/dns")) == len(Pack(tmp_path / "packs/dcase")) == 24
    for data in (DNS(tmp_path / "packs/dns", batch_size=4), DCASE(tmp_path / "packs/dcase", batch_size=4)):
        data.setup("fit")
        assert next(iter(data.train_dataloader()))["audio"].square().mean() > 0

    speech = write_speech(tmp_path / "packs/people", people=4, clips=2, frames=105)
    main(["prepare", "lists", str(speech), str(tmp_path / "packs/dcase"), str(tmp_path / "lists"), "--mixtures", "6"])
    found = ListFile(tmp_path / "lists/scenes-5dB_dcase.jsonl", speech, tmp_path / "packs/dcase")
    assert [line["sources"][-1]["scene"] for line in found.lines] == [*SCENES, *SCENES]
    assert found[5].mixture.shape == (64_000,)
