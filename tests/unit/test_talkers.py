"""Videos as clips: the mouth that separation would see, and what becomes of damaged files."""

from __future__ import annotations

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from avdiff.audio.rumble import without_rumble
from avdiff.recording import separate_file
from avdiff.types import SAMPLE_RATE
from avdiff.video.decode import VideoFrames
from avdiff.video.detectors import find_detector
from avdiff.video.faces import FaceDetector
from datamodules import talkers
from datamodules.packs import Clip, Pack, PackWriter, failures
from datamodules.preparation import Item, Stopwatch, Unusable, prepare
from datamodules.talkers import LoneTalkers, WholeVideos
from tests.media import write_media
from tests.unit.test_recording import Shares, Squares, picture


@pytest.fixture
def squares(monkeypatch: pytest.MonkeyPatch) -> FaceDetector:
    """Bright halves of pictures are faces."""
    detector = Squares()
    monkeypatch.setattr(talkers, "_detector", lambda faces: detector)
    monkeypatch.setattr("avdiff.recording.png", lambda figure: b"\x89PNG")
    return detector


def noise(seconds: float, rate: int = SAMPLE_RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (1, round(seconds * rate)))


def moving(count: int, left: bool = True, right: bool = False) -> list[np.ndarray]:
    """Pictures that differ, so that a shift by one shows."""
    pictures = []
    for i in range(count):
        image = picture(left, right)
        image[10 + i % 40, 10:54] += 60
        image[10 + i % 40, 74:118] += 60
        pictures.append(image)
    return pictures


def made(path: Path, maker: WholeVideos | LoneTalkers) -> list[Clip]:
    return list(maker.make(Item(path.name, path, {"speaker": "ann"}), Stopwatch()))


@pytest.mark.parametrize("suffix", [".mkv", ".flv"])
def test_mouths_and_sound_are_what_separation_sees(tmp_path: Path, squares: FaceDetector, suffix: str) -> None:
    film = tmp_path / f"talk{suffix}"
    write_media(film, frames=moving(60), audio=noise(2.4, 44_100), rate=44_100)
    method = Shares()
    separate_file(film, method, tmp_path / "out", detector=squares)
    (clip,) = made(film, WholeVideos())
    assert clip.mouth is not None
    asked, frames = method.asked[0], len(clip.mouth)
    assert asked.visual is not None
    assert asked.visual_mask is not None
    assert frames >= 58
    assert len({mouth.tobytes() for mouth in clip.mouth}) > 20
    assert np.array_equal(clip.mouth, asked.visual[0, 0, :frames].numpy())
    assert np.array_equal(clip.seen, asked.visual_mask[0, 0, :frames].numpy())
    assert len(clip.audio) == frames * 640
    heard = without_rumble(torch.from_numpy(clip.audio))  # separation leaves to the noise what lies below any voice
    assert torch.allclose(heard[:-800], asked.mixture[0, : frames * 640 - 800], atol=1e-5)
    assert clip.about == {"speaker": "ann", "faces": 1}


