"""Faces through time, with a detector that sees what the test says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from avdiff.video.faces import Face, FaceDetector, overlap
from avdiff.video.tracking import FaceTracker, Person, Track, people, smooth

Scene = Callable[[int], list[tuple[float, int]]]  # picture -> (left edge, who) of every face


class Scripted(FaceDetector):
    """Reads the number of a picture from its corner, and finds the faces that the scene puts there."""

    same_person = 0.5

    def __init__(self, scene: Scene, stride: int = 5) -> None:
        self.scene = scene
        self.stride = stride
        self.looked: list[int] = []

    def detect(self, frame: np.ndarray) -> list[Face]:
        self.looked.append(_number(frame))
        return [_face(left) for left, _ in self.scene(_number(frame))]

    def align(self, frame: np.ndarray, box: np.ndarray) -> Face:
        return Face(box, _face(float(box[0])).landmarks)

    def describe(self, frame: np.ndarray, face: Face) -> np.ndarray:
        who = next(who for left, who in self.scene(_number(frame)) if left == face.box[0])
        return np.eye(8)[who]


def _face(left: float) -> Face:
    box = np.array([left, 20.0, left + 40.0, 60.0])
    return Face(box, np.tile([left + 20.0, 40.0], (68, 1)))


def _number(frame: np.ndarray) -> int:
    return int(frame[0, 0, 0]) * 256 + int(frame[0, 0, 1])


def film(count: int, shade: Callable[[int], int] = lambda i: 100) -> list[np.ndarray]:
    frames = []
    for i in range(count):
        frame = np.full((90, 160, 3), shade(i), np.uint8)
        frame[0, 0, :2] = divmod(i, 256)
        frames.append(frame)
    return frames


def test_a_steady_face_is_detected_at_strides_and_filled_between() -> None:
    detector = Scripted(lambda i: [(i * 0.8, 0)])
    (track,) = FaceTracker(detector).track(film(51))
    assert detector.looked == list(range(0, 51, 5))
    assert (track.start, track.stop) == (0, 51)
    assert track.seen.all()
    assert track.box[:, 0] == pytest.approx(0.8 * np.arange(51))
    assert track.landmarks[:, 0, 0] == pytest.approx(0.8 * np.arange(51) + 20)


def test_points_between_two_detections_are_looked_for_between_theirs() -> None:
    asked = {}

    class Follower(Scripted):
        def follow(self, frame: np.ndarray, face: Face) -> Face | None:
            asked[_number(frame)] = face.landmarks[0, 0]
            return face

    FaceTracker(Follower(lambda i: [(i * 0.8, 0)])).track(film(11))
    assert asked == pytest.approx({i: 0.8 * i + 20 for i in range(11) if i % 5})


def test_coming_and_going_are_found_to_the_picture() -> None:
    detector = Scripted(lambda i: [(30.0, 0)] if 13 <= i < 58 else [])
    (track,) = FaceTracker(detector).track(film(80))
    assert (track.start, track.stop) == (13, 58)
    assert track.seen.all()


def test_a_short_miss_is_bridged_a_longer_one_is_unseen_and_a_long_one_ends_the_track() -> None:
    missing = {*range(20, 24), *range(50, 70), *range(100, 160)}
    detector = Scripted(lambda i: [] if i in missing else [(30.0, 0)])
    first, second = FaceTracker(detector).track(film(200))
    assert (first.start, first.stop, second.start, second.stop) == (0, 100, 160, 200)
    assert np.array_equal(np.flatnonzero(~first.seen), np.arange(50, 70))
    assert np.allclose(first.box[:, 0], 30.0)


def test_two_faces_that_pass_near_each_other_stay_apart() -> None:
    detector = Scripted(lambda i: [(10.0 + 0.1 * i, 0), (100.0 - 0.1 * i, 1)])
    left, right = FaceTracker(detector).track(film(101))
    assert (left.box[0, 0], right.box[0, 0]) == (10.0, 100.0)
    assert left.box[-1, 0] == pytest.approx(20.0)
    assert right.box[-1, 0] == pytest.approx(90.0)


def test_a_cut_ends_every_track_even_where_the_next_face_is_at_the_same_place() -> None:
    detector = Scripted(lambda i: [(30.0, int(i >= 33))])
    tracks = FaceTracker(detector).track(film(70, lambda i: 60 if i < 33 else 160))
    assert [(t.start, t.stop) for t in tracks] == [(0, 33), (33, 70)]
    assert len(people(tracks, 0.5)) == 2


@pytest.mark.parametrize(("other", "stops"), [(1, [(0, 33), (33, 70)]), (0, [(0, 70)])])
def test_where_the_picture_jumps_a_little_a_face_continues_its_own_track_only(
    other: int, stops: list[tuple[int, int]]
) -> None:
    detector = Scripted(lambda i: [(30.0, 0 if i < 33 else other)])
    tracks = FaceTracker(detector).track(film(70, lambda i: 100 if i < 33 else 112))
    assert [(t.start, t.stop) for t in tracks] == stops


def test_who_sits_down_where_another_sat_is_another() -> None:
    detector = Scripted(lambda i: [(30.0, int(i >= 60))] if i < 40 or i >= 60 else [])
    assert [(t.start, t.stop) for t in FaceTracker(detector).track(film(100))] == [(0, 40), (60, 100)]


def test_a_face_that_is_there_keeps_its_track_where_a_lost_one_lay_closer() -> None:
    def scene(i: int) -> list[tuple[float, int]]:  # 1 is hidden when 0 passes over its place
        moving = [(20.0 + 10 * max(0, i - 17), 0)]
        return moving + [(50.0, 1)] * (i < 18)

    first, second = FaceTracker(Scripted(scene, stride=1)).track(film(24))
    assert [(t.start, t.stop) for t in (first, second)] == [(0, 24), (0, 18)]


def test_who_returns_after_a_cut_is_the_same_person() -> None:
    detector = Scripted(lambda i: [(30.0, 0)] if i < 40 or i >= 80 else [(90.0, 1)])
    tracks = FaceTracker(detector).track(film(120, lambda i: 60 if i < 40 or i >= 80 else 160))
    first, second = people(tracks, 0.5)
    assert [(t.start, t.stop) for t in first.tracks] == [(0, 40), (80, 120)]
    assert [(t.start, t.stop) for t in second.tracks] == [(40, 80)]
    assert np.array_equal(first.seen(100), np.r_[np.ones(40), np.zeros(40), np.ones(20)].astype(bool))


def test_a_face_seen_for_less_than_a_second_is_nobody() -> None:
    detector = Scripted(lambda i: [(30.0, 0)] + ([(90.0, 1)] if 30 <= i < 54 else []))
    found = people(FaceTracker(detector).track(film(100)), 0.5)
    assert len(found) == 1
    assert found[0].tracks[0].box[0, 0] == 30.0


def test_people_come_in_order_of_appearance_from_left_to_right() -> None:
    def track(start: int, left: float) -> Track:
        return Track(start, np.full((30, 4), left), np.zeros((30, 68, 2)), np.ones(30, bool))

    found = people([track(5, 1.0), track(0, 70.0), track(0, 20.0)], 0.5)
    assert [p.tracks[0].box[0, 0] for p in found] == [20.0, 70.0, 1.0]


def test_smoothing_averages_the_shape_and_leaves_the_place() -> None:
    rng = np.random.default_rng(0)
    place = rng.normal(0, 5, (40, 1, 2))
    shape = rng.normal(0, 10, (1, 68, 2))
    shape -= shape.mean(1, keepdims=True)
    noise = rng.normal(0, 1, (40, 68, 2))
    noise -= noise.mean(1, keepdims=True)
    out = smooth(place + shape + noise)
    assert np.allclose(out.mean(1), place[:, 0])
    assert (out - place - shape)[10:30].std() == pytest.approx(1 / np.sqrt(13), rel=0.1)
    assert np.allclose(out[0], (place + shape + noise)[0])


def test_overlap_is_intersection_over_union() -> None:
    a = np.array([0.0, 0, 10, 10])
    assert overlap(a, a) == pytest.approx(1.0)
    assert overlap(a, a + 5) == pytest.approx(25 / 175)
    assert overlap(a, a + 20) == 0.0


def test_seen_of_a_person_ends_with_the_recording() -> None:
    person = Person((Track(90, np.zeros((20, 4)), np.zeros((20, 68, 2)), np.ones(20, bool)),))
    assert person.seen(100).sum() == 10
    assert person.seen(50).sum() == 0
