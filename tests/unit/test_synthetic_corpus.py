"""The embedded corpus: the same clips always, made once, kept whole."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import pytest

from datamodules.synthetic.corpus import VERSION, noise_corpus, speech_corpus
from datamodules.synthetic.noises import HELD_OUT, KINDS, make_noise
from datamodules.synthetic.seeds import stream
from datamodules.synthetic.sentences import split_of
from datamodules.synthetic.store import GrowingArray
from datamodules.synthetic.talkers import CONTINUOUS, FACES, GRID, STILL, TalkerClip, draw_spec, level, make_clip
from datamodules.synthetic.voices import VARIANTS


@pytest.fixture(scope="module")
def clip() -> TalkerClip:
    return make_clip(draw_spec("one", "train", kind=CONTINUOUS))


def test_the_same_spec_gives_the_same_samples(clip: TalkerClip) -> None:
    make_clip(draw_spec("another", "train"))
    again = make_clip(draw_spec("one", "train", kind=CONTINUOUS))
    assert again.spec == clip.spec
    for name in ("audio", "mouth", "phonemes", "track"):
        assert (getattr(again, name) == getattr(clip, name)).all()


def test_a_clip_is_four_seconds_of_matching_sound_and_pictures(clip: TalkerClip) -> None:
    assert clip.audio.shape == (64000,)
    assert clip.audio.dtype == np.float32
    assert clip.mouth.shape == (100, 96, 96)
    assert clip.phonemes.shape == (100,)
    assert np.abs(clip.audio).max() <= 0.9
    assert np.sqrt(np.mean(clip.audio**2)) > 0.02
    assert all(split_of(sentence) == "train" for sentence in clip.sentences)
    assert set(clip.transcript.split()) <= set(" ".join(clip.sentences).split())


def test_sound_and_phonemes_agree_on_silence() -> None:
    clip = make_clip(draw_spec("grid", "train", kind=GRID))
    loud = (clip.audio.reshape(100, 640) ** 2).mean(1) > 1e-6
    assert ((clip.phonemes > 0) == loud).mean() > 0.9


def test_a_grid_clip_holds_its_whole_sentence() -> None:
    for k in range(4):
        clip = make_clip(draw_spec(f"grid{k}", "test", kind=GRID))
        assert clip.sentences == (clip.transcript,)
        assert len(clip.transcript.split()) == 6


def test_still_lips_come_with_silence() -> None:
    clip = make_clip(draw_spec("still", "train", kind=STILL))
    assert not clip.audio.any()
    assert not clip.phonemes.any()
    assert clip.track[:, 0].max() < 0.15


def test_a_face_says_nothing_about_who_speaks() -> None:
    specs = [draw_spec(str(k), "train") for k in range(400)]
    voices = {variant: {spec.face for spec in specs if spec.voice.variant == variant} for variant in VARIANTS["train"]}
    assert all(len(faces) > 1 for faces in voices.values())
    assert draw_spec("7", "train", face=3).voice == draw_spec("7", "train").voice
    assert {spec.face for spec in specs} <= set(range(FACES["train"]))
    assert {spec.kind for spec in specs} == {"continuous", "pauses", "grid", "still"}


def test_levelling_keeps_silence_and_the_peak() -> None:
    assert not level(np.zeros(10, np.float32)).any()
    click = np.eye(1, 64000, dtype=np.float32)[0]
    assert np.abs(level(click)).max() == pytest.approx(0.9)
    assert np.sqrt(np.mean(level(np.ones(100, np.float32)) ** 2)) == pytest.approx(0.06)


@pytest.mark.parametrize("split", ["train", "unmatched"])
def test_noises_are_audible_and_of_their_split(split: str) -> None:
    for index in range(6):
        noise = make_noise(split, index)
        assert np.isfinite(noise.audio).all()
        assert np.abs(noise.audio).max() <= 0.901
        assert (noise.audio.reshape(4, 16000) ** 2).mean(1).min() > 1e-9
        held_out = set(noise.kind.split("+")) & set(HELD_OUT)
        assert bool(held_out) == (split == "unmatched")


@pytest.mark.parametrize("index", [1, 5])  # a filter, and babble
def test_the_same_number_gives_the_same_noise(index: int) -> None:
    assert (make_noise("val", index).audio == make_noise("val", index).audio).all()


def test_every_kind_of_noise_takes_its_turn() -> None:
    assert {make_noise("val", k).kind for k in range(6)} == {*KINDS, "babble"}
    assert (make_noise("val", 0).audio != make_noise("test", 0).audio).any()


def test_more_clips_later_keep_the_first(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    few = noise_corpus("val", 2, cache=tmp_path, workers=1)
    mapped, first = few.audio, few.audio.copy()
    more = noise_corpus("val", 3, cache=tmp_path, workers=1, progress=lambda *count: seen.append(count))
    assert seen == [(3, 3)]
    assert (more.audio[:2] == first).all()
    assert (mapped == first).all()
    assert len(noise_corpus("val", 2, cache=tmp_path).audio) == 2
    assert [about["kind"] for about in more.meta] == ["coloured", "modulated", "hum"]


def test_a_killed_run_is_taken_up_where_it_was_whole(tmp_path: Path) -> None:
    whole = noise_corpus("val", 2, cache=tmp_path / "whole", workers=1)
    noise_corpus("val", 2, cache=tmp_path / "killed", workers=1)
    folder = tmp_path / "killed" / "noise_val"
    lines = (folder / "meta.jsonl").read_text()
    (folder / "meta.jsonl").write_text(lines[: len(lines) - 5])  # the second line was being written
    again = noise_corpus("val", 2, cache=tmp_path / "killed", workers=1)
    assert (again.audio == whole.audio).all()
    assert again.meta == whole.meta


@pytest.mark.parametrize("damage", ["empty", "header", "short", "line", "binary line", "no lines"])
def test_a_damaged_cache_is_made_anew_from_where_it_is_sound(damage: str, tmp_path: Path) -> None:
    sound = noise_corpus("val", 3, cache=tmp_path, workers=1)
    audio, meta, folder = sound.audio.copy(), sound.meta, sound.folder
    file, lines = folder / "audio.npy", folder / "meta.jsonl"
    data, told = file.read_bytes(), lines.read_bytes().splitlines(keepends=True)
    match damage:
        case "empty":  # as a full disk leaves it
            file.write_bytes(b"")
        case "header":
            file.write_bytes(b"\0" * 128 + data[128:])
        case "short":
            file.write_bytes(data[:-1])
        case "line":
            lines.write_bytes(told[0] + b"{\n" + told[2])
        case "binary line":
            lines.write_bytes(told[0] + b"\xff\x00\n" + told[2])
        case _:
            lines.unlink()
    again = noise_corpus("val", 3, cache=tmp_path, workers=1)
    assert (again.audio == audio).all()
    assert again.meta == meta


def test_a_full_disk_names_the_file_and_is_got_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("datamodules.synthetic.store.os.fsync", full)
        with pytest.raises(OSError, match="No space") as failed:
            noise_corpus("val", 1, cache=tmp_path, workers=1)
    assert failed.value.filename == str(tmp_path / "noise_val" / "audio.npy")
    assert len(noise_corpus("val", 1, cache=tmp_path, workers=1).audio) == 1


def test_speech_arrays_belong_together(tmp_path: Path) -> None:
    corpus = speech_corpus("val", 1, cache=tmp_path, workers=1)
    assert corpus.audio.shape == (1, 64000)
    assert corpus.mouth.shape == (1, 100, 96, 96)
    assert corpus.phonemes.shape == (1, 100)
    clip = make_clip(draw_spec("000000", "val"))
    assert (corpus.mouth[0] == clip.mouth).all()
    assert np.abs(corpus.audio[0] / 32767 - clip.audio).max() < 1e-4
    assert corpus.meta[0]["transcript"] == clip.transcript


def test_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    one = noise_corpus("train", 3, cache=tmp_path / "one", workers=1)
    two = noise_corpus("train", 3, cache=tmp_path / "two", workers=2)
    assert (one.audio == two.audio).all()


def test_wrong_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="train, val, test"):
        speech_corpus("unmatched", 1, cache=tmp_path)
    with pytest.raises(ValueError, match="at least one"):
        noise_corpus("val", 0, cache=tmp_path)


def test_an_array_grows_and_uncounted_rows_do_not_exist(tmp_path: Path) -> None:
    file = tmp_path / "x.npy"
    array = GrowingArray(file, (3,), np.int16)
    array.resize(0)
    assert np.load(file).shape == (0, 3)
    array.append(np.arange(6, dtype=np.int16).reshape(2, 3))
    array.append(np.full((1, 3), 9, np.int16))
    assert np.load(file, mmap_mode="r").tolist() == [[0, 1, 2], [3, 4, 5], [9, 9, 9]]
    array.resize(1)
    array.append(np.full((1, 3), 7, np.int16))
    assert np.load(file).tolist() == [[0, 1, 2], [7, 7, 7]]
    with pytest.raises(ValueError, match="takes rows"):
        array.append(np.zeros((1, 3), np.float32))


def test_streams_are_named() -> None:
    assert stream("a", 1).random() == stream("a", 1).random() != stream("a", 2).random()


def test_the_generators_have_not_changed_without_a_new_version() -> None:
    assert VERSION == "1", "the clips of the new version: write their figures here"
    clip, noise = make_clip(draw_spec("000000", "val")), make_noise("val", 3)
    said = "their wide brother quietly found her cheerful coin in the end there was our clock"
    assert clip.transcript == said
    assert np.abs(clip.audio).mean() == pytest.approx(0.030626, rel=1e-3)
    assert clip.mouth.mean() == pytest.approx(112.239, rel=1e-3)
    assert clip.phonemes.sum(dtype=int) == 2377
    assert np.abs(noise.audio).mean() == pytest.approx(0.018628, rel=1e-3)
