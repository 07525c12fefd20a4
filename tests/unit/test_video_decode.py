"""Pictures and sound of any container come out on one timeline."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from avdiff.errors import UserError
from avdiff.video.decode import SoundTrack, VideoFrames, _opened, probe, read_track
from tests.media import grey, write_media

RATES = {".mkv": 16_000, ".avi": 16_000, ".mp4": 16_000, ".mpg": 44_100, ".flv": 44_100}


def levels(path: Path) -> list[int]:
    return [round(float(frame.mean())) for frame in VideoFrames(path)]


@pytest.mark.parametrize("suffix", RATES)
def test_a_click_and_a_flash_at_one_second_stay_together(suffix: str, tmp_path: Path) -> None:
    rate, path = RATES[suffix], tmp_path / f"clap{suffix}"
    click = np.zeros((1, 2 * rate))
    click[0, rate : rate + rate // 500] = 0.9
    write_media(path, frames=[grey(250 if i == 25 else 10) for i in range(50)], audio=click, rate=rate)

    flash = int(np.argmax(levels(path))) / 25
    samples, read_rate, notes = read_track(path)
    heard = float(np.abs(samples[0]).argmax()) / read_rate
    assert abs(heard - flash) < 0.021  # half a picture, and the rounding of containers
    assert read_rate == rate
    assert not notes


@pytest.mark.parametrize("fps", [30, 50])
def test_pictures_are_the_nearest_in_time(fps: int, tmp_path: Path) -> None:
    path = tmp_path / "other.mkv"
    write_media(path, frames=[grey(4 * i) for i in range(fps)], fps=fps)
    shown = levels(path)
    assert len(shown) == 25
    source = np.arange(fps) / fps
    for i, level in enumerate(shown):
        assert abs(source[round(level / 4)] - i / 25) <= np.abs(source - i / 25).min() + 1e-3


def test_a_variable_rate_holds_pictures_for_as_long_as_they_stood(tmp_path: Path) -> None:
    path = tmp_path / "phone.mkv"
    write_media(path, frames=[grey(20), grey(60), grey(100), grey(140)], times=[0.0, 0.4, 0.44, 0.8])
    assert levels(path)[:20] == pytest.approx([20] * 10 + [60] + [100] * 9, abs=2)
    assert levels(path)[20] == pytest.approx(140, abs=2)


def test_a_late_stream_and_a_gap_keep_their_place(tmp_path: Path) -> None:
    path = tmp_path / "late.mkv"
    sound = np.full((1, 16_000), 0.5)
    times = [0.4 + i / 25 for i in range(25)]
    write_media(path, frames=[grey(99)] * 25, times=times, audio=sound, audio_at=[(0.0, 4_000), (1.0, 12_000)])
    assert levels(path)[:9] == [0] * 9
    assert levels(path)[10:35] == pytest.approx([99] * 25, abs=2)
    samples, _, _ = read_track(path)
    assert samples.shape == (1, 28_000)
    assert np.abs(samples[0, 4_000:16_000]).max() == 0
    assert samples[0, :4_000].min() > 0.49
    assert samples[0, 16_000:].min() > 0.49


def test_a_phone_held_upright_is_shown_upright(tmp_path: Path) -> None:
    picture = grey(10)
    picture[:24, :32] = 250  # top left
    path = tmp_path / "upright.mp4"
    write_media(path, frames=[picture] * 3, rotation=-90)
    shown = next(iter(VideoFrames(path)))
    assert shown.shape == (64, 48, 3)
    assert shown[:32, 24:].mean() > 200  # a quarter turn clockwise brings it to the top right
    assert shown[:32, :24].mean() < 50


@pytest.mark.parametrize("rotation", [0, 90, 180, -90])
def test_a_mirrored_picture_is_shown_mirrored(rotation: int, tmp_path: Path) -> None:
    picture = grey(10)
    picture[:24, :32] = 250
    path = tmp_path / "selfie.mp4"
    write_media(path, frames=[picture] * 3, rotation=rotation, mirrored=True)
    expected = np.rot90(picture, rotation // 90)[:, ::-1]
    assert np.abs(next(iter(VideoFrames(path))).astype(int) - expected).mean() < 5


@pytest.mark.parametrize(
    ("aspect", "size"),
    [
        ("2", (48, 128)),
        ("1/2", (96, 64)),
        ("64/45", (48, 91)),
        ("1", (48, 64)),
        ("1000", (48, 64)),
        ("1/1000", (48, 64)),
    ],
)
def test_pixels_that_are_not_square_are_stretched(aspect: str, size: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "dvd.mkv"
    write_media(path, frames=[grey(9)] * 2, aspect=Fraction(aspect))
    shown = list(VideoFrames(path))
    assert [frame.shape[:2] for frame in shown] == [size] * 2
    assert all(frame.flags.c_contiguous for frame in shown)


def test_a_slow_camera_is_seen_at_its_time(tmp_path: Path) -> None:
    """At 10 pictures a second and uneven, the nearest in time: held until the next came, lips would lag."""
    times = [0.0, 0.1, 0.22, 0.3, 0.4, 0.5]
    write_media(tmp_path / "dark.mkv", frames=[grey(20 + 40 * i) for i in range(6)], times=times)
    for i, level in enumerate(levels(tmp_path / "dark.mkv")[:13]):
        nearest = np.abs(np.array(times) - i / 25)
        assert nearest[round((level - 20) / 40)] == pytest.approx(nearest.min(), abs=2e-3)


@pytest.mark.parametrize("silent", [[0], [], [0, 1], [0, 1, 2]])
def test_of_several_sound_tracks_the_first_that_is_heard_is_taken(silent: list[int], tmp_path: Path) -> None:
    path = tmp_path / "obs.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(3)]
        for number, stream in enumerate(streams):
            level = 0.0 if number in silent else 0.1 * (number + 1)
            frame = av.AudioFrame.from_ndarray(np.full((1, 16_000), level, np.float32), "fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16_000, 0, Fraction(1, 16_000)
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    track = SoundTrack(path)
    taken = len(silent) % 3
    samples = np.concatenate(list(track), axis=1)
    assert samples == pytest.approx(0.0 if len(silent) == 3 else 0.1 * (taken + 1), abs=1e-3)
    assert f"holds 3 sound tracks; number {taken + 1} was taken" in track.told[0]
    assert not track.notes


@pytest.mark.parametrize("kind", ["folder", "link", "empty", "fifo"])
def test_what_is_no_file_is_told_as_what_it_is(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "talk.mp4"
    make: dict[str, Callable[[], object]] = {
        "folder": path.mkdir,
        "link": lambda: path.symlink_to(tmp_path / "nowhere"),
        "empty": path.touch,
        "fifo": lambda: os.mkfifo(path),
    }
    make[kind]()
    words = {"folder": "is a folder", "link": "is a link to", "empty": "is empty", "fifo": "not a regular file"}
    with pytest.raises(UserError, match=words[kind]):
        probe(path)


def test_pictures_are_contiguous_whatever_their_width(tmp_path: Path) -> None:
    path = tmp_path / "odd.mkv"
    write_media(path, frames=[grey(9, 50, 74)] * 2)
    assert all(frame.flags.c_contiguous and frame.shape == (50, 74, 3) for frame in VideoFrames(path))


def test_probe_tells_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "both.mkv"
    write_media(path, frames=[grey(9)] * 25, audio=np.zeros((2, 16_000)))
    media = probe(path)
    assert (media.width, media.height, media.rate, media.channels) == (64, 48, 16_000, 2)
    assert media.seconds == pytest.approx(1.0, abs=0.05)
    assert media.fps == pytest.approx(25, abs=0.1)


def test_what_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no file"):
        probe(tmp_path / "absent.mp4")
    text = tmp_path / "letter.mp4"
    text.write_text("not a film\n" * 100)
    with pytest.raises(UserError, match="is not a media file"):
        read_track(text)
    silent, blind = tmp_path / "silent.mkv", tmp_path / "blind.mkv"
    write_media(silent, frames=[grey(9)] * 3)
    write_media(blind, audio=np.zeros((1, 16_000)))
    with pytest.raises(UserError, match="has no sound"):
        read_track(silent)
    with pytest.raises(UserError, match="no video stream"):
        next(iter(VideoFrames(blind)))


def test_of_a_truncated_file_what_is_there_is_used_and_noted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    whole, cut = tmp_path / "whole.avi", tmp_path / "cut.avi"
    noise = rng.integers(0, 255, (100, 48, 64, 3), dtype=np.uint8)
    write_media(whole, frames=list(noise), audio=rng.uniform(-0.5, 0.5, (1, 64_000)))
    content = whole.read_bytes()
    cut.write_bytes(content[: len(content) // 2])
    frames = VideoFrames(cut)
    assert 10 < len(list(frames)) < 90
    assert any("ends at" in note for note in frames.notes)
    headless = tmp_path / "cut.mp4"
    write_media(whole.with_suffix(".mp4"), frames=list(noise[:20]))
    headless.write_bytes(whole.with_suffix(".mp4").read_bytes()[:5_000])
    with pytest.raises(UserError, match="its end is missing"):
        probe(headless)


@pytest.mark.parametrize(("channels", "rate"), [(2, 48_000), (1, 48_000), (2, 24_000)], ids=["same", "mono", "half"])
def test_recordings_put_behind_each_other_are_one(channels: int, rate: int, tmp_path: Path) -> None:
    def tone(channels: int, rate: int, pitch: float) -> np.ndarray:
        return 0.3 * np.tile(np.sin(2 * np.pi * pitch * np.arange(2 * rate) / rate), (channels, 1))

    for name, level, sound, rate_of in (
        ("first", 60, tone(2, 48_000, 440.0), 48_000),
        ("second", 180, tone(channels, rate, 880.0), rate),
    ):
        write_media(tmp_path / f"{name}.ts", frames=[grey(level)] * 50, audio=sound, rate=rate_of)
    path = tmp_path / "both.ts"
    path.write_bytes((tmp_path / "first.ts").read_bytes() + (tmp_path / "second.ts").read_bytes())

    samples, read_rate, notes = read_track(path)
    assert read_rate == 48_000
    assert samples.shape[0] == 2
    assert samples.shape[1] / read_rate == pytest.approx(4.0, abs=0.05)
    for pitch, second in ((440, samples[0, 24_000:72_000]), (880, samples[0, 120_000:168_000])):
        assert int(np.abs(np.fft.rfft(second)).argmax()) == pitch
    assert len(notes) == 1
    assert "timestamps begin anew at 2.0" in notes[0]
    shown = levels(path)
    assert len(shown) == pytest.approx(100, abs=1)
    assert (shown[10], shown[90]) == pytest.approx((60, 180), abs=2)


@pytest.mark.parametrize("heard", [2.7, 3.3])
def test_of_recordings_put_behind_each_other_sound_and_picture_stay_together(heard: float, tmp_path: Path) -> None:
    click = np.zeros((1, round(heard * 48_000)))
    click[0, 48_000:48_048] = 0.9
    part, path = tmp_path / "part.ts", tmp_path / "three.ts"
    write_media(part, frames=[grey(250 if i == 25 else 10) for i in range(75)], audio=click, rate=48_000)
    path.write_bytes(part.read_bytes() * 3)

    flashes = np.flatnonzero(np.array(levels(path)) > 150) / 25
    samples, rate, _ = read_track(path)
    clicks = np.flatnonzero(np.abs(samples[0]) > 0.3) / rate
    clicks = clicks[np.diff(clicks, prepend=-1.0) > 0.5]
    assert len(flashes) == len(clicks) == 3
    assert np.abs(flashes - clicks).max() < 0.041


def test_a_name_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_media(tmp_path / "talk.mkv", frames=[grey(9)] * 3)
    Path("talk.mkv").rename("talk:1.mkv")
    assert probe(Path("talk:1.mkv")).width == 64


@pytest.mark.parametrize(("number", "told"), [(errno.EAGAIN, "no memory or no thread"), (errno.EIO, "is damaged")])
def test_a_lack_of_memory_is_no_damage(tmp_path: Path, number: int, told: str) -> None:
    write_media(tmp_path / "a.mp4", frames=[grey(1)] * 3)
    with pytest.raises(UserError, match=told), _opened(tmp_path / "a.mp4"):
        raise av.FFmpegError(number, os.strerror(number))
