"""Aligned mouths: exactly on made-up faces, within stated pixels on real ones."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest

from avdiff.video.decode import VideoFrames
from avdiff.video.faces import DlibFaces
from avdiff.video.mouth import MOUTH, REFERENCE, SIZE, STABLE, crop_mouth, mouth_crops, on_timeline, similarity
from avdiff.video.tracking import FaceTracker, Person, Track, people

# Geometry of the published mean face in its 256x256 picture.
EYES, NOSE, LIPS = ((102.1, 94.3), (156.4, 93.6)), (129.0, 135.9), (129.3, 157.8)


def mean_face() -> np.ndarray:
    """68 points of which the stable ones are at their reference and the mouth's are around its centre."""
    points = np.tile(LIPS, (68, 1)).astype(float)
    points[list(STABLE)] = REFERENCE
    points[48], points[54] = (107.0, 157.8), (151.6, 157.8)  # the two corners must not shift the centre
    return points


def turned(points: np.ndarray, scale: float, degrees: float, shift: tuple[float, float]) -> np.ndarray:
    turn = scale * np.exp(1j * np.deg2rad(degrees))
    z = (points @ (1, 1j)) * turn + shift[0] + 1j * shift[1]
    return np.stack([z.real, z.imag], axis=-1)


def test_any_turned_scaled_and_moved_face_comes_back_to_the_mean_face() -> None:
    face = mean_face()
    face[list(STABLE)] = REFERENCE
    seen = turned(face, 1.7, 23.0, (40.0, -12.0))
    matrix = similarity(seen)
    assert np.allclose(seen @ matrix[:, :2].T + matrix[:, 2], face, atol=1e-6)


@pytest.mark.parametrize(("scale", "degrees"), [(1.0, 0.0), (0.6, -15.0), (4.0, 10.0)])
def test_the_crop_holds_the_mouth_upright_in_its_centre_at_one_size(scale: float, degrees: float) -> None:
    face = turned(mean_face(), scale, degrees, (300.0, 200.0))
    picture = np.zeros((1200, 1400, 3), np.uint8)
    left, right = face[48], face[54]
    for corner in (left, right):
        cv2.circle(
            picture, tuple(np.round(corner * 16).astype(int).tolist()), round(48 * scale), (255,) * 3, -1, shift=4
        )
    crop = crop_mouth(picture, face).astype(float)
    assert crop.shape == (SIZE, SIZE)
    place = np.arange(SIZE)
    for half, where in ((slice(0, 48), 48 - 22.3), (slice(48, 96), 48 + 22.3)):
        dot = crop[:, half]
        assert dot.sum(0) @ place[half] / dot.sum() == pytest.approx(where, abs=0.7)
        assert dot.sum(1) @ place / dot.sum() == pytest.approx(48, abs=0.7)


def test_beyond_the_border_is_black_and_the_rest_is_kept() -> None:
    picture = np.full((256, 256, 3), 200, np.uint8)
    crop = crop_mouth(picture, mean_face() - (129.3, 0))  # the mouth is on the left border
    assert crop[:, :46].max() == 0
    assert crop[:, 50:].min() == 200


def test_a_large_face_does_not_alias() -> None:
    stripes = np.zeros((1500, 1500, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_mouth(stripes, turned(mean_face(), 5.0, 0.0, (100.0, 100.0)))
    assert crop.std() < 15


def test_crops_are_placed_on_the_timeline() -> None:
    frames = [np.full((256, 256, 3), 10 + i, np.uint8) for i in range(12)]
    points = np.tile(mean_face(), (3, 1, 1))
    tracks = tuple(Track(start, np.zeros((3, 4)), points, np.array([True, False, True])) for start in (2, 7))
    person = Person(tracks)
    (crops,) = mouth_crops(frames, [person])
    mouth, seen = on_timeline(person, crops, 1, 9)
    assert mouth.max((1, 2)).tolist() == [0, 12, 13, 14, 0, 0, 17, 18]
    assert seen.tolist() == [False, True, False, True, False, False, True, False]


@pytest.fixture(scope="module")
def detector() -> DlibFaces:
    return DlibFaces()


def talkers(folder: Path) -> list[Path]:
    """A clip of each of the six GRID talkers."""
    one_each = {path.parent: path for path in sorted((folder / "grid" / "others").glob("*/*.mpg"))}
    return [*one_each.values(), folder / "grid" / "s1" / "bbaf2n.mp4"]


def test_real_faces_are_aligned_within_stated_pixels(real_data: Path, detector: DlibFaces) -> None:
    """The aligned 256x256 picture is searched for its face anew, which knows nothing of how it was aligned."""
    offsets, wobbles = [], []
    for path in talkers(real_data):
        frames = list(islice(VideoFrames(path), 26))
        (person,) = people(FaceTracker(detector).track(frames), detector.same_person)
        (track,) = person.tracks
        assert track.seen.all()
        found = []
        for i in range(0, len(frames), 5):
            aligned = cv2.warpAffine(frames[i], similarity(track.landmarks[i]), (256, 256))
            (face,) = detector.detect(aligned)
            points = face.landmarks
            found.append([points[36:42].mean(0), points[42:48].mean(0), points[31:36].mean(0), points[MOUTH].mean(0)])
        found = np.array(found)
        offsets.append(np.linalg.norm(found.mean(0) - (*EYES, NOSE, LIPS), axis=-1))
        wobbles.append(found.std(0).max(-1))
    eyes_and_mouth = np.array(offsets)[:, [0, 1, 3]]
    assert eyes_and_mouth.max() < 3.0  # pixels, every talker; measured 2.7
    assert eyes_and_mouth.mean() < 1.5  # measured 1.0
    assert np.array(offsets)[:, 2].max() < 4.5  # noses are of different lengths; measured 3.8
    assert np.max(wobbles) < 1.5  # standard deviation within a clip; measured 1.1
