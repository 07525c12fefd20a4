"""A video goes in, its voices come out: the files, their timeline and their sum."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from avdiff.errors import UserError
from avdiff.recording import default_folder, separate_file, separate_mixture
from avdiff.rng import ClipNoise
from avdiff.samplers.base import Callback, Progress
from avdiff.separators.base import Separator
from avdiff.types import NOISE, OFFSCREEN, SPEAKER, Observation, Separation
from avdiff.video.decode import VideoFrames, read_track
from avdiff.video.faces import DlibFaces, Face, FaceDetector
from avdiff.video.mux import write_video
from datamodules.synthetic.heads import render_talking_head
from datamodules.synthetic.talkers import CONTINUOUS, draw_spec, make_clip
from tests.media import write_media

RATE = 44_100


class Shares(Separator):
    """Source k gets 1 / (k + 2) of the mixture: what is left must be shared out by the caller."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Observation] = []

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        self.asked.append(observation)
        share = 1 / torch.arange(2.0, len(observation.layout) + 2)
        sources = observation.mixture[:, None] * share[:, None]
        if callback is not None:
            callback(Progress(1, 1, 0.1, sources))
        return Separation(observation.key, observation.layout, sources, {"evaluations": 5})


class Squares(FaceDetector):
    """Every bright half of a picture is a face. Not so bright that its going would be a cut to another scene."""

    def detect(self, frame: np.ndarray) -> list[Face]:
        half = frame.shape[1] // 2
        faces = []
        for left in (0, half):
            if frame[:, left : left + half].mean() > 40:
                points = np.random.default_rng(0).uniform(10, 50, (68, 2)) + np.array([left, 0])
                faces.append(Face(np.array([left + 5.0, 5, left + half - 5, 55]), points))
        return faces


