"""Pictures and sound into an mp4 that every player opens."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from avdiff.extras import lazy
from avdiff.spool import Signal
from avdiff.types import VIDEO_FPS
from avdiff.video.tracking import Person

cv2 = lazy("cv2")

COLOURS = ((230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (213, 94, 0), (204, 121, 167))  # Okabe and Ito


def write_video(
    path: Path | str,
    frames: Iterable[np.ndarray],
    *,
    fps: int = VIDEO_FPS,
    audio: Signal | None = None,
    rate: int = 0,
) -> None:
    """Write H.264 and AAC.

    Args:
        frames: (height, width, 3) uint8 RGB; an odd last row or column is left out. Pictures of another size than the first are
            fitted into it whole. At least one.
        audio: (n,) float samples at `rate` Hz, beyond one clipped. None: no sound.

    Raises:
        OSError: the file cannot be written.
    """
    frames = iter(frames)
    first = next(frames)
    height, width = (max(2, side // 2 * 2) for side in first.shape[:2])
    try:
        with av.open(str(Path(path).absolute()), "w", format="mp4") as container:
            video = container.add_stream("h264", rate=fps, options={"crf": "20", "preset": "veryfast"})
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            sound = _Sound(container, audio, rate) if audio is not None else None
            for index, image in enumerate(_chain(first, frames)):
                shown = image if image.shape == first.shape else _fitted(image, *first.shape[:2])
                frame = av.VideoFrame.from_ndarray(_even(shown, height, width), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, fps)
                container.mux(video.encode(frame))
                if sound:
                    sound.until((index + 1) / fps)
            container.mux(video.encode(None))
            if sound:
                sound.close()
    except av.FFmpegError as error:
        if isinstance(error, OSError) and error.errno:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise


def _even(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut to an even size; a side of one pixel is doubled."""
    image = np.repeat(image, 2, 0) if len(image) < height else image[:height]
    return np.ascontiguousarray(np.repeat(image, 2, 1) if image.shape[1] < width else image[:, :width])


def _fitted(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture in another size, between black bars where its shape is another."""
    scale = min(height / image.shape[0], width / image.shape[1])
    inner = max(1, round(image.shape[0] * scale)), max(1, round(image.shape[1] * scale))
    out = np.zeros((height, width, 3), np.uint8)
    top, left = (height - inner[0]) // 2, (width - inner[1]) // 2
    resized = cv2.resize(image, inner[::-1], interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    out[top : top + inner[0], left : left + inner[1]] = resized
    return out


def _chain(first: np.ndarray, rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


class _Sound:
    """The sound of a file, encoded along with its pictures so that the muxer holds back little of either."""

    def __init__(self, container: av.container.OutputContainer, samples: Signal, rate: int) -> None:
        self.container = container
        self.samples = samples
        self.rate = rate
        self.done = 0
        usual = rate if rate in (16000, 22050, 32000, 44100, 48000) else 48000  # what players take
        self.stream = container.add_stream("aac", rate=usual, layout="mono")

    def until(self, seconds: float) -> None:
        stop = min(len(self.samples), round(seconds * self.rate))
        while self.done < stop:
            block = np.asarray(self.samples[self.done : min(stop, self.done + self.rate)], np.float32).clip(-1, 1)[None]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = self.rate, self.done, Fraction(1, self.rate)
            self.done += block.shape[1]
            self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        self.until(len(self.samples) / self.rate)
        self.container.mux(self.stream.encode(None))


def draw_people(
    frames: Iterable[np.ndarray], people: Sequence[Person], names: Sequence[str], *, longest: int = 960
) -> Iterator[np.ndarray]:
    """Pictures with a named box around every face, thin where it was not seen.

    Args:
        frames: (height, width, 3) uint8 RGB, those that the people were found in.
        longest: pixels that the longer side is scaled down to.
    """
    for index, frame in enumerate(frames):
        scale = min(1.0, longest / max(frame.shape[:2]))
        size = [max(1, round(side * scale)) for side in frame.shape[1::-1]]
        image = cv2.resize(frame, size, interpolation=cv2.INTER_AREA) if scale < 1 else frame.copy()
        for k, (person, name) in enumerate(zip(people, names, strict=True)):
            for track in person.tracks:
                if track.start <= index < track.stop:
                    box = track.box[index - track.start] * scale
                    _draw(image, box, name, COLOURS[k % len(COLOURS)], bool(track.seen[index - track.start]))
        yield image


def _draw(image: np.ndarray, box: np.ndarray, name: str, colour: tuple[int, int, int], seen: bool) -> None:
    left, top, right, bottom = (round(float(edge)) for edge in box)
    cv2.rectangle(image, (left, top), (right, bottom), colour, 2 if seen else 1, cv2.LINE_AA)
    size = max(0.4, image.shape[0] / 900)
    place = (left, max(top - 5, round(20 * size)))
    cv2.putText(image, name, place, cv2.FONT_HERSHEY_SIMPLEX, size, (0, 0, 0), 3, cv2.LINE_AA)
    cv2.putText(image, name, place, cv2.FONT_HERSHEY_SIMPLEX, size, colour, 1, cv2.LINE_AA)
