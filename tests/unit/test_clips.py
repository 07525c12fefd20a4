"""Folders of clean clips."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from avdiff.audio.io import write_wav
from avdiff.errors import UserError
from avdiff.prepare import videos
from datamodules.clips import CleanClips, ClipFolder, PreparedClips, WithVoice, transposed
from datamodules.embedded import EmbeddedNoise, EmbeddedSpeech, EmbeddedVoices
from datamodules.real import Clip, audio_clips, held_out, write_clips


def test_clips_at_the_start_are_left_out(tmp_path: Path) -> None:
    np.save(tmp_path / "audio.npy", np.repeat(np.arange(5, dtype=np.int16)[:, None], 1280, 1))
    folder = ClipFolder(tmp_path, 0.08, random=False, clips=4, video=False, skip=2)
    assert [round(float(folder[i]["audio"][0] * 32768)) for i in range(len(folder))] == [2, 3]
    with pytest.raises(UserError, match="lower skip"):
        ClipFolder(tmp_path, 0.08, random=False, clips=4, video=False, skip=4)


def test_a_voice_rides_along_with_a_clip(tmp_path: Path) -> None:
    for name, values in (("noise", range(6)), ("speech", range(100, 104))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "audio.npy", np.stack([np.full(1280, value, np.int16) for value in values]))
    noise, speech = (ClipFolder(tmp_path / name, 0.08, random=False, video=False) for name in ("noise", "speech"))
    told = WithVoice(noise, speech, random=False)
    assert len(told) == 6
    assert [round(float(told[i]["voice"][0]) * 32768) for i in range(6)] == [100, 101, 102, 103, 100, 101]
    torch.manual_seed(0)
    drawn = {round(float(WithVoice(noise, speech, random=True)[2]["voice"][0]) * 32768) for _ in range(60)}
    assert drawn == {100, 101, 102, 103}
    assert round(float(told[2]["audio"][0]) * 32768) == 2


def test_clips_without_a_voice_lend_their_own_sound(tmp_path: Path) -> None:
    for name, value in (("clips", 1), ("voices", 100)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "audio.npy", np.full((4, 1280), value, np.int16))
    clips, voices = (ClipFolder(tmp_path / name, 0.08, random=False, video=False) for name in ("clips", "voices"))
    some = WithVoice(clips, voices, random=True, share=0.3)
    torch.manual_seed(0)
    lent = [round(float(some[0]["voice"][0]) * 32768) for _ in range(400)]
    assert set(lent) == {1, 100}
    assert abs(lent.count(100) / 400 - 0.3) < 0.1


def test_short_recordings_of_a_folder_are_joined_and_bad_ones_told(tmp_path: Path) -> None:
    def write(name: str, seconds: float, value: float) -> Path:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_wav(tmp_path / name, np.full(int(seconds * 16_000), value, np.float32), 16_000)
        return tmp_path / name

    # five words fit into 4 s; the sixth alone is too short
    files = [write(f"words/{n}.wav", 0.75, 0.1 * (n + 1)) for n in range(6)]
    files.insert(3, write("words/long.wav", 5.5, 0.9))  # 4 s, and 1.5 s
    (tmp_path / "words/bad.wav").write_bytes(b"nothing")
    files += [tmp_path / "words/bad.wav", write("keys/a.wav", 0.6, -0.1), write("keys/b.wav", 0.6, -0.2)]
    told: list[str] = []
    clips = [audio for audio, _, _ in audio_clips(files, told.append)]
    assert [round(len(audio) / 16_000, 3) for audio in clips] == [4.0, 1.5, 3.75, 1.2]
    assert np.allclose(clips[2][::12_000], [0.1, 0.2, 0.3, 0.4, 0.5], atol=1e-3)
    assert np.allclose(clips[3][[0, -1]], [-0.1, -0.2], atol=1e-3)
    assert [name in line for name, line in zip(("bad.wav", "5.wav"), told, strict=True)] == [True, True]
    with pytest.raises(UserError, match="holds a second of sound"):
        write_clips(tmp_path / "none", audio_clips([tmp_path / "words/bad.wav"], told.append))


def test_sound_without_video_leaves_no_lips_of_other_sound(tmp_path: Path) -> None:
    audio = np.full(32_000, 0.1, np.float32)
    write_clips(tmp_path, [(audio, np.full((50, 96, 96), 7, np.uint8), np.ones(50, bool))])
    assert ClipFolder(tmp_path, 2.0, random=False)[0]["seen"].all()
    write_clips(tmp_path, [(audio, None, None)])
    assert not ClipFolder(tmp_path, 2.0, random=False)[0]["seen"].any()
    assert {file.name for file in tmp_path.iterdir()} == {"audio.npy", "lengths.npy"}


@pytest.mark.parametrize("speed", [0.8, 1.25])
def test_a_faster_clip_is_higher_and_its_lips_keep_up(tmp_path: Path, speed: float) -> None:
    frames, pitch = 50, 200.0
    place = np.arange(frames * 640)
    tone = np.sin(2 * np.pi * pitch * place / 16_000) * (place // 640 == 30)  # heard in frame 30 only
    np.save(tmp_path / "audio.npy", (20_000 * tone[None]).astype(np.int16))
    mouth = np.zeros((1, frames, 96, 96), np.uint8)
    mouth[0, 30] = 255
    np.save(tmp_path / "mouth.npy", mouth)
    item = ClipFolder(tmp_path, 2.0, random=False, speed=(speed, speed))[0]
    assert item["audio"].shape == (50 * 640,)
    assert item["visual"].shape == (50, 96, 96)
    assert item["seen"].sum() == min(50, int(50 / speed))
    loud = item["audio"].abs() > 0.3
    shown = item["visual"][:, 0, 0].nonzero()
    assert abs(loud.nonzero().double().mean() / 640 - (shown.double().mean() + 0.5)) < 0.5
    assert abs(loud.nonzero().double().mean() / 640 - 30.5 / speed) < 0.1
    spectrum = torch.fft.rfft(item["audio"], 160_000).abs()
    assert abs(int(spectrum.argmax()) / 10 - pitch * speed) < 5


@pytest.mark.parametrize("pace", [15, 20, 28])
def test_a_transposed_clip_is_higher_and_its_timing_stays(pace: int) -> None:
    time = np.arange(32_000) / 16_000
    loud = (np.abs(time - 1.1) < 0.3).astype(np.float32)
    clip = (0.3 * np.sin(2 * np.pi * 400 * time)).astype(np.float32) * loud
    other = transposed(clip, pace)
    assert other.shape == clip.shape
    spectrum = np.abs(np.fft.rfft(other))
    assert abs(spectrum.argmax() / 2 - 400 * pace / 20) < 6
    heard = time[np.abs(other) > 0.3 * np.abs(other).max()]
    assert abs(heard[0] - 0.8) < 0.03
    assert abs(heard[-1] - 1.4) < 0.03


def test_half_of_the_crops_are_transposed(tmp_path: Path) -> None:
    np.save(tmp_path / "audio.npy", (3000 * np.sin(np.arange(64_000))).astype(np.int16)[None])
    folder = ClipFolder(tmp_path, 1.0, random=False, video=False, pitch=(1.3, 1.3))
    plain = ClipFolder(tmp_path, 1.0, random=False, video=False)[0]["audio"]
    torch.manual_seed(0)
    same = sum(torch.equal(folder[0]["audio"], plain) for _ in range(40))
    assert 10 < same < 30


def test_speeds_are_drawn_between_bounds(tmp_path: Path) -> None:
    np.save(tmp_path / "audio.npy", np.ones((1, 6400), np.int16))
    with pytest.raises(UserError, match="lower one first"):
        ClipFolder(tmp_path, 0.2, random=True, video=False, speed=(1.2, 0.8))
    torch.manual_seed(0)
    folder = ClipFolder(tmp_path, 0.4, random=True, video=False, speed=(0.8, 1.25))
    lengths = {int((folder[0]["audio"] != 0).sum()) // 640 for _ in range(60)}
    assert lengths == {8, 9, 10}  # at 1.25 ten frames fill eight; slower, ten are more than fit


def test_clips_kept_for_testing_are_not_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of the listed clips of GRID s1 gets into a training folder, in whichever container it comes."""
    asked: list[str] = []

    def video_clips(files: Iterable[Path], left_out: object, detector: object) -> Iterator[Clip]:
        for file in files:
            asked.append(file.stem)
            yield np.full(16_000, 0.1, np.float32), None, None

    monkeypatch.setattr("datamodules.real.video_clips", video_clips)
    names = sorted(held_out())[:3]
    for number, name in enumerate([*names, "bbaf2n", "bbaf3s"]):
        (tmp_path / f"{name}.{('mp4', 'mpg')[number % 2]}").touch()
    videos(tmp_path, tmp_path / "out", [])
    assert asked == ["bbaf2n", "bbaf3s"]
    assert len(names) == 3