def test_real_mouths_are_what_separation_sees(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avdiff.recording.png", lambda figure: b"\x89PNG")
    pictures = list(islice(VideoFrames(real_data / "grid" / "s1" / "bbaf2n.mp4"), 26))
    film = tmp_path / "talk.mkv"
    write_media(film, frames=pictures, audio=noise(1.04))
    method = Shares()
    separate_file(film, method, tmp_path / "out", detector=find_detector())
    (clip,) = made(film, WholeVideos())
    assert clip.mouth is not None
    assert method.asked[0].visual is not None
    assert clip.mouth.std() > 10
    assert torch.equal(torch.from_numpy(clip.mouth), method.asked[0].visual[0, 0, : len(clip.mouth)])


def test_a_clip_of_a_folder_of_videos_is_of_one_person_alone(tmp_path: Path, squares: FaceDetector) -> None:
    pictures = moving(40) + moving(40, right=True) + moving(80, left=False, right=True)
    write_media(tmp_path / "talk.mkv", frames=pictures, audio=noise(6.4))
    clips = made(tmp_path / "talk.mkv", LoneTalkers(longest=2.0))
    assert [(clip.id, clip.about["person"], clip.about["start"]) for clip in clips] == [
        ("talk.mkv#000", 0, 0.0),
        ("talk.mkv#001", 1, 3.2),
        ("talk.mkv#002", 1, 4.8),
    ]
    assert [len(clip.audio) // 640 for clip in clips] == [40, 40, 40]
    assert all(clip.seen is not None and clip.seen.all() for clip in clips)
    sound = noise(6.4)[0]
    assert clips[1].audio == pytest.approx(sound[80 * 640 : 120 * 640], abs=1e-3)


def damaged(folder: Path) -> list[Item]:
    """A hundred files of which none can be used, and three with odd names that can."""
    folder.mkdir()
    good = {}
    for suffix in (".mp4", ".mkv", ".avi", ".webm"):
        write_media(folder / f"good{suffix}", frames=moving(50), audio=noise(2.0))
        good[suffix] = (folder / f"good{suffix}").read_bytes()
        (folder / f"good{suffix}").unlink()
    rng = np.random.default_rng(0)
    wrong: dict[str, bytes] = {}
    for suffix, data in good.items():
        for share in range(3, 60, 5):
            wrong[f"truncated{share:02d}{suffix}"] = data[: len(data) * share // 100]
        wrong[f"zeros{suffix}"] = bytes(len(data))
        wrong[f"headless{suffix}"] = data[len(data) // 10 :]
        wrong[f"empty{suffix}"] = b""
        wrong[f"noise{suffix}"] = rng.bytes(5000)
        wrong[f"text{suffix}"] = b"<html>404 not found</html>\n" * 20
    wrong["codec.avi"] = good[".avi"].replace(b"FMP4", b"XYZ9").replace(b"fmp4", b"XYZ9")
    wrong["codec.mp4"] = good[".mp4"].replace(b"mp4v", b"xyz9").replace(b"esds", b"zzzz")
    for name, data in wrong.items():
        (folder / name).write_bytes(data)
    films = {
        "no video": {"audio": noise(2)},
        "no sound": {"frames": moving(50)},
        "silent": {"frames": moving(50), "audio": 0 * noise(2)},
        "no face": {"frames": moving(50, left=False), "audio": noise(2)},
        "short": {"frames": moving(10), "audio": noise(0.4)},
        "brief sound": {"frames": moving(50), "audio": noise(0.5)},
    }
    for name, film in films.items():
        for suffix in (".mkv", ".mp4", ".avi"):
            write_media(folder / f"{name}{suffix}", **film)
    (folder / "folder.mp4").mkdir()
    (folder / "nowhere.mp4").symlink_to(folder / "gone.mp4")
    picture_file = folder / "still.mp4"
    picture_file.write_bytes(b"\x89PNG\r\n\x1a\n" + rng.bytes(100))
    for number in range(100 - len(list(folder.iterdir()))):
        (folder / f"more{number}.mp4").write_bytes(rng.bytes(10 * number + 1))
    assert len(list(folder.iterdir())) == 100
    for name in ("-dash.mkv", "two\nlines #%&'\".mkv", "ünï çødé 漢字.mkv"):
        (folder / name).write_bytes(good[".mkv"])
    return [Item(path.name, path) for path in sorted(folder.iterdir())]


def test_a_hundred_damaged_files_are_recorded_and_none_is_fatal(tmp_path: Path, squares: FaceDetector) -> None:
    todo = damaged(tmp_path / "in")
    writer = PackWriter(tmp_path / "out")
    report = prepare(todo, WholeVideos(), writer, workers=0)
    writer.close()
    assert Pack(tmp_path / "out").ids.tolist() == ["-dash.mkv", "two\nlines #%&'\".mkv", "ünï çødé 漢字.mkv"]
    reasons = failures(tmp_path / "out")
    assert len(reasons) == 100
    count = Counter(reasons.values())
    assert count == report.failed
    assert "unforeseen error" not in count
    for name, reason in {
        "no video.mkv": "no video stream",
        "no sound.avi": "no sound",
        "silent.mkv": "silent",
        "no face.mkv": "no face",
        "short.avi": "too short",
        "brief sound.mkv": "damaged",
        "empty.mp4": "empty file",
        "nowhere.mp4": "missing file",
        "folder.mp4": "missing file",
        "noise.avi": "cannot be read",
        "codec.avi": "cannot be read",
        "codec.mp4": "cannot be read",
        "truncated38.mp4": "cannot be read",
        "truncated38.mkv": "sound cannot be decoded",
        "truncated58.webm": "damaged",
    }.items():
        assert reasons[name] == reason, name
    again = PackWriter(tmp_path / "out")
    assert prepare(todo, WholeVideos(), again, workers=0).failed == Counter({"missing file": 2})


def test_what_is_unusable_says_why(tmp_path: Path, squares: FaceDetector) -> None:
    write_media(tmp_path / "still.mkv", frames=moving(50, left=False), audio=noise(2))
    with pytest.raises(Unusable) as found:
        made(tmp_path / "still.mkv", WholeVideos())
    assert found.value.reason == "no face"
    assert str(tmp_path / "still.mkv") in found.value.detail
