"""The detectors, on a photograph that a package carries."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from avdiff.video.faces import DlibFaces, FaceDetector


@pytest.fixture(scope="module")
def detector() -> DlibFaces:
    return DlibFaces()


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:256, 64:384])


def test_dlib_finds_the_one_face_and_its_points(detector: DlibFaces, photograph: np.ndarray) -> None:
    (face,) = detector.detect(photograph)
    right_eye, left_eye, mouth = (face.landmarks[s].mean(0) for s in (slice(36, 42), slice(42, 48), slice(48, 68)))
    # Read off the photograph, in its crop's pixels.
    assert right_eye == pytest.approx((139, 102), abs=4)
    assert left_eye == pytest.approx((182, 104), abs=4)
    assert mouth == pytest.approx((158, 145), abs=5)


def test_points_do_not_depend_on_the_size_of_the_picture(detector: DlibFaces, photograph: np.ndarray) -> None:
    (face,) = detector.detect(photograph)
    small = cv2.resize(photograph, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    large = cv2.resize(photograph, None, fx=3, fy=3)
    for picture, scale in ((small, 0.5), (large, 3.0)):
        (other,) = detector.detect(picture)
        inner = slice(27, 68)
        assert np.abs(other.landmarks[inner] / scale - face.landmarks[inner]).mean() < 3


def test_no_face_in_noise_or_a_blank(detector: DlibFaces) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    assert detector.detect(noise) == []
    assert detector.detect(np.zeros((120, 160, 3), np.uint8)) == []


def test_identity_survives_light_and_size(detector: DlibFaces, photograph: np.ndarray) -> None:
    darker = cv2.resize((0.6 * photograph).astype(np.uint8), None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    vectors = [detector.describe(p, detector.detect(p)[0]) for p in (photograph, darker)]
    assert np.linalg.norm(vectors[0] - vectors[1]) < detector.same_person


def test_a_detector_without_a_cheaper_way_aligns_by_detecting(photograph: np.ndarray) -> None:
    from avdiff.video.faces import Face

    class Two(FaceDetector):
        def detect(self, frame: np.ndarray) -> list[Face]:
            return [Face(np.array([x, 0.0, x + 10, 10.0]), np.full((68, 2), x)) for x in (0.0, 50.0)]

    found = Two().align(photograph, np.array([48.0, 0, 58, 10]))
    assert found is not None
    assert found.box[0] == 50.0
    assert Two().describe(photograph, found) is None
