"""Folders of recordings as users have them: what is taken of them, and what is told of the rest."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest

from avdiff.audio.io import write_wav
from avdiff.errors import UserError
from avdiff.prepare import noise, speech
from datamodules.real import AUDIO, VIDEO, audio_clips, find, level_range, video_clips, wide_ranged, write_clips
from tests.media import grey, write_media

RATE = 16_000


def sound(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def names(files: list[Path], folder: Path) -> list[str]:
    return [file.relative_to(folder).as_posix() for file in files]


def test_linked_folders_are_searched_once_and_circles_end(tmp_path: Path) -> None:
    touched(tmp_path / "src", "z/1.wav", "z/note.txt", "0.WAV")
    touched(tmp_path / "elsewhere", "deep/2.flac")
    (tmp_path / "src" / "a").symlink_to(tmp_path / "src" / "z")  # is there by its own name
    (tmp_path / "src" / "z" / "up").symlink_to(tmp_path / "src")
    (tmp_path / "src" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "deep" / "back").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "src" / "folder.wav").mkdir()
    found, others = find(tmp_path / "src", AUDIO)
    assert names(found, tmp_path / "src") == ["0.WAV", "linked/deep/2.flac", "z/1.wav"]
    assert names(others, tmp_path / "src") == ["z/note.txt"]


def test_a_folder_given_by_a_link_is_searched(tmp_path: Path) -> None:
    touched(tmp_path / "real", "1.wav")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert names(find(tmp_path / "link", AUDIO)[0], tmp_path / "link") == ["1.wav"]


def test_a_folder_without_recordings_is_told(tmp_path: Path) -> None:
    touched(tmp_path, "a.txt")
    with pytest.raises(UserError, match=r"\.opus.*right folder"):
        find(tmp_path, AUDIO)


def test_every_suffix_of_sound_and_video_that_people_have_is_known() -> None:

    wanted = {"wav", "flac", "ogg", "opus", "mp3", "m4a", "aac", "wma", "aiff", "caf", "amr", "wv", "w64", "ac3", "mka"}
    assert {f".{name}" for name in wanted} <= {*AUDIO}
    wanted = {"mp4", "m4v", "mov", "mkv", "webm", "avi", "wmv", "flv", "mpg", "mpeg", "ts", "mts", "m2ts", "3gp", "ogv"}
    assert {f".{name}" for name in wanted} <= {*VIDEO}
    assert not {*AUDIO} & {*VIDEO}


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.opus", "libopus"), ("a.m4a", "aac"), ("a.aac", "aac"), ("a.wma", "wmav2"), ("a.mka", "flac")],
)
def test_compressed_speech_becomes_clips(name: str, codec: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / name), "w") as out:
        voice = out.add_stream(codec, rate=48_000, layout="mono")
        voice.bit_rate = 64_000
        for start in range(0, 3 * 48_000, 960):
            block = np.sin(np.arange(start, start + 960) * 0.05)[None] * 0.3
            shape = voice.format.name if voice.format else "fltp"
            if shape.startswith("s16"):
                block = block * 32767
            frame = av.AudioFrame.from_ndarray(
                block.astype(np.int16 if shape.startswith("s16") else np.float32), format=shape, layout="mono"
            )
            frame.sample_rate, frame.pts = 48_000, start
            out.mux(voice.encode(frame))
        out.mux(voice.encode(None))
    found, _ = find(tmp_path, AUDIO)
    told: list[str] = []
    clips = [audio for audio, _, _ in audio_clips(found, told.append)]
    assert not told
    assert [abs(len(audio) / RATE - 3) < 0.1 for audio in clips] == [True]


@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (0.0, "is silence"), (None, "less than a second")],
)
def test_a_file_that_gives_no_clip_is_told_with_its_name(value: float | None, reason: str, tmp_path: Path) -> None:
    samples = sound()
    if value is None:
        samples = samples[:9000]
    elif value == 0:
        samples[:] = 0
    else:
        samples[9] = value
    for folder, part in (("1", sound()), ("2", samples), ("3", sound())):
        (tmp_path / folder).mkdir()
        write_wav(tmp_path / folder / "a.wav", part, RATE)
    told: list[str] = []
    assert len(list(audio_clips(find(tmp_path, AUDIO)[0], told.append))) == 2
    assert len(told) == 1
    assert "2/a.wav" in told[0]
    assert reason in told[0]


def test_a_name_that_is_no_utf8_is_read(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", sound(), RATE)
    odd = (tmp_path / "a.wav").rename(tmp_path / os.fsdecode(b"rain\xff.wav"))
    told: list[str] = []
    assert len(list(audio_clips([odd], told.append))) == 1
    assert not told


def test_a_decoder_that_fails_in_its_own_way_stops_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.wav", "b.wav"):
        write_wav(tmp_path / name, sound(), RATE)

    def odd(path: Path, notes: list[str]) -> tuple[np.ndarray, int]:
        if path.name == "a.wav":
            raise ZeroDivisionError("rate")
        return sound()[None], RATE

    monkeypatch.setattr("datamodules.real.read_audio", odd)
    told: list[str] = []
    assert len(list(audio_clips(find(tmp_path, AUDIO)[0], told.append))) == 1
    assert "a.wav" in told[0]
    assert "ZeroDivisionError" in told[0]


def test_videos_that_give_no_clip_are_told_before_faces_are_looked_for(tmp_path: Path) -> None:
    write_media(tmp_path / "silent.mkv", frames=[grey(9)] * 50, audio=np.zeros((1, 2 * RATE)))
    write_media(tmp_path / "short.mkv", frames=[grey(9)] * 10, audio=sound(0.4)[None])
    write_media(tmp_path / "mute.mkv", frames=[grey(9)] * 50)
    told: list[str] = []
    files, _ = find(tmp_path, VIDEO)
    assert not list(video_clips(files, told.append, None))  # type: ignore[arg-type]
    assert [file.name in line for file, line in zip(files, told, strict=True)] == [True] * 3


def test_what_is_not_taken_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        write_wav(tmp_path / f"{number}.wav", sound(seed=number), RATE)
    touched(tmp_path, "note.txt", "list.txt", "raw.pcm", "README")
    noise(tmp_path, tmp_path / "out", [])
    told = capsys.readouterr().err
    assert "passed over" in told
    for kind in ("2 .txt", "1 .pcm", "1 README"):
        assert kind in told


def test_one_recording_is_too_few_for_two_splits(tmp_path: Path) -> None:
    write_wav(tmp_path / "a.wav", sound(), RATE)
    with pytest.raises(UserError, match=r"a\.wav.*two or more"):
        noise(tmp_path, tmp_path / "out", [])
    assert not (tmp_path / "out").exists()


def test_clips_that_cannot_be_written_leave_those_of_an_earlier_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clips(tmp_path, [(sound(), None, None)])
    before = (tmp_path / "audio.npy").read_bytes()

    def full(file: object, array: np.ndarray) -> None:
        if array.dtype == np.int64:  # the second of the files
            raise OSError("256000 requested and 4096 written")

    with monkeypatch.context() as broken:
        broken.setattr("datamodules.real.np.save", full)
        with pytest.raises(OSError, match="No space") as failed:
            write_clips(tmp_path, [(sound(seed=1), None, None)])
    assert failed.value.filename == str(tmp_path / "lengths.npy")
    assert (tmp_path / "audio.npy").read_bytes() == before
    assert {file.name for file in tmp_path.iterdir()} == {"audio.npy", "lengths.npy"}


def test_clips_with_a_noise_floor_stay_out() -> None:
    rng = np.random.default_rng(0)
    voice = rng.normal(0, 0.1, 48_000) * (np.arange(48_000) // 8_000 % 2)
    quiet, noisy = (voice + rng.normal(0, floor, 48_000) for floor in (1e-4, 1e-2))
    assert abs(level_range(quiet) - 60) < 1.5
    assert abs(level_range(noisy) - 20) < 1.5
    kept = [*wide_ranged([(clip, None, None) for clip in (quiet, noisy, quiet[:31_000])], 40)]
    assert len(kept) == 1
    assert kept[0][0] is quiet


def test_one_clip_in_so_many(tmp_path: Path) -> None:
    for name in range(3):
        write_wav(tmp_path / f"{name}.wav", sound(9.0, name), RATE)
    speech(tmp_path, tmp_path / "out", (), stride=2)
    assert len(np.load(tmp_path / "out" / "train" / "audio.npy")) == 3  # of two files of three
    with pytest.raises(UserError, match="--stride"):
        speech(tmp_path, tmp_path / "none", (), stride=0)
    with pytest.raises(UserError, match="--least-range"):
        speech(tmp_path, tmp_path / "none", (), least_range=float("nan"))
