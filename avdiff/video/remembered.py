"""A face detector that remembers its answers: for videos that are looked at again and again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from avdiff.files import load_cached, whole
from avdiff.video.faces import POINTS, Face, FaceDetector


class RememberedFaces(FaceDetector):
    """Gives another detector's answers, each of which is asked for once. Answers are exact: they go by the picture's pixels.

    Args:
        inner: the detector.
        file: of answers, which `save` writes; one that is missing or damaged is begun anew.
    """

    def __init__(self, inner: FaceDetector, file: Path | None = None) -> None:
        self.inner, self.file = inner, file
        self.stride, self.same_person, self.notes = inner.stride, inner.same_person, inner.notes
        self._known = {} if file is None else load_cached(file)
        self._saved = len(self._known)

    def detect(self, frame: np.ndarray) -> list[Face]:
        return self._remembered("detect", frame, None, lambda: self.inner.detect(frame))

    def align(self, frame: np.ndarray, box: np.ndarray) -> Face | None:
        return self._one("align", frame, box, lambda: self.inner.align(frame, box))

    def follow(self, frame: np.ndarray, face: Face) -> Face | None:
        return self._one("follow", frame, _row(face), lambda: self.inner.follow(frame, face))

    def describe(self, frame: np.ndarray, face: Face) -> np.ndarray | None:
        key = self._key("describe", frame, _row(face))
        if key not in self._known:
            told = self.inner.describe(frame, face)
            self._known[key] = np.zeros(0) if told is None else told
        return self._known[key] if len(self._known[key]) else None

    def save(self) -> None:
        """Keep what is known, if there is more than the file has."""
        if self.file is not None and len(self._known) > self._saved:
            with whole(self.file) as partial, partial.open("wb") as out:
                np.savez(out, **self._known)  # type: ignore[arg-type]
            self._saved = len(self._known)

    def _one(self, what: str, frame: np.ndarray, more: np.ndarray, ask: Callable[[], Face | None]) -> Face | None:
        def asked() -> list[Face]:
            face = ask()
            return [] if face is None else [face]

        return next(iter(self._remembered(what, frame, more, asked)), None)

    def _remembered(
        self, what: str, frame: np.ndarray, box: np.ndarray | None, ask: Callable[[], list[Face]]
    ) -> list[Face]:
        key = self._key(what, frame, box)
        if key not in self._known:
            faces = ask()
            rows = [_row(face) for face in faces]
            self._known[key] = np.stack(rows).astype(float) if rows else np.zeros((0, 4 + 2 * POINTS))
        return [Face(row[:4].copy(), row[4:].reshape(POINTS, 2).copy()) for row in self._known[key]]

    def _key(self, what: str, frame: np.ndarray, more: np.ndarray | None) -> str:
        digest = hashlib.blake2b(repr((type(self.inner).__name__, what, frame.shape)).encode(), digest_size=16)
        digest.update(np.ascontiguousarray(frame).tobytes())
        if more is not None:
            digest.update(np.asarray(more, float).tobytes())
        return digest.hexdigest()


def _row(face: Face) -> np.ndarray:
    return np.concatenate([face.box, face.landmarks.ravel()])
