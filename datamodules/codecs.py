"""Mouth crops as bytes, so that a stretch of frames can be read without those before it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from avdiff.errors import UserError

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


class _Pictures(MouthCodec):
    """One picture file a frame, behind a table of where each ends (uint32, little-endian)."""

    suffix: str
    options: tuple[int, ...]

    def encode(self, mouth: np.ndarray) -> bytes:
        pictures = [cv2.imencode(self.suffix, frame, self.options)[1].tobytes() for frame in mouth]
        return np.cumsum([len(picture) for picture in pictures]).astype("<u4").tobytes() + b"".join(pictures)

    def decode(self, read: Read, count: int, start: int, stop: int) -> np.ndarray:
        out = np.zeros((stop - start, SIZE, SIZE), np.uint8)
        if stop == start:
            return out
        before = max(0, start - 1)
        ends = np.frombuffer(read(4 * before, 4 * (stop - before)), "<u4").astype(int)
        edges = ends if start else np.concatenate([[0], ends])
        data = np.frombuffer(read(4 * count + int(edges[0]), int(edges[-1] - edges[0])), np.uint8)
        edges = edges - edges[0]
        for frame, first, last in zip(out, edges, edges[1:], strict=False):
            picture = cv2.imdecode(data[first:last], cv2.IMREAD_GRAYSCALE)
            if picture is None:
                raise UserError("stored mouth crops are damaged; copy the pack anew, or prepare it again")
            frame[:] = picture
        return out


class JpegCrops(_Pictures):
    """A JPEG a frame.

    Args:
        quality: libjpeg's, 1 to 100.
    """

    suffix = ".jpg"

    def __init__(self, quality: int = 95) -> None:
        self.quality = quality
        self.options = (cv2.IMWRITE_JPEG_QUALITY, quality)

    def settings(self) -> dict[str, Any]:
        return {"codec": "jpeg", "quality": self.quality}


class PngCrops(_Pictures):
    """A PNG a frame: lossless."""

    suffix = ".png"
    options = (cv2.IMWRITE_PNG_COMPRESSION, 1)

    def settings(self) -> dict[str, Any]:
        return {"codec": "png"}


def mouth_codec(settings: Mapping[str, Any]) -> MouthCodec:
    """The codec that these settings are of.

    Raises:
        ValueError: there is none.
    """
    for codec in (RawCrops(), PngCrops(), JpegCrops(int(settings.get("quality", 95)))):
        if codec.settings() == dict(settings):
            return codec
    raise ValueError(f"mouth crops were stored with {dict(settings)}, which this version cannot read")
