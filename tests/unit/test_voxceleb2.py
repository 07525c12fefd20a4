"""VoxCeleb2's lists, splits and layout."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from avdiff.cli import main
from avdiff.errors import UserError
from datamodules import talkers
from datamodules.packs import Clip, Pack, PackWriter, failures
from datamodules.talking_faces import items as face_items
from datamodules.voxceleb2 import Splits, all_clips, items, read_genders, read_list, speaker
from tests.media import write_media
from tests.unit.test_recording import Squares
from tests.unit.test_talkers import moving, noise

IDS = [
    f"{part}/mp4/id{who:05d}/video-{video}_/{clip:05d}"
    for part, people in (("dev", range(20)), ("test", range(20, 24)))
    for who in people
    for video in range(3)
    for clip in range(4)
]


def test_lists_are_plain_or_packed(tmp_path: Path) -> None:
    text = "\n".join([*reversed(IDS), IDS[0], ""])
    (tmp_path / "plain.id").write_text(text)
    (tmp_path / "vox-en.id.gz").write_bytes(gzip.compress(text.replace("\n", "\r\n").encode()))
    assert read_list(tmp_path / "plain.id") == read_list(tmp_path / "vox-en.id.gz") == sorted(IDS)
    (tmp_path / "wrong.id").write_text(f"{IDS[0]}\nid00012/21Uxsk56VDQ/00001\n")
    with pytest.raises(UserError, match=r"line 2 of .* expected an id such as dev/mp4/id05668/XWKC1JUM_ow/00053"):
        read_list(tmp_path / "wrong.id")
    (tmp_path / "broken.gz").write_bytes(gzip.compress(text.encode())[:50])
    with pytest.raises(UserError, match="damaged gzip"):
        read_list(tmp_path / "broken.gz")


def test_no_speaker_is_in_two_splits() -> None:
    splits = Splits(test=10, val=12, speakers=4)
    chosen = splits.of(IDS)
    assert Counter(chosen.values()) == {"train": 16 * 12, "val": 12, "test": 10}
    people = {
        split: {speaker(name) for name, of in chosen.items() if of == split} for split in ("train", "val", "test")
    }
    assert not people["train"] & people["val"]
    assert len(people["train"]) == 16
    assert all(name.startswith("test/") for name, split in chosen.items() if split == "test")
    per_speaker = Counter(speaker(name) for name, split in chosen.items() if split != "train")
    assert sorted(per_speaker.values()) == [2, 2, 3, 3, 3, 3, 3, 3]
    assert splits.of(reversed(IDS)) == chosen
    assert Splits(test=10, val=12, speakers=4, seed=1).of(IDS) != chosen
    # Pinned: whoever prepares the same list has the same clips, now and later.
    assert sorted(people["val"]) == ["id00000", "id00007", "id00013", "id00018"]
    with pytest.raises(UserError, match="smaller --val-speakers"):
        Splits(speakers=20).of(IDS)


def test_genders_of_the_published_table(tmp_path: Path) -> None:
    (tmp_path / "vox2_meta.csv").write_text(
        "VoxCeleb2 ID ,VGGFace2 ID ,Gender,Set \nid00012 ,n000012 ,m ,dev \nid00017 ,n000017 ,F ,test \n"
    )
    (tmp_path / "tabs.csv").write_text("VoxCeleb2 ID\tVGGFace2 ID\tGender\tSet\nid00012\tn000012\tm\tdev\n")
    assert read_genders(tmp_path / "vox2_meta.csv") == {"id00012": "m", "id00017": "f"}
    assert read_genders(tmp_path / "tabs.csv") == {"id00012": "m"}
    (tmp_path / "other.csv").write_text("a,b\n")
    with pytest.raises(UserError, match="names no column Gender"):
        read_genders(tmp_path / "other.csv")


def test_the_published_layout_is_prepared_by_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(talkers, "_detector", lambda faces: Squares())
    root, names = tmp_path / "VoxCeleb2", IDS[:3] + IDS[12:14] + IDS[-2:]
    write_media(tmp_path / "film.mp4", frames=moving(30), audio=noise(1.2))
    for name in names[1:]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / f"{name}.mp4").write_bytes((tmp_path / "film.mp4").read_bytes())
    (tmp_path / "list").write_text("\n".join(names))
    (tmp_path / "vox2_meta.csv").write_text("VoxCeleb2 ID ,VGGFace2 ID ,Gender,Set \nid00023 ,n1 ,f ,test \n")
    command = ["prepare", "voxceleb2", str(root), str(tmp_path / "pack"), "--list", str(tmp_path / "list")]
    options = [
        "--genders",
        str(tmp_path / "vox2_meta.csv"),
        "--workers",
        "0",
        "--val-speakers",
        "1",
        "--test-clips",
        "1",
    ]
    main([*command, *options])
    pack = Pack(tmp_path / "pack")
    assert set(pack.ids.tolist()) < set(names[1:])
    assert failures(tmp_path / "pack") == {names[0]: "missing file"}
    (row,) = Pack(tmp_path / "pack", "test").rows
    assert row["id"] in names[-2:]
    assert row["speaker"] == "id00023"
    assert row["gender"] == "f"
    assert row["source"] == "video-2_"
    assert row["frames"] == 30
    assert row["samples"] == 30 * 640
    assert "6 clips prepared" not in capsys.readouterr().out
    main([*command, *options])
    told = capsys.readouterr().out
    assert "0 of 6 files prepared, 5 were there before" in told
    assert "left out, missing file: 1" in told
    assert all_clips(root) == sorted(names[1:])
    with pytest.raises(UserError, match=r"dev/mp4/id00012/21Uxsk56VDQ/00001.mp4"):
        items(tmp_path, names, Splits(speakers=1), {})


def test_speakers_of_any_folder_are_its_folders(tmp_path: Path) -> None:
    few = [tmp_path / name for name in ("ann/1.mp4", "ann/2.mp4", "bob/x/1.mp4", "eve.mov")]
    found = face_items(tmp_path, few, 0.25)
    assert [(item.id, item.about["speaker"]) for item in found] == [
        ("ann/1.mp4", "ann"),
        ("ann/2.mp4", "ann"),
        ("bob/x/1.mp4", "bob"),
        ("eve.mov", "eve"),
    ]
    assert Counter(item.about["split"] for item in found) == {"train": 3, "val": 1}
    many = face_items(tmp_path, [tmp_path / f"s{i}" / f"{k}.mp4" for i in range(20) for k in range(5)], 0.1)
    held = {item.about["speaker"] for item in many if item.about["split"] == "val"}
    assert len(held) == 2
    assert not held & {item.about["speaker"] for item in many if item.about["split"] == "train"}


def test_faces_keep_their_split_when_there_are_more(tmp_path: Path) -> None:
    def found(people: range, val: float = 0.2) -> dict[str, set[str]]:
        files = [tmp_path / f"s{i}" / f"{k}.mp4" for i in people for k in range(2)]
        splits: dict[str, set[str]] = {}
        for item in face_items(tmp_path, files, val, tmp_path / "pack"):
            splits.setdefault(item.about["speaker"], set()).add(item.about["split"])
        return splits

    def prepare(item_id: str, **about: str) -> None:
        writer = PackWriter(tmp_path / "pack")
        writer.append(Clip(item_id, np.ones(640), about))
        writer.close()

    begun = found(range(10, 20))
    for name, splits in begun.items():
        prepare(f"{name}/0.mp4#000", speaker=name, source=f"{name}/0.mp4", split=min(splits))
    assert found(range(10, 20)) == begun
    for val in (0.2, 0.05):
        more = found(range(40), val)
        assert all(more[name] == splits for name, splits in begun.items())
        assert sum(splits == {"val"} for splits in more.values()) == max(2, 40 * val)
    prepare("s10/1.mp4#000", speaker="s10", source="s10/1.mp4", split="odd")
    with pytest.raises(UserError, match=r"clips of the speaker s10 in .* and in odd, .* prepare all of it into a new"):
        found(range(10, 20))


def test_genders_that_are_no_text_are_told(tmp_path: Path) -> None:
    (tmp_path / "meta.csv").write_bytes(b"\xff\x00")
    with pytest.raises(UserError, match=r"meta\.csv is no text in UTF-8"):
        read_genders(tmp_path / "meta.csv")


def test_a_packed_list_with_a_damaged_middle_is_told(tmp_path: Path) -> None:
    data = bytearray(gzip.compress("\n".join(IDS).encode()))
    for place in range(12, len(data) - 8, 40):
        damaged = bytearray(data)
        damaged[place] ^= 0xFF
        (tmp_path / "list.gz").write_bytes(damaged)
        with pytest.raises(UserError, match=r"list\.gz is a damaged gzip file"):
            read_list(tmp_path / "list.gz")
