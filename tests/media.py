"""Small media files for tests, with timestamps as asked for."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

TICK = Fraction(1, 90_000)


def write_media(
    path: Path,
    *,
    frames: Sequence[np.ndarray] = (),
    times: Sequence[float] | None = None,
    fps: int = 25,
    audio: np.ndarray | None = None,
    rate: int = 16_000,
    audio_at: Sequence[tuple[float, int]] | None = None,
    rotation: int = 0,
    mirrored: bool = False,
    aspect: Fraction | None = None,
) -> None:
    """Write a file by the container that its suffix names.

    Args:
        frames: (height, width, 3) uint8 RGB pictures.
        times: seconds of every frame; None: i / fps.
        audio: (channels, n) float.
        audio_at: (seconds, samples) blocks that the audio is cut into; None: one stretch from 0.
        rotation: degrees counter-clockwise that players turn the picture by.
        mirrored: whether they then exchange left and right.
        aspect: width of a pixel over its height.
    """
    codecs = {
        ".mkv": ("mpeg4", "pcm_s16le"),
        ".avi": ("mpeg4", "pcm_s16le"),
        ".mp4": ("mpeg4", "aac"),
        ".mpg": ("mpeg1video", "mp2"),
        ".flv": ("flv", "aac"),
        ".webm": ("vp8", "libopus"),
        ".ts": ("mpeg2video", "mp2"),
    }
    picture, sound = codecs[path.suffix]
    with av.open(str(path), "w") as container:
        video = None
        if len(frames):
            video = container.add_stream(picture, rate=fps)
            video.height, video.width, video.pix_fmt = *frames[0].shape[:2], "yuv420p"
            video.bit_rate = 4_000_000
            if aspect is not None:
                video.codec_context.sample_aspect_ratio = aspect
            if times is not None:
                video.codec_context.time_base = Fraction(1, 1000)
            if rotation or mirrored:
                video.set_display_rotation(rotation, hflip=mirrored)
        voice = None
        if audio is not None:
            voice = container.add_stream(sound, rate=rate, layout="mono" if len(audio) == 1 else "stereo")
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            seconds = i / fps if times is None else times[i]
            frame.time_base = Fraction(1, 1000) if times is not None else Fraction(1, fps)
            frame.pts = round(seconds / frame.time_base)
            container.mux(video.encode(frame))
        if video is not None:
            container.mux(video.encode(None))
        if voice is not None:
            done = 0
            for seconds, count in audio_at or [(0.0, audio.shape[1])]:
                block = np.ascontiguousarray(audio[:, done : done + count], dtype=np.float32)
                frame = av.AudioFrame.from_ndarray(block, "fltp", layout=voice.layout.name)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(seconds * rate)
                done += count
                container.mux(voice.encode(frame))
            container.mux(voice.encode(None))


def grey(level: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A picture of one level."""
    return np.full((height, width, 3), level, np.uint8)
