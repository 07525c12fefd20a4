"""Videos that are written can be read, with their sound in place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from avdiff.video.decode import VideoFrames, probe, read_track
from avdiff.video.mux import draw_people, write_video
from avdiff.video.tracking import Person, Track
from tests.media import grey


@pytest.mark.parametrize("rate", [44_100, 11_025])
def test_what_is_written_is_read_at_its_time(rate: int, tmp_path: Path) -> None:
    sound = np.zeros(2 * rate)
    sound[rate : rate + rate // 200] = 0.8
    frames = [grey(220 if i == 25 else 30, 49, 65) for i in range(50)]
    write_video(tmp_path / "x.mp4", frames, audio=sound, rate=rate)
    shown = [float(frame.mean()) for frame in VideoFrames(tmp_path / "x.mp4")]
    assert len(shown) == 50
    assert int(np.argmax(shown)) == 25
    assert shown[25] - shown[24] > 150
    samples, read_rate, _ = read_track(tmp_path / "x.mp4")
    assert float(np.abs(samples).argmax()) / read_rate == pytest.approx(1.0, abs=0.006)
    assert probe(tmp_path / "x.mp4").seconds == pytest.approx(2.0, abs=0.1)
    assert probe(tmp_path / "x.mp4").width == 64


def test_sound_longer_or_shorter_than_the_pictures_is_kept(tmp_path: Path) -> None:
    for seconds in (0.5, 2.0):
        write_video(tmp_path / "x.mp4", [grey(30)] * 25, audio=np.ones(round(seconds * 16_000)) * 0.1, rate=16_000)
        samples, _, _ = read_track(tmp_path / "x.mp4")
        assert samples.shape[1] / 16_000 == pytest.approx(seconds, abs=0.07)
        assert len(list(VideoFrames(tmp_path / "x.mp4"))) == 25


def test_pictures_of_another_size_are_shown_whole(tmp_path: Path) -> None:
    """As of a call whose resolution grows and is then turned: nothing is cut off."""
    frames = [
        np.full((48, 64, 3), 30, np.uint8),
        np.full((96, 128, 3), 30, np.uint8),
        np.full((128, 96, 3), 30, np.uint8),
    ]
    for frame in frames:
        frame[-frame.shape[0] // 3 :, -frame.shape[1] // 3 :] = 220  # bottom right
    write_video(tmp_path / "x.mp4", frames)
    first, larger, upright = VideoFrames(tmp_path / "x.mp4")
    assert first.shape == larger.shape == upright.shape == (48, 64, 3)
    assert np.abs(first.astype(int) - larger).mean() < 8
    assert upright[40:46, 40:48].mean() > 150
    assert upright[:, :12].mean() < 10
    assert upright[:, -12:].mean() < 10


@pytest.mark.parametrize("shape", [(1, 8), (8, 1), (1, 1), (3, 5)])
def test_pictures_of_a_pixel_are_written(shape: tuple[int, int], tmp_path: Path) -> None:
    frames = draw_people([np.full((*shape, 3), 99, np.uint8)] * 2, [], [])
    write_video(tmp_path / "x.mp4", frames)
    assert len(list(VideoFrames(tmp_path / "x.mp4"))) == 2


def test_boxes_are_drawn_where_faces_are_and_only_then() -> None:
    box = np.tile([400.0, 200.0, 800.0, 700.0], (3, 1))
    person = Person((Track(1, box, np.zeros((3, 68, 2)), np.ones(3, bool)),))
    frames = [np.zeros((960, 1920, 3), np.uint8)] * 5
    drawn = list(draw_people(frames, [person], ["person1"], longest=960))
    assert [bool(frame.max()) for frame in drawn] == [False, True, True, True, False]
    assert drawn[1].shape == (480, 960, 3)
    assert drawn[1][200, 200].max() > 0  # the left edge, at half the size
    assert drawn[1][200, 300].max() == 0  # inside
    assert all(not frame.any() for frame in frames)
