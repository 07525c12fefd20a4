"""Mixtures of real recordings: who is paired with whom, at what levels, and how wrong assignments are counted."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from avdiff.audio.io import write_wav
from avdiff.audio.mixing import power, ratio_db
from avdiff.commands import OTHER_VOICE, _against_parts
from avdiff.errors import UserError
from avdiff.types import NOISE, SPEAKER
from avdiff.video.faces import POINTS, Face, FaceDetector
from avdiff.video.remembered import RememberedFaces
from datamodules.recordings import KNOWN, RATE, STRANGERS, VOICES, RecordedMixture, RecordedMixtures, held_out, pairs
from tests.media import grey, write_media

PEOPLE = {"a": ["1"], "b": ["2"], "c": ["3", "4"], "d": ["5"], "e": ["6"]}


def clips() -> list[Path]:
    return [Path(f"others/{person}/{name}.mkv") for person, names in PEOPLE.items() for name in names]


def test_every_two_speakers_meet_once_and_the_first_pairs_are_of_all() -> None:
    met = pairs(clips())
    assert len(met) == 10
    assert len({frozenset(file.parent.name for file in pair) for pair in met}) == 10
    assert {file.parent.name for pair in met[:4] for file in pair} == set(PEOPLE)
    assert {file for pair in met for file in pair} == set(clips())
    assert pairs(clips()) == met
    with pytest.raises(UserError, match="one speaker"):
        pairs(clips()[:1])


@pytest.mark.parametrize("people", [2, 3, 4, 7])
def test_pairs_of_any_number_of_speakers(people: int) -> None:
    files = [Path(f"others/{person}/0.mkv") for person in range(people)]
    assert len({frozenset(pair) for pair in pairs(files)}) == len(pairs(files)) == people * (people - 1) // 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    places = [folder / "grid" / "others" / person / f"{name}.mkv" for person, of in PEOPLE.items() for name in of]
    for path in [*places, folder / "grid" / "s1" / f"{min(held_out())}.mkv"]:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_media(path, frames=[grey(90)] * 10, audio=rng.normal(0, rng.uniform(0.02, 0.2), (1, 6400)))
    (folder / "esc10").mkdir()
    for name in ("1-a.wav", "3-a.wav", "3-b.wav"):
        write_wav(folder / "esc10" / name, rng.normal(0, 0.1, 4000), 16_000)
    return folder


def test_strangers_are_equally_loud_without_noise_and_at_the_papers_levels_in_it(data: Path, tmp_path: Path) -> None:
    made = list(RecordedMixtures(data, tmp_path, 4, [STRANGERS]))
    assert [case.row for case in made] == [row for row in VOICES if row.startswith("strangers") for _ in range(4)]
    assert not list(tmp_path.glob("*.mp4"))
    for case in made:
        assert all(file.parent.parent.name == "others" for file in case.faces)
        assert case.video is None
        assert case.sources.sum(0).abs().max() == pytest.approx(0.5, abs=1e-4)
        levels = ratio_db(case.sources[:1], case.sources[1:])
        match case.row:
            case "strangers2_quiet":
                assert levels[0] == pytest.approx(0, abs=0.01)
                assert not case.sources[2].any()
            case "strangers2":
                assert abs(levels[0]) <= 5.01
                assert abs(10 * torch.log10(power(case.sources[:2]).min() / power(case.sources[2]))) <= 3.01
            case _:
                assert case.layout == (SPEAKER, NOISE)
                assert -5.01 <= levels[0] <= 10.01
    again = list(RecordedMixtures(data, tmp_path / "again", 2, [STRANGERS]))
    assert all(torch.equal(one.sources, made[[0, 1, 4, 5, 8, 9][i]].sources) for i, one in enumerate(again))


def test_parts_are_chosen_and_counted(data: Path, tmp_path: Path) -> None:
    assert len(RecordedMixtures(data, tmp_path, 20, [STRANGERS])) == 10 + 10 + 6
    assert len(RecordedMixtures(data, tmp_path, 3, [KNOWN])) == 6
    both = RecordedMixtures(data, tmp_path, 1)
    assert len(both) == 5
    first = next(iter(both))
    assert first.row == "real2"
    assert first.faces[0].parent.name == "s1"
    assert first.video is not None
    assert first.video.is_file()


def test_noise_of_the_wrong_fold_is_told(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    (folder / "esc10").mkdir(parents=True)
    (folder / "grid").symlink_to(data / "grid")
    (folder / "esc10" / "1-a.wav").symlink_to(data / "esc10" / "1-a.wav")
    with pytest.raises(UserError, match="fold 3"):
        RecordedMixtures(folder, tmp_path / "out", 1, [STRANGERS])


@pytest.mark.parametrize(("order", "wrong"), [((0, 1), [0, 0]), ((1, 0), [1, 1]), ((0, 0), [0, 1])])
def test_estimates_nearer_the_other_voice_are_counted(
    order: tuple[int, int], wrong: list[float], tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    parts = torch.from_numpy(rng.normal(0, 0.1, (3, RATE)).astype(np.float32))
    parts[2] = 0
    parts[0] *= 2  # so that the mixture is nearer the first
    write_wav(tmp_path / "mixture.wav", parts.sum(0), RATE)
    for number, which in enumerate((*order, 2)):
        write_wav(tmp_path / f"{number}.wav", parts[which] + (0.01 * parts[0] if which == 1 else 0), RATE)
    case = RecordedMixture(
        "k",
        "strangers2_quiet",
        None,
        tmp_path / "mixture.wav",
        (Path("a"), Path("b")),
        (SPEAKER, SPEAKER, NOISE),
        parts,
    )
    scores = _against_parts(case.mixture, [tmp_path / f"{n}.wav" for n in range(3)], case, ["si_sdr"])
    told = {score.source: score for score in scores if score.metric == OTHER_VOICE}
    assert [told[name].estimate for name in ("speaker1", "speaker2")] == wrong
    assert [told[name].mixture for name in ("speaker1", "speaker2")] == [0, 1]
    noise = next(score for score in scores if score.source == "noise")
    assert math.isnan(noise.estimate)  # there is none to be near to


class Counted(FaceDetector):
    stride, same_person = 5, 0.5

    def __init__(self) -> None:
        self.asked = 0

    def detect(self, frame: np.ndarray) -> list[Face]:
        self.asked += 1
        return [Face(np.arange(4.0) + frame[0, 0, 0] / 7, np.full((POINTS, 2), 1 / 3))] if frame.any() else []

    def align(self, frame: np.ndarray, box: np.ndarray) -> Face | None:
        self.asked += 1
        return Face(box, np.full((POINTS, 2), box.sum())) if box.any() else None

    def follow(self, frame: np.ndarray, face: Face) -> Face | None:
        self.asked += 1
        return Face(face.box + 1, 2 * face.landmarks) if face.box.any() else None

    def describe(self, frame: np.ndarray, face: Face) -> np.ndarray | None:
        self.asked += 1
        return face.box / 3 if frame.any() else None


def answers(detector: FaceDetector) -> list[list[float]]:
    out: list[list[float]] = []
    for frame in (grey(0), grey(5), grey(6), grey(5, 24, 128)):
        found = detector.detect(frame)
        out += [[*face.box, *face.landmarks.ravel()] for face in found]
        for box in (np.zeros(4), np.ones(4)):
            face = detector.align(frame, box)
            out.append([] if face is None else [*face.box, *face.landmarks.ravel()])
            told = None if face is None else detector.describe(frame, face)
            out.append([] if told is None else told.tolist())
            face = detector.follow(frame, Face(box, np.full((POINTS, 2), 0.5)))
            out.append([] if face is None else [*face.box, *face.landmarks.ravel()])
    return out


def test_remembered_faces_are_the_detectors_own_and_it_is_asked_once(tmp_path: Path) -> None:
    plain, inner = Counted(), Counted()
    remembered = RememberedFaces(inner, tmp_path / "faces.npz")
    assert (remembered.stride, remembered.same_person) == (5, 0.5)
    assert answers(remembered) == answers(remembered) == answers(plain)
    assert inner.asked == plain.asked
    remembered.save()
    later = Counted()
    assert answers(RememberedFaces(later, tmp_path / "faces.npz")) == answers(plain)
    assert later.asked == 0
    (tmp_path / "faces.npz").write_bytes(b"damaged")
    assert answers(RememberedFaces(later, tmp_path / "faces.npz")) == answers(plain)
