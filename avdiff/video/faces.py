"""Faces in a picture: where they are, and 68 points on each.

The points are numbered as by iBUG: 0-16 jaw, 17-26 brows, 27-35 nose, 36-41 and 42-47 eyes, 48-67 mouth.
"""

from __future__ import annotations

import importlib
import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avdiff.errors import UserError

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
        stride: pictures from one detection to the next that pay; those between are asked of `align`.
        same_person: distance of `describe`'s vectors below which two faces are one person.
    """

    stride: int = 1
    same_person: float = 0.0

    @abstractmethod
    def detect(self, frame: np.ndarray) -> list[Face]:
        """Every face of a (height, width, 3) uint8 RGB picture, C-contiguous."""

    def align(self, frame: np.ndarray, box: np.ndarray) -> Face | None:
        """The face that is at `box`, (4,), or nearly; None if there is none."""
        return max(self.detect(frame), key=lambda face: overlap(face.box, box), default=None)

    def describe(self, frame: np.ndarray, face: Face) -> np.ndarray | None:
        """A vector that tells whose face it is; None from a detector that cannot tell."""
        return None


class DlibFaces(FaceDetector):
    """Histograms of gradients and regression trees (dlib), with the model files of `face_recognition_models`.

    Works without a download. The author of the 68-point model says that its training data (iBUG 300-W) excludes
    commercial use; `MediaPipeFaces` is the way out.

    Args:
        picture: length in pixels that the longer side of a picture is scaled to before detection, so that a face
            must measure 80 / picture of the longer side; magnification stops at two.
        threshold: detection score from which a box is a face. dlib's own is 0; faces score above 1, and what a still
            background holds of other things a little above 0, in every picture.
        stride: pictures from one detection to the next; five are 0.2 s.
        same_person: dlib says 0.6 for photographs; it is lower here, as giving a voice to another's face is worse
            than splitting one in two.
    """

    def __init__(self, picture: int = 1280, threshold: float = 0.25, stride: int = 5, same_person: float = 0.5) -> None:
        import dlib

        self._dlib = dlib
        self._detector = dlib.get_frontal_face_detector()
        self._points = dlib.shape_predictor(str(_model("shape_predictor_68_face_landmarks.dat")))
        self.picture = picture
        self.threshold = threshold
        self.stride = stride
        self.same_person = same_person

    @cached_property
    def _identity(self) -> Any:
        return self._dlib.face_recognition_model_v1(str(_model("dlib_face_recognition_resnet_model_v1.dat")))

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
        shape = self._points(frame, self._rectangle(face.box))
        return np.array(self._identity.compute_face_descriptor(frame, shape))

    def _rectangle(self, box: np.ndarray) -> Any:
        left, top, right, bottom = (round(float(edge)) for edge in box)
        return self._dlib.rectangle(left, top, right - 1, bottom - 1)


def _xy(shape: Any) -> np.ndarray:
    return np.array([(point.x, point.y) for point in shape.parts()], dtype=float)


def _model(name: str) -> Path:
    # Importing the package needs pkg_resources, which setuptools no longer has; only its files are wanted.
    package = importlib.util.find_spec("face_recognition_models")
    if package is None or not package.submodule_search_locations:
        raise UserError("The models that find faces are missing; run: pip install face_recognition_models")
    return Path(package.submodule_search_locations[0]) / "models" / name


class MediaPipeFaces(FaceDetector):
    """MediaPipe's Face Landmarker (478 points, of which 68 are taken): finer points, and faces turned to the side.

    Args:
        model: the `face_landmarker.task` file, which Google offers for download beside MediaPipe's documentation.
        faces: most faces looked for in a picture.
    """

    # The points of MediaPipe's mesh at the places of iBUG's 68.
    MESH = (
        *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),  # jaw
        *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows
        *(168, 197, 195, 4, 75, 97, 2, 326, 305),  # nose
        *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
        *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips
        *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
    )

    def __init__(self, model: Path | str, faces: int = 8) -> None:
        if not Path(model).is_file():
            raise UserError(
                f"There is no MediaPipe model {model}; download face_landmarker.task and give its path, "
                "or leave the option out to use the built-in detector."
            )
        try:
            mediapipe = importlib.import_module("mediapipe")
            tasks = importlib.import_module("mediapipe.tasks.python")
        except ImportError as error:
            raise UserError(
                "MediaPipe is not installed; run: .venv/bin/pip install --no-deps mediapipe==1.2.2"
            ) from error
        self._mediapipe = mediapipe
        options = tasks.vision.FaceLandmarkerOptions(
            base_options=tasks.BaseOptions(model_asset_path=str(model)),
            running_mode=tasks.vision.RunningMode.IMAGE,
            num_faces=faces,
        )
        try:
            self._landmarker = tasks.vision.FaceLandmarker.create_from_options(options)
        except (RuntimeError, ValueError) as error:
            raise UserError(f"{model} is not MediaPipe's Face Landmarker; give face_landmarker.task") from error

    def detect(self, frame: np.ndarray) -> list[Face]:
        height, width = frame.shape[:2]
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=frame)
        faces = []
        for mesh in self._landmarker.detect(image).face_landmarks:
            points = np.array([(mesh[i].x * width, mesh[i].y * height) for i in self.MESH])
            faces.append(Face(np.concatenate([points.min(0), points.max(0)]), points))
        return faces


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes, (4,) each."""
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = float(np.prod(np.maximum(sides, 0)))
    return shared / max(float(np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2])) - shared, 1e-9)
