"""Acoustic scenes from their published layout: lists with either line ending, files that are missing, 24 bits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from avdiff.cli import main
from avdiff.errors import UserError
from datamodules.dcase import NAME, dcase_items, parts, read_list
from datamodules.packs import MISSING, Pack, failures

SCENES = ("airport", "metro_station")


def names(scene: str, locations: range, segments: int = 2, devices: str = "ab") -> list[str]:
    return [
        f"{scene}-lyon-{place}-{segment}-{device}"
        for place in locations
        for segment in range(segments)
        for device in devices
    ]


def write_tree(root: Path) -> Path:
    """Two scenes of 20 locations to train on and 2 to test, the lists as they come: LF for one, CRLF for the other."""
    folder = root / NAME
    (folder / "audio").mkdir(parents=True)
    (folder / "evaluation_setup").mkdir()
    for file, ends, locations in (("fold1_train", "\n", range(20)), ("fold1_evaluate", "\r\n", range(20, 22))):
        rows = ["filename\tscene_label"]
        rows += [f"audio/{name}.wav\t{scene}" for scene in SCENES for name in names(scene, locations)]
        (folder / "evaluation_setup" / f"{file}.csv").write_bytes("".join(row + ends for row in rows).encode())
    return folder


def test_names_have_five_parts() -> None:
    assert parts("metro_station-barcelona-203-6129-s1") == {
        "city": "barcelona",
        "location": "203",
        "segment": "6129",
        "device": "s1",
    }
    assert parts("airport-barcelona-203-6129") is None
    assert parts("airport-barcelona-203-6129-a-b") is None
    assert parts("airport--203-6129-a") is None


def test_lists_are_the_splits_and_validation_is_of_places_of_its_own(tmp_path: Path) -> None:
    items = dcase_items(write_tree(tmp_path).parent)
    assert Counter(item.about["split"] for item in items) == {"train": 152, "val": 8, "test": 16}
    place = {(item.about["scene"], item.about["location"]): set[str]() for item in items}
    for item in items:
        place[item.about["scene"], item.about["location"]].add(item.about["split"])
    assert all(len(splits) == 1 for splits in place.values())
    assert {item.about["scene"] for item in items if item.about["split"] == "val"} == set(SCENES)
    tests = {item.id for item in items if item.about["split"] == "test"}
    assert tests == {name for scene in SCENES for name in names(scene, range(20, 22))}


def test_line_endings_are_not_part_of_a_label(tmp_path: Path) -> None:
    folder = write_tree(tmp_path) / "evaluation_setup"
    for file in ("fold1_train.csv", "fold1_evaluate.csv"):
        assert {scene for _, scene in read_list(folder / file)} == set(SCENES)


def test_what_the_lists_name_and_the_disk_lacks_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_tree(tmp_path)
    rng = np.random.default_rng(0)
    audio = 0.01 * rng.standard_normal(44_100 * 2)
    for name in names("airport", range(2)):
        soundfile.write(folder / "audio" / f"{name}.wav", audio, 44_100, subtype="PCM_24")
    odd = "audio/airport-lyon.wav"
    with (folder / "evaluation_setup" / "fold1_train.csv").open("a") as out:
        out.write(f"{odd}\tairport\n")
    soundfile.write(folder / odd, audio, 44_100, subtype="PCM_24")
    main(["prepare", "dcase", str(folder), str(tmp_path / "out"), "--workers", "0"])
    told = capsys.readouterr().out
    assert f"left out, {MISSING}: 168" in told
    assert "left out, odd name: 1" in told
    assert Counter(failures(tmp_path / "out").values()) == {MISSING: 168, "odd name": 1}
    pack = Pack(tmp_path / "out")
    assert len(pack) == 8
    assert pack.samples.tolist() == [32_000] * 8
    assert pack.rows[0]["scene"] == "airport"
    assert pack.rows[0]["device"] == "a"
    # 24 bits of a quiet recording: the 16 that are stored are of its own peak, not of full scale
    assert pack.rows[0]["scale"] <= 2.0**-4
    main(["prepare", "dcase", str(folder), str(tmp_path / "out"), "--workers", "0"])
    assert "0 of 177 files prepared, 9 were there before" in capsys.readouterr().out


def test_what_is_no_dcase_tree_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lacks evaluation_setup/fold1_train\.csv"):
        dcase_items(tmp_path)
    folder = write_tree(tmp_path)
    (folder / "evaluation_setup/fold1_train.csv").write_text("filename,scene_label\na,b\n")
    with pytest.raises(UserError, match=r"has the columns filename,scene_label; expected .* separated by tabs"):
        dcase_items(folder)


def test_a_list_that_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"filename\tscene_label\naudio/caf\xe9.wav\tairport\n")
    with pytest.raises(UserError, match=r"list\.csv is no text in UTF-8"):
        read_list(tmp_path / "list.csv")