def _constant_clips(root: Path, **values: int) -> None:
    """A folder of clips by each name, of 8 clips of 4 s a split, every sample its value."""
    for name, value in values.items():
        for split in ("train", "val"):
            (root / name / split).mkdir(parents=True)
            np.save(root / name / split / "audio.npy", np.full((8, 64_000), value, np.int16))


def _drawn_beside(data: CleanClips) -> list[int]:
    """The values of the voices beside a hundred training clips."""
    torch.manual_seed(0)
    return [round(float(data.train[i % 8]["voice"][0]) * 32768) for i in range(100)]


def test_talkers_come_with_noises_beside_them(tmp_path: Path) -> None:
    """In training, for their share; validation stays as it is."""
    _constant_clips(tmp_path, talkers=1, noises=100)

    class Talkers(EmbeddedSpeech):
        def generate(self, split: str, clips: int) -> Path:
            return tmp_path / "talkers" / split

    data = Talkers(noise=PreparedClips(tmp_path / "noises"), noise_share=0.5, batch_size=8, seconds=0.4)
    data.prepare_data()
    data.setup("fit")
    beside = _drawn_beside(data)
    assert set(beside) == {1, 100}
    assert abs(beside.count(100) - 50) < 20
    assert len(data.train[0]["voice"]) == len(data.train[0]["audio"]) == 6400
    assert "voice" not in data.val[0]


def test_real_talkers_are_among_the_voices_beside_noises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _constant_clips(tmp_path, noises=1, embedded=50, real=100)
    monkeypatch.setattr(EmbeddedNoise, "generate", lambda self, split, clips: tmp_path / "noises" / split)
    monkeypatch.setattr(EmbeddedVoices, "generate", lambda self, split, clips: tmp_path / "embedded" / split)
    data = EmbeddedNoise(voices=8, real_voices=[tmp_path / "real"], seconds=0.4)
    data.prepare_data()
    data.setup("fit")
    beside = _drawn_beside(data)
    assert set(beside) == {50, 100}
    assert abs(beside.count(100) - 50) < 20
    assert round(float(data.train[0]["audio"][0]) * 32768) == 1
    assert {round(float(data.val[i]["voice"][0]) * 32768) for i in range(8)} == {50}
    with pytest.raises(UserError, match="give them too"):
        EmbeddedNoise(real_voices=[tmp_path / "real"])
