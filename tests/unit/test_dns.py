"""DNS noise from its published layouts, split by source recording."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avdiff.cli import main
from avdiff.errors import UserError
from datamodules.dns import DNS, SPLIT, dns_items, noise_folder, origin, split_by_source
from datamodules.packs import Pack, failures

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + 64 * "a" + "\nsize 320044\n"


def tone(file: Path, rate: int, seconds: float = 1.5, level: float = 0.1) -> None:
    """1 kHz."""
    file.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(file, level * np.sin(2 * np.pi * 1000 * np.arange(int(rate * seconds)) / rate), rate)


def test_the_recording_of_a_clip_is_in_its_name() -> None:
    assert origin("---1_cCGK4M") == ("youtube/---1_cCGK4M", "")
    assert origin("-0DLPzsiXXE_2") == origin("-0DLPzsiXXE") == ("youtube/-0DLPzsiXXE", "")
    assert origin("squeak_squeakyChair_Freesound_validated_31417_0") == ("freesound/31417", "squeak_squeakyChair")
    assert origin("door_Freesound_validated_11_1")[0] != origin("door_Freesound_validated_1_11")[0]
    assert origin("1-17367-A-10") == ("1-17367-A-10", "")  # neither: a recording of its own
    assert origin("noise_file_00001")[0] != origin("noise_file_00002")[0]


def test_splits_are_of_the_papers_sizes_and_share_no_recording() -> None:
    """As many clips as the published set has: 54,698 of YouTube, one a recording, 10,604 of Freesound, up to 12 each."""
    names = [f"{i:011d}" for i in range(54_698)]
    names += [f"door_Freesound_validated_{i // 12}_{i % 12}" for i in range(10_604)]
    sources = {name: origin(name)[0] for name in names}
    splits = split_by_source(sources)
    assert Counter(splits.values()) == SPLIT
    found: dict[str, set[str]] = {}
    for name, split in splits.items():
        found.setdefault(sources[name], set()).add(split)
    assert all(len(of) == 1 for of in found.values())
    assert split_by_source(dict(reversed(sources.items()))) == splits
    held = {name for name, split in splits.items() if split == "test"}
    assert any("Freesound" in name for name in held)


def test_smaller_trees_keep_the_proportions() -> None:
    splits = split_by_source({f"{i:011d}": f"{i}" for i in range(6500)})
    assert Counter(splits.values()) == {"train": 6400, "test": 90, "val": 10}
    assert Counter(split_by_source({f"{i}": f"{i}" for i in range(5)}).values()) == {"train": 3, "test": 1, "val": 1}


def test_recordings_keep_their_split_when_the_tree_grows(tmp_path: Path) -> None:
    """New clips of a recording go where it is; a process that begins later than another finds the same splits."""
    names = [f"fan_Freesound_validated_{i}_{j}" for j in range(3) for i in range(1000, 1040)]
    for part in (names[:50], names):
        for name in part:
            tone(tmp_path / "dns/noise" / f"{name}.wav", 8000, seconds=1.1)
        main(["prepare", "dns", str(tmp_path / "dns"), str(tmp_path / "out"), "--workers", "0"])
    found: dict[str, set[str]] = {}
    for row in Pack(tmp_path / "out").rows:
        found.setdefault(row["source"], set()).add(row["split"])
    assert len(found) == 40
    assert all(len(splits) == 1 for splits in found.values())
    sources = {name: origin(name)[0] for name in names}
    first = split_by_source(sources)
    late = {sources[name]: first[name] for name in sorted(first)[::7]}
    assert split_by_source(sources, known=late) == first


@pytest.mark.parametrize(("folder", "rate"), [("datasets/noise", 16_000), ("datasets_fullband/noise_fullband", 48_000)])
def test_both_layouts_are_prepared_and_what_is_wrong_is_counted(
    folder: str, rate: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "dns" / folder
    for name in ("---1_cCGK4M", "-0DLPzsiXXE", "door_Freesound_validated_7_0", "door_Freesound_validated_7_1", "zz"):
        tone(where / f"{name}.wav", rate)
    tone(where / "silent-----.wav", rate, level=0)
    tone(where / "short------.wav", rate, seconds=0.5)
    (where / "pointer----.wav").write_text(POINTER)
    (where / "damaged----.wav").write_bytes(b"RIFF and so on, but no sound at all")
    main(["prepare", "dns", str(tmp_path / "dns"), str(tmp_path / "out"), "--workers", "0"])
    pack = Pack(tmp_path / "out")
    assert set(pack.ids) == {
        *("---1_cCGK4M", "-0DLPzsiXXE", "door_Freesound_validated_7_0", "door_Freesound_validated_7_1", "zz")
    }
    assert failures(tmp_path / "out") == {
        "silent-----": "silent",
        "short------": "too short",
        "pointer----": "git-LFS pointer",
        "damaged----": "cannot be read",
    }
    assert "left out, git-LFS pointer: 1" in capsys.readouterr().out
    audio = pack.audio(0)
    assert len(audio) == 24_000
    expected = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(24_000) / 16_000)
    assert np.abs(audio - expected)[200:-200].max() < 1e-4
    rows = {row["id"]: row for row in pack.rows}
    assert rows["door_Freesound_validated_7_0"]["source"] == "freesound/7"
    assert rows["door_Freesound_validated_7_0"]["label"] == "door"
    assert rows["door_Freesound_validated_7_0"]["split"] == rows["door_Freesound_validated_7_1"]["split"]


def test_what_is_no_dns_tree_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere is not a folder"):
        noise_folder(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no DNS noise.*datasets/noise/\*.wav"):
        noise_folder(tmp_path)
    for name in ("a", "b"):
        file = tmp_path / "datasets/noise" / f"{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(POINTER)
    with pytest.raises(UserError, match="git-LFS pointers instead of sound; fetch the files with git lfs pull"):
        dns_items(tmp_path)
    tone(tmp_path / "datasets_fullband/noise_fullband/a.wav", 48_000)
    with pytest.raises(UserError, match="share recordings; give the one that is wanted"):
        dns_items(tmp_path)


def test_the_prior_hears_crops_and_a_missing_data_set_is_one_sentence(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        tone(tmp_path / "datasets/noise" / f"{name}.wav", 16_000, seconds=3)
    main(["prepare", "dns", str(tmp_path), str(tmp_path / "dns"), "--workers", "0"])
    data = DNS(tmp_path / "dns", batch_size=2, seconds=1.0)
    data.setup("fit")
    (batch,) = list(data.train_dataloader())
    assert set(batch) == {"audio"}
    assert batch["audio"].shape == (2, 16_000)
    assert next(iter(data.val_dataloader()))["audio"].shape == (1, 64_000)
    with pytest.raises(UserError, match=r"no prepared data set in .*avdiff prepare dns.*AVDIFF_DATA"):
        DNS(tmp_path / "nowhere").setup("fit")
