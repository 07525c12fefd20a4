"""Mouth crops as bytes, so that a stretch of frames can be read without those before it."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from avdiff.errors import UserError
from avdiff.extras import lazy

cv2 = lazy("cv2")

DAMAGED = "stored mouth crops are damaged; copy the pack anew, or prepare it again"
SIZE = 96  # pixels a side, of a crop
Read = Callable[[int, int], bytes]  # first byte, number of bytes -> bytes


class MouthCodec(ABC):
    """(F, 96, 96) uint8 to bytes and back."""

    @abstractmethod
    def encode(self, mouth: np.ndarray) -> bytes:
        """All frames of a clip."""

    @abstractmethod
    def decode(self, read: Read, count: int, start: int, stop: int) -> np.ndarray:
        """Frames start <= i < stop of the `count` that a clip has, (stop - start, 96, 96) uint8."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """What `mouth_codec` makes it again from."""


class RawCrops(MouthCodec):
    """Pixels as they are: 9,216 bytes a frame."""

    def encode(self, mouth: np.ndarray) -> bytes:
        return np.ascontiguousarray(mouth).tobytes()

    def decode(self, read: Read, count: int, start: int, stop: int) -> np.ndarray:
        pixels = SIZE * SIZE
        data = read(start * pixels, (stop - start) * pixels)
        return np.frombuffer(bytearray(data), np.uint8).reshape(-1, SIZE, SIZE)

    def settings(self) -> dict[str, Any]:
        return {"codec": "raw"}


class _Frames(MouthCodec):
    """Every frame on its own, behind a table of where each ends (uint32, little-endian)."""

    @abstractmethod
    def _frame(self, frame: np.ndarray) -> bytes:
        """One frame, (96, 96)."""

    @abstractmethod
    def _read(self, frames: list[np.ndarray]) -> np.ndarray:
        """Bytes of each frame, uint8 (n,) -> (F, 96, 96)."""

    def encode(self, mouth: np.ndarray) -> bytes:
        frames = [self._frame(frame) for frame in mouth]
        return np.cumsum([len(frame) for frame in frames]).astype("<u4").tobytes() + b"".join(frames)

    def decode(self, read: Read, count: int, start: int, stop: int) -> np.ndarray:
        if stop == start:
            return np.zeros((0, SIZE, SIZE), np.uint8)
        before = max(0, start - 1)
        ends = np.frombuffer(read(4 * before, 4 * (stop - before)), "<u4").astype(int)
        edges = ends if start else np.concatenate([[0], ends])
        data = np.frombuffer(read(4 * count + int(edges[0]), int(edges[-1] - edges[0])), np.uint8)
        return self._read([data[first:last] for first, last in pairwise((edges - edges[0]).tolist())])


class LosslessCrops(_Frames):
    """Differences of a frame's rows, deflated (zlib, level 1): as small as PNG, and read in half the time."""

    def _frame(self, frame: np.ndarray) -> bytes:
        rows = frame.copy()
        rows[1:] -= frame[:-1]
        return zlib.compress(rows.tobytes(), 1)

    def _read(self, frames: list[np.ndarray]) -> np.ndarray:
        try:
            rows = b"".join([zlib.decompress(frame.tobytes()) for frame in frames])
        except zlib.error as error:
            raise UserError(DAMAGED) from error
        return np.add.accumulate(np.frombuffer(rows, np.uint8).reshape(-1, SIZE, SIZE), axis=1, dtype=np.uint8)

    def settings(self) -> dict[str, Any]:
        return {"codec": "lossless"}


class JpegCrops(_Frames):
    """A JPEG a frame.

    Args:
        quality: libjpeg's, 1 to 100.
    """

    def __init__(self, quality: int = 95) -> None:
        self.quality = quality

    def _frame(self, frame: np.ndarray) -> bytes:
        return cv2.imencode(".jpg", frame, (cv2.IMWRITE_JPEG_QUALITY, self.quality))[1].tobytes()

    def _read(self, frames: list[np.ndarray]) -> np.ndarray:
        pictures = [cv2.imdecode(frame, cv2.IMREAD_GRAYSCALE) for frame in frames]
        whole = [picture for picture in pictures if picture is not None]
        if len(whole) < len(frames):
            raise UserError(DAMAGED)
        return np.stack(whole)

    def settings(self) -> dict[str, Any]:
        return {"codec": "jpeg", "quality": self.quality}


def mouth_codec(settings: Mapping[str, Any]) -> MouthCodec:
    """The codec that these settings are of.

    Raises:
        ValueError: there is none.
    """
    for codec in (RawCrops(), LosslessCrops(), JpegCrops(int(settings.get("quality", 95)))):
        if codec.settings() == dict(settings):
            return codec
    raise ValueError(f"mouth crops were stored with {dict(settings)}, which this version cannot read")
