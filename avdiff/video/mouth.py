"""Aligned mouths: from a face's points to a 96x96 grey crop, as BRAVEn's preparation prescribes.

Eight points that move little when a talker speaks are brought onto a mean face in a 256x256 picture by a similarity
transform; the crop is 96x96 around the mean of the mouth's points there. The mean face of the published preparation is
a file without a licence, so it is not here. Of its geometry are known the centres of the eyes (102.1, 94.3) and
(156.4, 93.6), of the nose's base (129.0, 135.9) and of the mouth (129.3, 157.8), and the mouth's width, x 107 to 152.
The points below are those of the average of six detected talkers, with their eyes brought to these centres, and nose
and mouth then moved onto theirs (by 2.2 and 0.9 pixels) and the mouth's corners to its width (by 1.2 and 0.5).

How well crops are aligned with it is measured in tests/unit/test_video_mouth.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from avdiff.extras import lazy
from avdiff.video.tracking import Person

cv2 = lazy("cv2")

SIZE = 96  # pixels, of the crop
STABLE = (28, 33, 36, 39, 42, 45, 48, 54)  # nose bridge, nose base, corners of the eyes, corners of the mouth
REFERENCE = np.array(
    [
        (128.5, 101.0),
        (128.9, 137.9),
        (91.6, 94.7),
        (113.3, 95.2),
        (145.0, 94.7),
        (167.2, 93.5),
        (107.0, 157.2),
        (152.0, 157.2),
    ]
)
MOUTH = slice(48, 68)

Room = Callable[[tuple[int, ...]], np.ndarray]


def similarity(landmarks: np.ndarray) -> np.ndarray:
    """The rotation, scale and shift, (2, 3), that brings a face's stable points nearest to the mean face's.

    Least squares; the published preparation takes the least median of OpenCV, which on the GRID talkers lands within
    0.1 pixel of it.

    Args:
        landmarks: (68, 2) pixels of the picture.
    """
    x = landmarks[list(STABLE)] @ (1, 1j)
    y = REFERENCE @ (1, 1j)
    turn = np.vdot(x - x.mean(), y - y.mean()) / np.vdot(x - x.mean(), x - x.mean()).real
    shift = y.mean() - turn * x.mean()
    return np.array([[turn.real, -turn.imag, shift.real], [turn.imag, turn.real, shift.imag]])


def crop_mouth(frame: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """One aligned mouth.

    Args:
        frame: (height, width, 3) uint8 RGB.
        landmarks: (68, 2) pixels.

    Returns:
        (96, 96) uint8 grey, black beyond the picture's border.
    """
    matrix = similarity(landmarks)
    mouth = landmarks[MOUTH].mean(0)
    matrix[:, 2] = SIZE / 2 - matrix[:, :2] @ mouth
    # A face larger than the mean face is first drawn larger and then averaged down: sampling it would alias.
    fold = max(1, round(1 / np.hypot(*matrix[:, 0])))
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    large = cv2.warpAffine(grey, _enlarged(matrix, fold), (SIZE * fold, SIZE * fold), flags=cv2.INTER_LINEAR)
    return cv2.resize(large, (SIZE, SIZE), interpolation=cv2.INTER_AREA) if fold > 1 else large


def _enlarged(matrix: np.ndarray, fold: int) -> np.ndarray:
    """The same map onto a grid `fold` times as fine; pixel centres are at whole numbers, so corners shift."""
    out = fold * matrix
    out[:, 2] += (fold - 1) / 2
    return out


def room_in_memory(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint8."""
    return np.zeros(shape, np.uint8)


def mouth_crops(
    frames: Iterable[np.ndarray], people: list[Person], room: Room = room_in_memory
) -> list[list[np.ndarray]]:
    """Cut every person's mouth out of a video.

    Args:
        frames: (height, width, 3) uint8 RGB, the pictures that the tracks were found in.
        people: of the video.
        room: gives an array of zeros of a shape, (F, 96, 96) uint8, for the crops of a track.

    Returns:
        for each person, for each track, (F, 96, 96) uint8.
    """
    crops = [[room((len(t.seen), SIZE, SIZE)) for t in person.tracks] for person in people]
    for index, frame in enumerate(frames):
        for person, out in zip(people, crops, strict=True):
            for track, mouths in zip(person.tracks, out, strict=True):
                if track.start <= index < track.stop:
                    mouths[index - track.start] = crop_mouth(frame, track.landmarks[index - track.start])
    return crops


def on_timeline(person: Person, crops: list[np.ndarray], start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
    """A person's mouth in pictures start <= i < stop of the video.

    Args:
        crops: one array a track, from `mouth_crops`.

    Returns:
        (stop - start, 96, 96) uint8, black where there is no track, and (stop - start,) bool: where the face was seen.
    """
    mouth = np.zeros((stop - start, SIZE, SIZE), np.uint8)
    for track, part in zip(person.tracks, crops, strict=True):
        first, last = max(track.start, start), min(track.stop, stop)
        if first < last:
            mouth[first - start : last - start] = part[first - track.start : last - track.start]
    return mouth, person.seen(stop)[start:]