@pytest.fixture(autouse=True)
def quick_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else; one test draws for real."""
    if "add_up_to_it" not in request.node.name:
        monkeypatch.setattr("avdiff.recording.png", lambda figure: b"\x89PNG")


def picture(left: bool = True, right: bool = True) -> np.ndarray:
    image = np.full((60, 128, 3), 20, np.uint8)
    image[:, :64] = 56 if left else 20
    image[:, 64:] = 60 if right else 20
    return image


def noise(seconds: float, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, (channels, round(seconds * RATE)))


def film(path: Path, frames: list[np.ndarray], channels: int = 1, seconds: float | None = None) -> np.ndarray:
    """Write a video; returns its sound as it is read again."""
    write_media(path, frames=frames, audio=noise(seconds or len(frames) / 25, channels), rate=RATE)
    return read_track(path)[0]


def voices(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: soundfile.read(path, dtype="float32")[0] for path in sorted(folder.glob("*.wav"))}


def test_a_video_gives_a_wav_a_face_and_the_noise_that_add_up_to_it(tmp_path: Path) -> None:
    sound = film(tmp_path / "talk.mkv", [picture()] * 60, channels=2)
    told: list[tuple[str, float]] = []
    report = separate_file(
        tmp_path / "talk.mkv",
        Shares(),
        tmp_path / "out",
        detector=Squares(),
        watch=lambda stage, share: told.append((stage, share)),
    )
    out = voices(tmp_path / "out")
    assert list(out) == ["noise", "person1", "person2"]
    assert sum(out.values()) == pytest.approx(sound.mean(0), abs=1e-5)
    assert all(
        soundfile.info(source.path).samplerate == RATE and soundfile.info(source.path).subtype == "FLOAT"
        for source in report.sources
    )
    assert [source.role for source in report.sources] == [SPEAKER, SPEAKER, NOISE]
    assert report.sources[0].seen == ((0.0, 2.4),)
    assert report.evaluations == 5
    power = np.mean(out["person1"].astype(float) ** 2)
    assert report.sources[0].decibels == pytest.approx(10 * np.log10(power), abs=1e-3)

    tracks = json.loads((tmp_path / "out" / "tracks.json").read_text())
    assert [source["file"] for source in tracks["sources"]] == ["person1.wav", "person2.wav", "noise.wav"]
    assert tracks["sources"][0]["boxes"][0] == [0.0, 5.0, 5.0, 59.0, 55.0]
    assert len(tracks["sources"][1]["boxes"]) == 60
    assert sorted(tracks["files"]) == sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(list(VideoFrames(tmp_path / "out" / "preview.mp4"))) == 60
    assert "person2" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")

    stages = list(dict.fromkeys(stage for stage, _ in told))
    assert stages == ["looking for faces", "cutting mouths", "separating", "writing the report"]
    for stage in stages:
        shares = [share for name, share in told if name == stage]
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


class Spread(Shares):
    """Draws that lie 20 dB below their mean, apart from each other."""

    @property
    def spreads(self) -> bool:
        return True

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        found = super().separate(observation, rng=rng, callback=callback)
        return replace(found, std=0.1 * found.sources)


def test_how_far_draws_lie_apart_is_told(tmp_path: Path) -> None:
    film(tmp_path / "talk.mkv", [picture()] * 30, seconds=1.2)
    report = separate_file(tmp_path / "talk.mkv", Spread(), tmp_path / "out", detector=Squares())
    assert [source.spread for source in report.sources] == pytest.approx([-20.0] * 3, abs=1e-3)
    report = separate_file(tmp_path / "talk.mkv", Shares(), tmp_path / "out", detector=Squares())
    assert all(np.isnan(source.spread) for source in report.sources)


def test_the_method_sees_16_khz_and_pictures_of_the_same_time(tmp_path: Path) -> None:
    film(tmp_path / "talk.mkv", [picture()] * 30 + [picture(right=False)] * 30, seconds=3.0)
    method = Shares()
    separate_file(tmp_path / "talk.mkv", method, tmp_path / "out", detector=Squares(), offscreen=1)
    (asked,) = method.asked
    assert asked.layout == (SPEAKER, SPEAKER, OFFSCREEN, NOISE)
    assert asked.mixture.shape == (1, 48_000)
    assert asked.visual is not None
    assert asked.visual_mask is not None
    assert asked.visual.shape == (1, 2, 75, 96, 96)
    assert asked.visual.dtype == torch.uint8
    assert asked.visual_mask[0].sum(1).tolist() == [60, 30]
    assert asked.visual_mask[0, 1, :30].all()
    assert asked.visual[0, 1, 30:].max() == 0


def test_stretches_are_written_as_if_there_were_one(tmp_path: Path) -> None:
    sound = film(tmp_path / "long.mkv", [picture(left=False)] * 150)
    report = separate_file(tmp_path / "long.mkv", Shares(), tmp_path / "a", detector=Squares(), stretch=4)
    separate_file(tmp_path / "long.mkv", Shares(), tmp_path / "b", detector=Squares())
    parts, whole = voices(tmp_path / "a"), voices(tmp_path / "b")
    assert report.evaluations > 5
    assert sum(parts.values()) == pytest.approx(sound.mean(0), abs=1e-5)
    for name in whole:
        assert parts[name] == pytest.approx(whole[name], abs=1e-4)


def test_above_8_khz_goes_to_the_noise(tmp_path: Path) -> None:
    sound = 0.3 * np.sin(2 * np.pi * 13_000 * np.arange(2 * RATE) / RATE)[None]
    write_media(tmp_path / "hiss.mkv", frames=[picture()] * 50, audio=sound, rate=RATE)
    separate_file(tmp_path / "hiss.mkv", Shares(), tmp_path / "out", detector=Squares())
    out = voices(tmp_path / "out")
    assert np.abs(out["person1"][4_000:-4_000]).max() < 1e-3
    assert np.abs(out["noise"][4_000:-4_000]).max() == pytest.approx(0.3, abs=0.01)


def test_a_mixture_and_a_video_for_each_talker(tmp_path: Path) -> None:
    write_media(tmp_path / "a.mkv", frames=[picture(right=False)] * 40)
    write_media(tmp_path / "b.mkv", frames=[picture()] * 30 + [picture(left=False)] * 45)
    soundfile.write(tmp_path / "mix.wav", noise(3.0)[0], RATE, subtype="FLOAT")
    method = Shares()
    report = separate_mixture(
        tmp_path / "mix.wav",
        [tmp_path / "a.mkv", tmp_path / "b.mkv"],
        method,
        tmp_path / "out",
        offscreen=1,
        detector=Squares(),
    )
    out = voices(tmp_path / "out")
    assert list(out) == ["noise", "offscreen", "person1", "person2"]
    assert sum(out.values()) == pytest.approx(noise(3.0)[0], abs=1e-5)
    assert method.asked[0].visual_mask is not None
    assert method.asked[0].visual_mask[0].sum(1).tolist() == [40, 75]
    assert any("shows 2 people" in note for note in report.notes)
    assert not (tmp_path / "out" / "preview.mp4").exists()


def test_crops_of_mouths_stand_for_faces(tmp_path: Path) -> None:
    crops = np.random.default_rng(0).integers(0, 256, (50, 88, 88), np.uint8)
    write_media(tmp_path / "crop.mkv", frames=[np.repeat(crop[..., None], 3, 2) for crop in crops])
    write_media(tmp_path / "a.mkv", frames=[picture(right=False)] * 75)
    soundfile.write(tmp_path / "mix.wav", noise(3.0)[0], RATE, subtype="FLOAT")
    method = Shares()
    separate_mixture(
        tmp_path / "mix.wav",
        [tmp_path / "a.mkv"],
        method,
        tmp_path / "out",
        mouths=[tmp_path / "crop.mkv", crops[::-1]],
        detector=Squares(),
    )
    (asked,) = method.asked
    assert asked.layout == (SPEAKER, SPEAKER, SPEAKER, NOISE)
    assert asked.visual is not None
    assert asked.visual_mask is not None
    assert asked.visual_mask[0].sum(1).tolist() == [75, 50, 50]
    assert np.array_equal(asked.visual[0, 2, :50, 4:92, 4:92].numpy(), crops[::-1])
    filmed = asked.visual[0, 1, :50, 4:92, 4:92].float().numpy()
    assert np.corrcoef(filmed.ravel(), crops.ravel())[0, 1] > 0.7, "that file is compressed"
    sources = json.loads((tmp_path / "out" / "tracks.json").read_text())["sources"]
    assert [source.get("mouth") for source in sources] == [None, "crop.mkv", "mouth 2", None]
    assert ["boxes" in source for source in sources] == [True, False, False, False]
    assert sources[1]["seen"] == [[0.0, 2.0]]
    with pytest.raises(UserError, match="is square"):
        separate_mixture(tmp_path / "mix.wav", [], method, tmp_path / "o", mouths=[tmp_path / "a.mkv"])


class Hidden(Shares):
    """Gives an off-screen speaker most of what the first voice had, in some seconds."""

    def __init__(self, seconds: slice = slice(0, 0)) -> None:
        super().__init__()
        self.taken = slice(16_000 * seconds.start, 16_000 * seconds.stop)

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        found = super().separate(observation, rng=rng, callback=callback)
        sources = found.sources.clone()
        if OFFSCREEN in observation.layout:
            sources[:, 1] = 0
            sources[:, 1, self.taken] = 2 * sources[:, 0, self.taken]
            sources[:, 0, self.taken] = 0
        return replace(found, sources=sources)


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("avdiff.recording._lips", lambda separator, device: None)
    film(tmp_path / "talk.mkv", [picture(right=False)] * 125)
    return tmp_path / "talk.mkv"


@pytest.mark.parametrize("stretch", [30, 4])
def test_as_many_off_screen_speakers_as_are_heard(stretch: int, hidden: Path, tmp_path: Path) -> None:
    asked = {"detector": Squares(), "offscreen": "auto", "stretch": stretch}
    method = Hidden(slice(0, 4)) if stretch == 30 else Hidden(slice(0, 3))
    report = separate_file(hidden, method, tmp_path / "a", **asked)  # type: ignore[arg-type]
    assert [source.role for source in report.sources] == [SPEAKER, OFFSCREEN, NOISE]
    assert any("in offscreen.wav" in note for note in report.notes)
    report = separate_file(hidden, Hidden(), tmp_path / "b", **asked)  # type: ignore[arg-type]
    assert [source.role for source in report.sources] == [SPEAKER, NOISE]
    assert not any("not seen" in note for note in report.notes)
    for folder, names in (("a", ["noise", "offscreen", "person1"]), ("b", ["noise", "person1"])):
        out = voices(tmp_path / folder)
        assert list(out) == names
        assert sum(out.values()) == pytest.approx(read_track(hidden)[0].mean(0), abs=1e-5)
        recorded = json.loads((tmp_path / folder / "tracks.json").read_text())["files"]
        assert sorted(recorded) == sorted(path.name for path in (tmp_path / folder).iterdir())


def test_someone_who_is_heard_and_not_seen_is_told_and_the_voices_stay(hidden: Path, tmp_path: Path) -> None:
    report = separate_file(hidden, Hidden(slice(1, 4)), tmp_path / "a", detector=Squares(), check=True)
    assert [note for note in report.notes if "from 1 to 4 s" in note and "--offscreen 1" in note]
    assert report.sources[0].confidence[0] == pytest.approx(1)
    assert max(report.sources[0].confidence[1:4]) < 0.5
    assert report.sources[1].confidence == ()
    tracks = json.loads((tmp_path / "a" / "tracks.json").read_text())
    assert tracks["sources"][0]["confidence"] == pytest.approx(report.sources[0].confidence, abs=1e-3)
    assert tracks["unseen"]["heard"] == [[1, 4]]
    assert "confidence" in (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    plain = separate_file(hidden, Hidden(slice(1, 4)), tmp_path / "b", detector=Squares())
    assert plain.confidence is None
    for name, samples in voices(tmp_path / "b").items():
        assert np.array_equal(samples, voices(tmp_path / "a")[name])
    report = separate_file(hidden, Hidden(), tmp_path / "c", detector=Squares(), check=True, offscreen=1)
    assert any("without --offscreen 1" in note for note in report.notes)


def test_one_unseen_talker_needs_no_face(tmp_path: Path) -> None:
    film(tmp_path / "dark.mkv", [picture(False, False)] * 30)
    with pytest.raises(UserError, match="--offscreen 1"):
        separate_file(tmp_path / "dark.mkv", Shares(), tmp_path / "out", detector=Squares())
    separate_file(tmp_path / "dark.mkv", Shares(), tmp_path / "out", detector=Squares(), offscreen=1)
    assert list(voices(tmp_path / "out")) == ["noise", "offscreen"]


def test_what_cannot_be_done_is_one_sentence(tmp_path: Path) -> None:
    film(tmp_path / "talk.mkv", [picture()] * 30)
    soundfile.write(tmp_path / "mix.wav", noise(1.0)[0], RATE)
    write_media(tmp_path / "dark.mkv", frames=[picture(False, False)] * 30)
    write_media(tmp_path / "silent.mkv", frames=[picture()] * 30)
    run: dict[str, Callable[[], object]] = {
        "nothing tells apart": lambda: separate_file(tmp_path / "talk.mkv", Shares(), tmp_path / "o", offscreen=2),
        "give 1 or more": lambda: separate_file(tmp_path / "talk.mkv", Shares(), tmp_path / "o", stretch=0),
        "has no picture": lambda: separate_file(tmp_path / "mix.wav", Shares(), tmp_path / "o"),
        "has no sound": lambda: separate_file(tmp_path / "silent.mkv", Shares(), tmp_path / "o"),
        "There is no file": lambda: separate_file(tmp_path / "absent.mp4", Shares(), tmp_path / "o"),
        "No talker was given": lambda: separate_mixture(tmp_path / "mix.wav", [], Shares(), tmp_path / "o"),
        "shows the talker": lambda: separate_mixture(
            tmp_path / "mix.wav", [tmp_path / "dark.mkv"], Shares(), tmp_path / "o", detector=Squares()
        ),
        "lasts 0.006 s; give a recording of 0.1 s or more": lambda: separate_mixture(
            tmp_path / "blip.wav", [], Shares(), tmp_path / "o", offscreen=1
        ),
        "cannot be made a folder": lambda: separate_file(
            tmp_path / "talk.mkv", Shares(), tmp_path / "mix.wav", detector=Squares()
        ),
    }
    soundfile.write(tmp_path / "blip.wav", noise(1.0)[0, :255], RATE)
    for sentence, call in run.items():
        with pytest.raises(UserError, match=sentence):
            call()
    assert not (tmp_path / "o").exists()


def test_an_earlier_run_is_replaced_and_nothing_else_is_touched(tmp_path: Path) -> None:
    out = tmp_path / "out"
    film(tmp_path / "talk.mkv", [picture()] * 30)
    separate_file(tmp_path / "talk.mkv", Shares(), out, detector=Squares())
    (out / "person3.wav").write_text("mine")
    soundfile.write(tmp_path / "mix.wav", noise(1.0)[0], RATE)
    separate_mixture(tmp_path / "mix.wav", [], Shares(), out, offscreen=1)
    assert sorted(path.name for path in out.iterdir()) == [
        "noise.wav", "offscreen.wav", "person3.wav", "report.html", "tracks.json",
    ]  # fmt: skip
    with pytest.raises(UserError, match="both input and output"):
        separate_mixture(out / "noise.wav", [], Shares(), out, offscreen=1)
    assert len(soundfile.read(out / "noise.wav")[0]) == RATE


@pytest.mark.parametrize(
    "tracks",
    [
        None,
        "{",
        "[1]",
        json.dumps({"files": ["song.wav", "noise.wav", "report.html"]}),
        json.dumps({"input": "a.mp4", "sources": [], "files": ["song.wav", "../song.wav"]}),
    ],
)
def test_files_that_no_separation_wrote_are_left_and_told(tracks: str | None, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    soundfile.write(tmp_path / "mix.wav", noise(1.0)[0], RATE)
    for name in ("noise.wav", "song.wav"):
        (out / name).write_text("mine")
    if tracks is not None:
        (out / "tracks.json").write_text(tracks)
    with pytest.raises(UserError, match="is there already and was not written by a separation"):
        separate_mixture(tmp_path / "mix.wav", [], Shares(), out, offscreen=1)
    assert (out / "noise.wav").read_text() == (out / "song.wav").read_text() == "mine"


class Fails(Shares):
    """Stops, or gives what is not finite, in the second stretch."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error

    def separate(self, observation: Observation, *, rng: ClipNoise, callback: Callback | None = None) -> Separation:
        found = super().separate(observation, rng=rng, callback=callback)
        if len(self.asked) == 2 and self.error is not None:
            raise self.error
        return replace(found, sources=found.sources * (torch.nan if len(self.asked) == 2 else 1))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "full"), None])
