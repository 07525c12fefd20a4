"""Faces in a picture: where they are, and 68 points on each.

The points are numbered as by iBUG: 0-16 jaw, 17-26 brows, 27-35 nose, 36-41 and 42-47 eyes, 48-67 mouth.
"""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from avdiff.extras import MissingExtra, lazy, need

cv2 = lazy("cv2")

POINTS = 68


@dataclass(frozen=True)
class Face:
    """One face in one picture.

    Attributes:
        box: (4,) left, top, right, bottom in pixels.
        landmarks: (68, 2) x, y in pixels.
    """

    box: np.ndarray
    landmarks: np.ndarray


class FaceDetector(ABC):
    """Finds faces.

    Attributes:
        stride: frames from one detection to the next that pay; those between are asked of `follow`.
        same_person: distance of `describe`'s vectors below which two faces are one person.
        notes: sentences that a user is to be told of the detector.
    """

    stride: int = 1
    same_person: float = 0.0
    notes: tuple[str, ...] = ()

    @abstractmethod
    def detect(self, frame: np.ndarray) -> list[Face]:
        """Every face of a (height, width, 3) uint8 RGB picture, C-contiguous."""

    def align(self, frame: np.ndarray, box: np.ndarray) -> Face | None:
        """The face that is at `box`, (4,), or nearly; None if there is none."""
        return max(self.detect(frame), key=lambda face: overlap(face.box, box), default=None)

    def follow(self, frame: np.ndarray, face: Face) -> Face | None:
        """The face that is where `face` is, or nearly: found in a frame near this one, or between two; None if there is none."""
        return self.align(frame, face.box)

    def describe(self, frame: np.ndarray, face: Face) -> np.ndarray | None:
        """A vector that tells whose face it is; None from a detector that cannot tell."""
        return None


class Identity:
    """dlib's network that tells faces apart (its author gives it away, CC0), with the file of `face_recognition_models`."""

    CORNERS = (45, 42, 36, 39, 33)  # corners of the eyes and the nose's base, as dlib's five-point shapes are ordered

    @cached_property
    def _network(self) -> Any:
        dlib = need("dlib")

        return dlib.face_recognition_model_v1(str(_model("dlib_face_recognition_resnet_model_v1.dat")))

    def of_shape(self, frame: np.ndarray, shape: Any) -> np.ndarray:
        """(128,) of a face that dlib's predictor has found the points of."""
        return np.array(self._network.compute_face_descriptor(frame, shape))

    def of_face(self, frame: np.ndarray, face: Face) -> np.ndarray:
        """(128,) of any face, by five of its points."""
        dlib = need("dlib")

        left, top, right, bottom = (round(float(edge)) for edge in face.box)
        points = [dlib.point(round(float(x)), round(float(y))) for x, y in face.landmarks[list(self.CORNERS)]]
        return self.of_shape(
            frame, dlib.full_object_detection(dlib.rectangle(left, top, right - 1, bottom - 1), points)
        )


class DlibFaces(FaceDetector):
    """Histograms of gradients and regression trees (dlib), with the model files of `face_recognition_models`.

    Works without a download. The author of the 68-point model says that its training data (iBUG 300-W) excludes
    commercial use; `avdiff.video.mesh.MediaPipeFaces` is the way out.

    Args:
        picture: length in pixels that the longer side of a picture is scaled to before detection, so that a face
            must measure 80 / picture of the longer side; magnification stops at two.
        threshold: detection score from which a box is a face. dlib's own is 0; faces score above 1, and what a still
            background holds of other things a little above 0, in every picture.
        stride: pictures from one detection to the next; five are 0.2 s.
        same_person: dlib says 0.6 for photographs; it is lower here, as giving a voice to another's face is worse
            than splitting one in two.
        notes: see `FaceDetector`.
    """

    def __init__(
        self,
        picture: int = 1280,
        threshold: float = 0.25,
        stride: int = 5,
        same_person: float = 0.5,
        notes: tuple[str, ...] = (),
    ) -> None:
        self._dlib = need("dlib")
        self._detector = self._dlib.get_frontal_face_detector()
        self._points = self._dlib.shape_predictor(str(_model("shape_predictor_68_face_landmarks.dat")))
        self.picture = picture
        self.threshold = threshold
        self.stride = stride
        self.same_person = same_person
        self.notes = notes
        self._identity = Identity()

    def detect(self, frame: np.ndarray) -> list[Face]:
        scale = min(2.0, self.picture / max(frame.shape[:2]))
        shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=shrink)
        boxes, _, _ = self._detector.run(small, 0, self.threshold)
        found = [np.array([b.left(), b.top(), b.right() + 1, b.bottom() + 1]) / scale for b in boxes]
        return [self.align(frame, box) for box in found]

    def align(self, frame: np.ndarray, box: np.ndarray) -> Face:
        return Face(np.asarray(box, float), _xy(self._points(frame, self._rectangle(box))))

    def describe(self, frame: np.ndarray, face: Face) -> np.ndarray:
        return self._identity.of_shape(frame, self._points(frame, self._rectangle(face.box)))

    def _rectangle(self, box: np.ndarray) -> Any:
        left, top, right, bottom = (round(float(edge)) for edge in box)
        return self._dlib.rectangle(left, top, right - 1, bottom - 1)


def _xy(shape: Any) -> np.ndarray:
    return np.array([(point.x, point.y) for point in shape.parts()], dtype=float)


def _model(name: str) -> Path:
    # Importing the package needs pkg_resources, which setuptools no longer has; only its files are wanted.
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or not package.submodule_search_locations:
        raise MissingExtra("face_recognition_models")
    return Path(package.submodule_search_locations[0]) / "models" / name


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes, (4,) each."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / max(float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared, 1e-9)
