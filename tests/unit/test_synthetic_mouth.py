"""Visemes, coarticulation, and the mouths that are rendered from them."""

from __future__ import annotations

import numpy as np
import pytest

from datamodules.synthetic.mouth import SIZE, draw_face, render
from datamodules.synthetic.seeds import stream, wander
from datamodules.synthetic.visemes import (
    FEATURES,
    MAX_JITTER,
    PHONEMES,
    VISEMES,
    Segment,
    articulate,
    jitter,
    phoneme_of,
    phoneme_track,
    visemes_of,
)


def spoken(phonemes: str, each: float = 0.12, start: float = 0.2) -> list[Segment]:
    return [
        Segment(PHONEMES.index(name), start + k * each, start + (k + 1) * each)
        for k, name in enumerate(phonemes.split())
    ]


def mean_track(phonemes: str, each: float = 0.12, frames: int = 25) -> np.ndarray:
    """Over many speakers, whose timing and effort differ."""
    return np.mean([articulate(spoken(phonemes, each), frames, stream("t", k)) for k in range(30)], axis=0)


def test_lips_cannot_tell_what_is_made_behind_them() -> None:
    same = [
        ("p", "b", "m"),
        ("f", "v"),
        ("t", "d", "s", "z", "n", "l"),
        ("k", "g", "ng", "h"),
        ("ch", "jh", "sh", "zh"),
    ]
    for group in same:
        assert len({visemes_of(PHONEMES.index(name)) for name in group}) == 1
        tracks = [articulate(spoken(f"aa {name} aa"), 25, stream("x")) for name in group]
        assert all((track == tracks[0]).all() for track in tracks)
    used = {name for phoneme in range(len(PHONEMES)) for name in visemes_of(phoneme)}
    assert used == set(VISEMES)
    assert len(VISEMES) < len(PHONEMES) / 2


def test_phoneme_list_fits_its_promises() -> None:
    assert PHONEMES[0] == "sil"
    assert len(PHONEMES) == len(set(PHONEMES)) <= 48


@pytest.mark.parametrize(
    ("mnemonic", "name"), [("'eI", "ey"), ("I#", "ih"), ("aI2", "ay"), ("tS", "ch"), ("_:", "sil")]
)
def test_variants_of_a_mnemonic_are_its_longest_known_beginning(mnemonic: str, name: str) -> None:
    phoneme = phoneme_of(mnemonic)
    assert phoneme is not None
    assert PHONEMES[phoneme] == name


def test_a_mark_without_sound_is_no_phoneme() -> None:
    assert phoneme_of(";") is None


def test_phonemes_lie_on_the_frames_whose_middle_they_cover() -> None:
    track = phoneme_track([Segment(5, 0.04, 0.12), Segment(7, 0.12, 0.16)], 6)
    assert track.tolist() == [0, 5, 5, 7, 0, 0]


def test_lips_close_for_p_part_for_a_and_round_for_w() -> None:
    track = dict(zip(FEATURES, mean_track("aa p aa w aa").T, strict=True))
    p, a, w = 9, 6, 15  # frames: 0.38 s, 0.26 s and 0.62 s
    assert track["open"][p] < 0.2 < 0.5 < track["open"][a]
    assert track["round"][w] > 0.6 > 0.2 > track["round"][a]


def test_fast_speech_does_not_reach_its_targets() -> None:
    slow = mean_track("t aa t", 0.2)[:, 0].max()
    fast = mean_track("t aa t", 0.05)[:, 0].max()
    assert fast < 0.8 * slow


def test_movement_is_smooth() -> None:
    assert np.abs(np.diff(mean_track("p aa p aa"), axis=0)).max() < 0.6


def test_timing_is_off_by_at_most_the_bound_and_really_off() -> None:
    times = np.linspace(0, 4, 200)
    offsets = np.array([jitter(stream("j", k), times) for k in range(50)])
    assert np.abs(offsets).max() <= MAX_JITTER == 0.04
    assert 0.005 < offsets.std() < 0.03


def test_a_silent_mouth_rests_and_moves_a_little() -> None:
    track = articulate([], 50, stream("still"))
    assert track[:, 0].max() < 0.15
    assert track[:, 0].std() > 0


def test_wander_is_bounded_and_smooth() -> None:
    curve = wander(stream("w"), np.linspace(0, 10, 1000), 0.5)
    assert np.abs(curve).max() <= 1
    assert np.abs(np.diff(curve)).max() < 0.1


def test_the_same_names_give_the_same_film() -> None:
    track = articulate(spoken("m aa m"), 8, stream("a"))
    films = [render(draw_face("train", 3), track, stream("clip")) for _ in range(2)]
    assert films[0].shape == (8, SIZE, SIZE)
    assert films[0].dtype == np.uint8
    assert (films[0] == films[1]).all()


def test_faces_differ_and_faces_of_different_splits_too() -> None:
    faces = [draw_face(split, number) for split in ("train", "val", "test") for number in range(30)]
    assert len(set(faces)) == 90


def test_an_open_mouth_is_dark_inside_and_lies_in_the_middle() -> None:
    darker = np.zeros((SIZE, SIZE))
    for k in range(12):
        track = np.zeros((2, len(FEATURES)), np.float32)
        track[1, 0], track[:, 1] = 0.9, 0.5
        film = render(draw_face("train", k), track, stream("pose", k)).astype(float)
        darker += film[0] - film[1]
    rows, columns = np.nonzero(darker > 0.5 * darker.max())
    assert abs(rows.mean() - SIZE / 2) < 6
    assert abs(columns.mean() - SIZE / 2) < 3
    assert 15 < np.ptp(columns) < 50