def test_a_run_that_ends_early_leaves_the_results_of_the_run_before(
    error: BaseException | None, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    soundfile.write(tmp_path / "mix.wav", noise(7.0)[0], RATE)
    separate_mixture(tmp_path / "mix.wav", [], Shares(), out, offscreen=1)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    for folder in (out, tmp_path / "other"):
        with pytest.raises((KeyboardInterrupt, OSError, UserError)):
            separate_mixture(tmp_path / "mix.wav", [], Fails(error), folder, offscreen=1, stretch=4)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert not (tmp_path / "other").exists()


def test_the_same_run_leaves_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "mix.wav", noise(1.0)[0], RATE)
    for name in ("a", "b"):
        separate_mixture(tmp_path / "mix.wav", [], Shares(), tmp_path / name, offscreen=1)
        monkeypatch.setattr("time.time", lambda: 1e9)
    for name in ("offscreen.wav", "noise.wav"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mix.wav", noise(1.0)[0], RATE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "noise.wav").symlink_to(tmp_path / "victim.wav")
    with pytest.raises(UserError, match="was not written by a separation"):
        separate_mixture(tmp_path / "mix.wav", [], Shares(), tmp_path / "out", offscreen=1)
    assert not (tmp_path / "victim.wav").exists()


def test_recordings_of_one_name_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recordings = [tmp_path / day / f"talk.{form}" for day, form in (("mon", "wav"), ("tue", "wav"), ("tue", "flac"))]
    for recording in recordings:
        recording.parent.mkdir(exist_ok=True)
        soundfile.write(recording, noise(0.2)[0], RATE)
    for _ in range(2):  # again into the same
        for recording, folder in zip(
            recordings, ("talk_separated", "talk_separated_2", "talk_separated_3"), strict=True
        ):
            assert default_folder(recording) == Path(folder)
            separate_mixture(recording, [], Shares(), default_folder(recording), offscreen=1)
    assert default_folder(Path("mon/../mon/talk.wav")) == Path("talk_separated")


def test_sound_at_16_khz_and_at_others_is_written_in_stretches(tmp_path: Path) -> None:
    for rate in (16_000, 8_000, 47_999):
        x = np.random.default_rng(1).normal(0, 0.1, 7 * rate + 11).astype(np.float32)
        soundfile.write(tmp_path / "mix.wav", x, rate, subtype="FLOAT")
        method = Shares()
        separate_mixture(tmp_path / "mix.wav", [], method, tmp_path / "out", offscreen=1, stretch=3)
        out = voices(tmp_path / "out")
        assert len(method.asked) > 2
        assert sum(out.values()) == pytest.approx(x, abs=1e-5)
        assert out["offscreen"].std() > 0.01


def test_a_constant_is_noise(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mix.wav", noise(2.0)[0] + 0.3, RATE, subtype="FLOAT")
    method = Shares()
    separate_mixture(tmp_path / "mix.wav", [], method, tmp_path / "out", offscreen=1)
    out = voices(tmp_path / "out")
    assert abs(float(method.asked[0].mixture.mean())) < 1e-3
    assert abs(out["offscreen"].mean()) < 1e-3
    assert out["noise"].mean() == pytest.approx(0.3, abs=2e-3)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [(np.nan, "no finite number at 0.50 s"), (np.inf, "no finite"), (1e19, "1.0e\\+19 at 0.50 s")],
)
def test_samples_that_no_recording_holds_are_refused(value: float, sentence: str, tmp_path: Path) -> None:
    x = noise(1.0)[0]
    x[RATE // 2] = value
    soundfile.write(tmp_path / "mix.wav", x, RATE, subtype="FLOAT")
    with pytest.raises(UserError, match=sentence):
        separate_mixture(tmp_path / "mix.wav", [], Shares(), tmp_path / "out", offscreen=1)


@pytest.mark.parametrize(("level", "word"), [(0.0, "is silent"), (3e-6, "almost silent")])
def test_silence_is_told_as_such_and_not_as_a_face_that_is_missing(level: float, word: str, tmp_path: Path) -> None:
    write_media(tmp_path / "a.mkv", frames=[picture(right=False)] * 40)
    soundfile.write(tmp_path / "mix.wav", level * noise(1.0)[0] / 0.1, RATE, subtype="FLOAT")
    report = separate_mixture(
        tmp_path / "mix.wav", [tmp_path / "a.mkv"], Shares(), tmp_path / "out", detector=Squares()
    )
    assert [word in note for note in report.notes] == [True]


def test_pictures_that_do_not_decode_are_no_preview(tmp_path: Path) -> None:
    film(tmp_path / "talk.mkv", [picture()] * 30)
    content = (tmp_path / "talk.mkv").read_bytes()
    start = content.index(b"\x00\x00\x01\xb6")  # MPEG-4's code of a picture
    broken = content.replace(b"\x00\x00\x01\xb6", b"\xff\xff\xff\xff").replace(b"\x00\x00\x01\xb3", b"\xff" * 4)
    assert start > 0
    (tmp_path / "talk.mkv").write_bytes(broken)
    report = separate_file(tmp_path / "talk.mkv", Shares(), tmp_path / "out", detector=Squares(), offscreen=1)
    assert [source.role for source in report.sources] == [OFFSCREEN, NOISE]
    assert not (tmp_path / "out" / "preview.mp4").exists()


def test_a_long_recording_is_shown_by_its_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("avdiff.recording.SHOWN", 2)
    told: list[int] = []
    monkeypatch.setattr("avdiff.recording.Player", lambda title, samples: told.append(len(samples)))
    monkeypatch.setattr(
        "avdiff.recording.write_page", lambda path, title, sections, rate: path.write_text(sections[0].text[0])
    )
    soundfile.write(tmp_path / "mix.wav", noise(5.0)[0], RATE)
    separate_mixture(tmp_path / "mix.wav", [], Shares(), tmp_path / "out", offscreen=1)
    assert told == [32_000] * 3
    assert "the first" in (tmp_path / "out" / "report.html").read_text()
    assert len(voices(tmp_path / "out")["noise"]) == 5 * RATE


def test_a_folder_that_cannot_be_written_to_is_told_before_faces_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film(tmp_path / "talk.mkv", [picture()] * 30)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(UserError, match="cannot be written to; give another --output"):
        separate_file(tmp_path / "talk.mkv", Shares(), tmp_path / "out", detector=None)


def test_a_face_that_is_seen_too_little_is_silent_and_that_is_told(tmp_path: Path) -> None:
    film(tmp_path / "short.mkv", [picture()] * 40, seconds=0.9)
    report = separate_file(tmp_path / "short.mkv", Shares(), tmp_path / "a", detector=Squares())
    assert report.sources[0].decibels > -60
    assert not any("silent" in note for note in report.notes)
    film(tmp_path / "late.mkv", [picture(False, False)] * 35 + [picture()] * 40, seconds=2.0)
    report = separate_file(tmp_path / "late.mkv", Shares(), tmp_path / "b", detector=Squares())
    assert report.sources[0].decibels == float("-inf")
    assert any("person1.wav is silent" in note for note in report.notes)


def test_channels_that_cancel_and_sound_beyond_full_scale_are_told(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "anti.wav", np.concatenate([noise(1.0), -noise(1.0)]).T, RATE, subtype="FLOAT")
    report = separate_mixture(tmp_path / "anti.wav", [], Shares(), tmp_path / "a", offscreen=1)
    assert "cancel each other" in report.notes[0]
    soundfile.write(tmp_path / "hot.wav", 10 * noise(1.0)[0], RATE, subtype="FLOAT")
    report = separate_mixture(tmp_path / "hot.wav", [], Shares(), tmp_path / "b", offscreen=1)
    assert "exceeds full scale" in report.notes[0]
    assert sum(voices(tmp_path / "b").values()) == pytest.approx(10 * noise(1.0)[0], abs=1e-4)


def test_a_real_face_is_found_followed_and_cut_out(tmp_path: Path) -> None:
    """The real detector on a photograph that moves, is gone for a while, and comes back."""
    from skimage.data import astronaut

    face = np.ascontiguousarray(astronaut()[:240, 96:336])

    def frame(i: int) -> np.ndarray:
        image = np.full((240, 400, 3), 40, np.uint8)
        if not 40 <= i < 60:
            image[:, i : i + 240] = face
        return image

    film(tmp_path / "talk.mkv", [frame(i) for i in range(80)])
    method = Shares()
    report = separate_file(tmp_path / "talk.mkv", method, tmp_path / "out", detector=DlibFaces())
    assert [source.role for source in report.sources] == [SPEAKER, NOISE]
    mask, mouths = method.asked[0].visual_mask, method.asked[0].visual
    assert mask is not None
    assert mouths is not None
    assert mask[0, 0].nonzero().flatten().tolist() == [*range(40), *range(60, 80)]
    # The photograph does not change, so neither does its mouth, wherever in the picture it is.
    seen = mouths[0, 0][mask[0, 0]].float()
    assert (seen - seen.mean(0)).abs().mean() < 6
    assert seen.std((1, 2)).min() > 15


def side_by_side(films: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Two talkers in one mp4, as a camera would have it."""
    frames = [np.hstack(pair) for pair in zip(*films, strict=True)]
    write_video(path, frames, audio=noise(len(frames) / 25)[0], rate=RATE)


def test_two_rendered_talkers_go_through_a_real_file(tmp_path: Path) -> None:
    """Detector, tracker and cropper bring each talker's lips, and not the other's, to the method."""
    clips = [make_clip(replace(draw_spec(name, "test", kind=CONTINUOUS), frames=50)) for name in ("left", "right")]
    side_by_side([render_talking_head(clip) for clip in clips], tmp_path / "two.mp4")
    method = Shares()
    separate_file(tmp_path / "two.mp4", method, tmp_path / "out", detector=DlibFaces())
    (asked,) = method.asked
    assert asked.layout == (SPEAKER, SPEAKER, NOISE)
    assert asked.visual is not None
    assert asked.visual_mask is not None
    assert asked.visual_mask[0, :, :50].all()
    mouths = asked.visual[0, :, :50].float().numpy()

    def follows(person: int, clip: int) -> float:
        """How well a strip between the lips darkens with the opening of a clip's mouth."""
        strips = [mouths[person, :, y : y + 8, 40:56].mean((1, 2)) for y in range(36, 64, 2)]
        return max(abs(np.corrcoef(strip, clips[clip].track[:50, 0])[0, 1]) for strip in strips)

    assert min(follows(0, 0), follows(1, 1)) > 0.8
    assert max(follows(0, 1), follows(1, 0)) < 0.5


def test_two_real_talkers_side_by_side(real_data: Path, tmp_path: Path) -> None:
    clips = [real_data / "grid/s1/bbaf2n.mp4", real_data / "grid/others/grid_F_lbbc2a/lbbc2a.mpg"]
    side_by_side([list(VideoFrames(clip)) for clip in clips], tmp_path / "two.mp4")
    report = separate_file(tmp_path / "two.mp4", Shares(), tmp_path / "out", detector=DlibFaces())
    assert [source.role for source in report.sources] == [SPEAKER, SPEAKER, NOISE]
    assert [source.seen for source in report.sources[:2]] == [((0.0, 3.0),)] * 2
    boxes = [source["boxes"] for source in json.loads((tmp_path / "out/tracks.json").read_text())["sources"][:2]]
    assert max(box[3] for box in boxes[0]) < 360 < min(box[1] for box in boxes[1])
    assert not report.notes
