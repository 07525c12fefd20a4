"""The detectors of faces compared, on videos as they are and on what is made of them: turned, small, dark, partly hidden.

    python -m experiments.benchmarks.faces VIDEO ... [--every 40]

Each video must show one face from the front. What a detector finds in a frame as it is says where the face is in what is made
of it. Told are the share of frames in which the face is found there, other faces found, the median distance of the crop from
where it should be (mouth's middle in pixels of the crop, scale in percent, turn in degrees), and milliseconds of one core.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from avdiff.errors import UserError
from avdiff.video.decode import VideoFrames
from avdiff.video.detectors import DLIB, MEDIAPIPE, find_detector
from avdiff.video.faces import FaceDetector, overlap
from avdiff.video.mouth import MOUTH, similarity

Made = tuple[np.ndarray, np.ndarray]  # a frame, and the map (2, 3) to it from the frame it was made of
Make = Callable[[np.ndarray, np.ndarray], Made]  # of a frame and the points, (68, 2), of its face
STILL = np.eye(2, 3)


def turned(degrees: float) -> Make:
    """Turned in its plane around its middle."""

    def make(frame: np.ndarray, points: np.ndarray) -> Made:
        height, width = frame.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        return cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), matrix

    return make


def small(pixels: float, width: int, height: int) -> Make:
    """The jaw so many pixels wide, in a larger frame."""

    def make(frame: np.ndarray, points: np.ndarray) -> Made:
        scale = pixels / np.ptp(points[:17, 0])
        shift = (0.6 * width, 0.45 * height) - scale * points.mean(0)
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        smooth = cv2.GaussianBlur(frame, (0, 0), 0.4 / scale) if scale < 1 else frame
        return cv2.warpAffine(smooth, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), matrix

    return make


def dark(share: float) -> Make:
    """So much of the light, and noise of three grey levels."""

    def make(frame: np.ndarray, points: np.ndarray) -> Made:
        noise = np.random.default_rng(int(frame.sum())).normal(0, 3, frame.shape)
        return np.clip(np.round(share * frame + noise), 0, 255).astype(np.uint8), STILL

    return make


def covered(corners: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], colour: tuple[int, int, int]) -> Make:
    """A rectangle before a part of the face."""

    def make(frame: np.ndarray, points: np.ndarray) -> Made:
        first, last = (tuple(int(v) for v in corner) for corner in corners(points))
        return cv2.rectangle(frame.copy(), first, last, colour, -1), STILL

    return make


SKIN, BLACK = (190, 140, 120), (15, 15, 15)
CASES: dict[str, Make] = {
    "as it is": lambda frame, points: (frame, STILL),
    "turned 15": turned(15),
    "turned 30": turned(30),
    "turned 60": turned(60),
    "60 px in 1280x720": small(60, 1280, 720),
    "45 px in 1280x720": small(45, 1280, 720),
    "30 px in 1280x720": small(30, 1280, 720),
    "30 px in 640x360": small(30, 640, 360),
    "light x 0.2": dark(0.2),
    "light x 0.08": dark(0.08),
    "eyes covered": covered(lambda p: (p[36:48].min(0) - 12, p[36:48].max(0) + 12), BLACK),
    "mouth covered": covered(lambda p: (p[MOUTH].min(0) - 12, p[MOUTH].max(0) + 14), SKIN),
    "half covered": covered(lambda p: (np.array([p[27, 0], p[17:27, 1].min() - 20]), p[[16, 8]].max(0) + 12), SKIN),
    "microphone": covered(lambda p: (p[54] - (12, 10), np.array([p[54, 0] + 25, p[8, 1] + 40])), BLACK),
}


def compare(known: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """How far a crop by the points found lies from that by the points known, (68, 2) each: pixels, percent, degrees."""
    a, b = similarity(known), similarity(found)
    ratio = complex(*b[:, 0]) / complex(*a[:, 0])
    offset = a[:, :2] @ (found[MOUTH].mean(0) - known[MOUTH].mean(0))
    return float(np.hypot(*offset)), 100 * abs(abs(ratio) - 1), abs(float(np.degrees(np.angle(ratio))))


def measure(detector: FaceDetector, frames: list[np.ndarray], make: Make) -> list[str]:
    """One line of the table: recall, others, distances, milliseconds."""
    hits, others, spent = 0, 0, 0.0
    distances = []
    for frame in frames:
        alone = detector.detect(frame)
        if len(alone) != 1:
            raise UserError(f"{len(alone)} faces are in a frame where one was expected; give videos of one face each")
        made, matrix = make(frame, alone[0].landmarks)
        known = alone[0].landmarks @ matrix[:, :2].T + matrix[:, 2]
        box = np.concatenate([known.min(0), known.max(0)])
        began = time.process_time()
        faces = detector.detect(np.ascontiguousarray(made))
        spent += time.process_time() - began
        there = [f for f in faces if overlap(np.r_[f.landmarks.min(0), f.landmarks.max(0)], box) > 0.4]
        hits += bool(there)
        others += len(faces) - bool(there)
        if there:
            distances.append(compare(known, there[0].landmarks))
    median = [f"{value:.1f}" for value in np.median(distances, axis=0)] if distances else ["-"] * 3
    return [f"{hits / len(frames):.2f}", str(others), *median, f"{1000 * spent / len(frames):.0f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", type=Path, nargs="+")
    parser.add_argument("--every", type=int, default=40, help="frames from one that is taken to the next")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    frames = [
        np.ascontiguousarray(frame)
        for video in options.video
        for frame in islice(VideoFrames(video, threads=1), 10, None, options.every)
    ]
    table = Table("frames", "detector", "found", "others", "offset, px", "scale, %", "turn, degrees", "ms", box=None)
    detectors = {name: find_detector(name) for name in (MEDIAPIPE, DLIB)}
    for case, make in CASES.items():
        for name, detector in detectors.items():
            table.add_row(case, name, *measure(detector, frames, make))
    console = Console()
    console.print(f"{len(frames)} frames of {len(options.video)} videos")
    console.print(table)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from error
